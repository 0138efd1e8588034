"""What the items of a scenario file give away before any model has read them."""

import unicodedata
from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import CountVectorizer

from helpers import baselines, scores
from helpers.scenarios import CANDIDATES

NEAR = 0.5  # shared runs of three characters, from which on two sentences are near duplicates
COMPARED = 4000  # texts of a language that are searched for near duplicates, the first ones
FEW = 30  # items, below which an interval is rough
LEAK = 0.6  # an AUC without a model whose whole interval lies above it helps any model


def profile(scenarios: pd.DataFrame, tokenize: Callable[[str], list[str]]) -> pd.DataFrame:
    """Describes the sentences in each role: lengths, and how many candidates begin like their query.

    Args:
        scenarios: Rows from `scenarios.read`.
        tokenize: Splits a text into tokens.

    Returns:
        For each (language, measure) a row with the columns query, strong, weak, unrelated: the 10 %, 50 % and 90 %
        quantile of the number of characters, and the share of candidates whose first token is their query's, which a
        causal model at position 0 cannot tell from it.
    """
    rows = {}
    for language, items in scenarios.groupby("language", sort=False):
        texts = items[["query", *CANDIDATES]]
        characters = texts.map(len).quantile([0.1, 0.5, 0.9])
        rows |= {(language, f"characters, {at:.0%} quantile"): values for at, values in characters.iterrows()}
        first = texts.map(lambda text: tokenize(text)[:1]).map(tuple)
        same = first[list(CANDIDATES)].eq(first["query"], axis=0).mean()
        rows[language, "begins with the query's first token"] = same.reindex(texts.columns)
    return pd.DataFrame.from_dict(rows, "index").rename_axis(["language", "measure"])


def near_duplicates(scenarios: pd.DataFrame) -> pd.DataFrame:
    """Finds sentences of different items in one language that are nearly or wholly the same.

    Compares the sets of three-character runs, without case, spaces and punctuation, of the first `COMPARED` texts of a
    language: more than `NEAR` of all runs of two texts are in both (Jaccard's index).

    Returns:
        One row for each pair: `language`, `first`, `second`, `shared`.
    """
    found = []
    for language, items in scenarios.groupby("language", sort=False):
        texts = items[["query", *CANDIDATES]].to_numpy().ravel()[:COMPARED]
        runs = CountVectorizer(analyzer=_runs, binary=True, dtype=np.int32).fit_transform(texts)
        sizes = np.asarray(runs.sum(axis=1)).ravel()
        both = (runs @ runs.T).sorted_indices().tocoo()
        shared = both.data / (sizes[both.row] + sizes[both.col] - both.data)
        apart = both.row // 4 < both.col // 4  # of different items, each pair once
        for place in np.flatnonzero(apart & (shared > NEAR)):
            pair = texts[both.row[place]], texts[both.col[place]]
            found.append((language, *pair, float(shared[place])))
    return pd.DataFrame(found, columns=["language", "first", "second", "shared"])


def favoured(bare: pd.DataFrame) -> pd.Series:
    """Returns which candidate of each item shares more characters with its query: "weak", or "strong or neither".

    Args:
        bare: From `baselines.score`.

    Returns:
        The index has the levels language, scenario and item.
    """
    items = scores.by_item(bare[bare["pooling"] == baselines.CHARACTERS]).set_index(["language", "scenario", "item"])
    return (items["weak"] > items["strong"]).map({True: "weak", False: "strong or neither"}).rename("words favour")


def follows_length(table: pd.DataFrame, scenarios: pd.DataFrame) -> pd.Series:
    """Returns the rank correlation of unrelated pairs' cosines with their length in characters, for each pooling.

    Args:
        table: From `scores.score`.
        scenarios: The rows that it was made from.
    """
    size = scenarios.set_index(["language", "scenario", "item"])[["query", "unrelated"]].sum(axis=1).str.len()
    items = scores.by_item(table).join(size.rename("length"), on=size.index.names)
    pairs = items.groupby(scores.STUDY, sort=False)[["unrelated", "length"]].corr("spearman")["length"]
    return pairs.xs("unrelated", level=-1).rename("with length")


def doubts(scenarios: pd.DataFrame, bare: pd.DataFrame) -> dict[str, list[str]]:
    """Says for each language what keeps its items from testing meaning, a sentence each.

    Args:
        scenarios: Rows from `scenarios.read`.
        bare: `scores.summary` of `baselines.score` for the same rows.
    """
    found: dict[str, list[str]] = {}
    near = near_duplicates(scenarios)
    for language, items in scenarios.groupby("language", sort=False):
        said = found[language] = []
        if len(items) < FEW:
            said.append(f"{len(items)} items are few: intervals over them are rough themselves.")
        alike = int(near["language"].eq(language).sum())
        if alike:
            first = near[near["language"] == language].iloc[0]
            said.append(
                f"Sentences of different items are nearly the same ({alike} pairs, such as {first['first']!r} and "
                f"{first['second']!r}): the items are not independent, and intervals are too narrow."
            )
        for row in bare[bare["language"] == language].itertuples():
            for kind, value, low in (("unrelated", row.auc, row.auc_low), ("weak", row.auc_weak, row.auc_weak_low)):
                if low > LEAK and row.pooling != baselines.RANDOM:
                    said.append(
                        f"Without any model, {row.pooling} tells strong from {kind} candidates (AUC {value:.2f}): the "
                        "surface gives part of the answer away."
                    )
    return found


def _runs(text: str) -> list[str]:
    text = text.casefold()
    spelled = "".join(char for char in text if unicodedata.category(char)[0] in "LMN") or text
    return [spelled[start : start + 3] for start in range(max(1, len(spelled) - 2))]
