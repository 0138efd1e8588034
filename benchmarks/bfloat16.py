"""What bfloat16 does to the findings: AUC, Δ and the order of cosines, candidates and poolings, against float32."""

from collections.abc import Iterator
from typing import get_args

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, spearmanr
from sentence_transformers import SentenceTransformer

from benchmarks.rows import Row, Setting
from helpers import scenarios, scores
from helpers.encode import Arithmetic, embed
from helpers.models import ModelError, load
from helpers.pooling import POOLINGS

PART = "bfloat16's effect"
BOTH = "bfloat16 against float32"
STUDIES = (("e5-small", "zh"), ("e5-small", "en"), ("minilm", "en"))  # on which notebook 06 compares poolings
MEASURES = {"auc": ("AUC", "probability"), "delta": ("Δ", "cosine")}
INTERVAL = "low and high: 95 % bootstrap interval over the items"
ALONE = 100  # texts that are encoded once more, one by one, which takes long


def measure() -> Iterator[Row]:
    """Yields what bfloat16 changes in each of `STUDIES`, on all items that the lab has in the language."""
    items = scenarios.read()
    for name, language in STUDIES:
        try:
            model = load(name, device="cpu")
        except ModelError as problem:
            setting = Setting(PART, name, f"scenarios, {language}", dtype=BOTH)
            yield setting.not_measured("all poolings", "change in AUC", "probability", str(problem))
            continue
        yield from compare(model, name, items[items["language"] == language])


def compare(model: SentenceTransformer, name: str, items: pd.DataFrame) -> Iterator[Row]:
    """Encodes the items' texts in both arithmetics, pools them in every way, and yields how the two differ.

    Args:
        model: The model, its weights in float32.
        name: What the rows call it.
        items: Rows of one language from `scenarios.read`, two or more.
    """
    texts, dtypes = scores.texts_of(items), get_args(Arithmetic)
    vectors = {dtype: embed(model, texts, tuple(POOLINGS), dtype=dtype) for dtype in dtypes}
    tables = {dtype: scores.score_vectors(vectors[dtype], name, items) for dtype in dtypes}
    setting = Setting(PART, name, f"scenarios, {items['language'].iloc[0]}", len(texts))
    for dtype in dtypes:
        here = setting._replace(dtype=dtype)
        for found in scores.summary(tables[dtype]).to_dict("records"):
            for column, (what, unit) in MEASURES.items():
                ends = (found[f"{column}_low"], found[f"{column}_high"])
                yield _with_interval(here.row(found["pooling"], what, unit, [found[column]]), ends)
        alone = embed(model, texts[:ALONE], tuple(POOLINGS), dtype=dtype, token_budget=1)
        said = f"{len(alone['mean'])} texts, each in a batch of its own, against the same among the others"
        for pooling, single in alone.items():
            change = largest_change(single, vectors[dtype][pooling][:ALONE])
            yield here.row(pooling, "largest change of a cosine by neighbours", "cosine", [change], said)

    setting = setting._replace(dtype=BOTH)
    exact, rough = (scores.measures(tables[dtype])[list(MEASURES)] for dtype in ("float32", "bfloat16"))
    for pooling, gain in (rough - exact).groupby(level="pooling", sort=False):
        for column, (what, unit) in MEASURES.items():
            changes = gain[column].to_numpy()
            row = setting.row(pooling, f"change in {what}", unit, [float(changes.mean())])
            yield _with_interval(row, scores.interval(changes))
    for pooling in POOLINGS:
        near = closeness(vectors["float32"][pooling], vectors["bfloat16"][pooling], items)
        for (what, unit), value in near.items():
            yield setting.row(pooling, what, unit, [value])
    poolings = scores.distinct(tables["float32"])["pooling"].unique()
    for (what, unit), (value, note) in order(exact["auc"], rough["auc"], poolings).items():
        yield setting.row(f"{len(poolings)} distinct poolings", what, unit, [value], note)


def closeness(exact: np.ndarray, rough: np.ndarray, items: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Says how near two sets of vectors are for a text, a pair, and a search among every candidate of the items.

    Args:
        exact: Vectors of length 1 in the order of `scores.texts_of(items)`, `(texts, dim)`.
        rough: The same in another arithmetic.
        items: Rows of one language.

    Returns:
        By measure and unit: the lowest cosine of a text's two vectors, and the one that 99 of 100 texts exceed; of each
        query with the candidates of all items, the largest change of a cosine and Spearman's correlation of the
        cosines; the share of the queries whose first hit is the same.
    """
    row_of = {text: row for row, text in enumerate(scores.texts_of(items))}
    asked = [row_of[text] for text in items["query"]]
    offered = list(dict.fromkeys(row_of[text] for text in items[list(scenarios.CANDIDATES)].to_numpy().ravel()))
    own = (exact * rough).sum(axis=1)
    before, after = (vectors[asked] @ vectors[offered].T for vectors in (exact, rough))
    return {
        ("lowest cosine of a text's two vectors", "cosine"): float(own.min()),
        ("cosine that 99 % of the texts exceed", "cosine"): float(np.quantile(own, 0.01)),
        ("largest change of a cosine", "cosine"): float(np.abs(after - before).max()),
        ("rank correlation of the cosines", "Spearman's ρ"): float(spearmanr(before, after, axis=None).statistic),
        ("same first hit", "share"): float((before.argmax(axis=1) == after.argmax(axis=1)).mean()),
    }


def order(exact: pd.Series, rough: pd.Series, poolings: np.ndarray) -> dict[tuple[str, str], tuple[float, str]]:
    """Says whether the poolings keep their order by AUC, and each comparison of two its verdict, as in notebook 06.

    A verdict names the better of two poolings, or neither where Holm's correction leaves p above `scores.SIGNIFICANT`.

    Args:
        exact: The column `auc` of `scores.measures`, of one study.
        rough: The same in another arithmetic.
        poolings: The poolings to compare, without twins.

    Returns:
        By measure and unit a value and a note: the correlation of the AUCs, and the orders where they differ; how
        many comparisons name a better pooling in `exact`; how many of all change their verdict, and which.
    """
    means = [auc.groupby(level="pooling").mean()[poolings].to_numpy() for auc in (exact, rough)]
    ranked = [", ".join(poolings[np.argsort(-values, kind="stable")]) for values in means]
    before, after = _verdicts(exact, poolings), _verdicts(rough, poolings)
    changed = before.index[before != after]
    return {
        ("rank correlation of the poolings by AUC", "Kendall's τ"): (
            float(kendalltau(*means).statistic),
            "the same order" if ranked[0] == ranked[1] else f"{ranked[0]} became {ranked[1]}",
        ),
        ("significant in float32", "comparisons"): (int((before != 0).sum()), f"of {len(before)}"),
        ("verdict changes", "comparisons"): (len(changed), ", ".join([f"of {len(before)}", *changed])),
    }


def largest_change(first: np.ndarray, second: np.ndarray) -> float:
    """Returns by how much the cosine of any two texts differs, from vectors of length 1, `(texts, dim)` each."""
    return float(np.abs(first @ first.T - second @ second.T).max())


def _verdicts(auc: pd.Series, poolings: np.ndarray) -> pd.Series:
    """Returns for each comparison, "mean − cls" say, 1 if its first pooling is better, −1 if its second is, else 0."""
    tests = scores.paired(auc.to_frame(), poolings).reset_index("compared").set_index("compared")
    return np.sign(tests["difference"]).where(tests["p_holm"] <= scores.SIGNIFICANT, 0)


def _with_interval(row: Row, ends: tuple[float, float]) -> Row:
    return row._replace(low=ends[0], high=ends[1], note=INTERVAL)
