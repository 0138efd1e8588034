"""One experiment for each rule that the second article gives to those who build a knowledge base.

Each takes a `Study` and returns a table whose index begins with model, language and pooling, so that `drift.means`
summarises it; `each` runs it for several studies. What length does stands in `helpers.lengths`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from helpers import perturb
from helpers.drift import KEYS, Reader, apart, beaten, hoyer, measure
from helpers.geometry import random_cosine
from helpers.scores import ROUNDING, STUDY, measures, score_vectors, texts_of

CUT = ["strong", "unrelated"]  # what `cut_short` cuts
ORDINARY, BLANK = "an ordinary sentence", "blank line"  # what `lured` calls these lines
SENTENCE = 20  # characters that a sentence must have to be worth cutting


class Study(NamedTuple):
    """A model and the items that it reads, of one language."""

    reader: Reader
    language: str
    rows: pd.DataFrame

    def sample(self, count: int, seed: int = 0) -> pd.DataFrame:
        """Draws items at random, the same for the same seed, or returns all where there are no more than `count`."""
        return self.rows.sample(min(count, len(self.rows)), random_state=seed)

    def fillers(self) -> list[str]:
        """Returns neutral sentences, or the unrelated candidates in a language for which the lab has none."""
        return perturb.passages(self.language).get(perturb.NEUTRAL) or list(self.rows["unrelated"])

    def parts(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Returns what each of some items contributes to Δ and AUC, strong against unrelated; see `scores.measures`."""
        rows = rows.assign(weak=rows["unrelated"])  # weak candidates play no part, so they are not read
        vectors = self.reader.vectors(texts_of(rows))
        return measures(score_vectors(vectors, self.reader.name, rows))[["delta", "auc"]]


def each(studies: Sequence[Study], experiment: Callable[..., pd.DataFrame], *options: object) -> pd.DataFrame:
    """Runs an experiment for each study and returns their tables as one."""
    return pd.concat([experiment(study, *options) for study in studies])


def nothing(levels: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Returns an empty table with these columns; `levels` of the index follow model, language and pooling."""
    index = pd.MultiIndex.from_tuples([], names=[*STUDY, *levels])
    return pd.DataFrame(columns=list(columns), index=index, dtype=float)


def cones(study: Study) -> pd.DataFrame:
    """Returns 1 − the cosine of two random sentences, of strong candidates: the unit of `drift.relative`."""
    vectors = study.reader.vectors(list(study.rows["strong"]))
    return _by_pooling(study, [{"unit": 1 - random_cosine(vectors[name])[0]} for name in study.reader.poolings])


def padded(study: Study, counts: Sequence[int], count: int, seed: int = 0) -> pd.DataFrame:
    """Puts so many neutral sentences around `count` strong candidates, which stand at each of `perturb.PLACES`.

    Returns:
        As from `drift.measure`; a version is a number and a place, such as "8 end".
    """
    few, fillers = study.sample(count, seed), study.fillers()
    versions = {
        f"{number} {place}": perturb.pad_all(list(few["strong"]), fillers, number, place, seed)
        for number in counts
        for place in perturb.PLACES
    }
    return measure(study.reader, few, versions)


def sparsity(study: Study, limit: int, seed: int = 0) -> pd.DataFrame:
    """Compares how sparse the vectors are of texts that have fewer than `limit` characters and of all others.

    Returns:
        One row for each pooling, with the exact `zeros` in all vectors, the number of `short texts`, the mean of
        Hoyer's measure over `short` and `others`, and their difference as `value` with its interval `low` to `high`.
    """
    texts = texts_of(study.rows.assign(weak=study.rows["unrelated"]))
    short, rows = np.array([len(text) < limit for text in texts]), []
    for array in study.reader.vectors(texts).values():
        sparse = hoyer(array)
        row = {"zeros": (array == 0).sum(), "short texts": short.sum()}
        rows.append(row | _compared("short", sparse[short], "others", sparse[~short], seed))
    return _by_pooling(study, rows)


def written_short(study: Study, limit: int, seed: int = 0) -> pd.DataFrame:
    """Compares the AUC of the items whose sentences all have fewer than `limit` characters with that of all others.

    Returns:
        One row for each pooling: the number of `short items`, the AUC of `short` and `others`, each group by itself,
        and their difference as `value` with its interval; NaN where a group has fewer than two items.
    """
    short = study.rows[["query", *CUT]].map(len).max(axis=1) < limit
    groups, rows = [study.rows[short], study.rows[~short]], []
    parts = [study.parts(some)["auc"] if len(some) > 1 else None for some in groups]
    for pooling in study.reader.poolings:
        both = [np.array([]) if part is None else part.xs(pooling, level="pooling").to_numpy() for part in parts]
        rows.append({"short items": short.sum()} | _compared("short", both[0], "others", both[1], seed))
    return _by_pooling(study, rows)


def cut_short(study: Study, lengths: Sequence[int], count: int, seed: int = 0) -> pd.DataFrame:
    """Cuts strong and unrelated candidates of `SENTENCE` characters or more to their first few.

    Returns:
        One row for each item and length, with the item's part in the `auc`; none where fewer than two items are long
        enough. The index has the level `characters` for the length.
    """
    enough = study.rows[study.rows[CUT].map(len).min(axis=1) >= SENTENCE]
    some, tables = study._replace(rows=enough).sample(count, seed), []
    for length in lengths if len(some) > 1 else ():
        cut = some.assign(**{name: some[name].str[:length].str.strip() for name in CUT})
        tables.append(study.parts(cut)[["auc"]].assign(characters=length).set_index("characters", append=True))
    return pd.concat(tables) if tables else nothing(["scenario", "item", "characters"], ["auc"])


def stop_words_out(study: Study) -> pd.DataFrame:
    """Takes the stop words out of queries, strong and unrelated candidates.

    Returns:
        One row for each item with the change of its parts in `delta` and `auc`; none for a language without a list.
    """
    gone = perturb.STOP_WORDS.get(study.language)
    if not gone:
        return nothing(["scenario", "item"], ["delta", "auc"])
    names = ["query", *CUT]
    less = study.rows.assign(**{name: [perturb.without(text, gone) for text in study.rows[name]] for name in names})
    return study.parts(less) - study.parts(study.rows)


def stop_words_drift(study: Study, tokenizer: PreTrainedTokenizerBase, count: int, seed: int = 0) -> pd.DataFrame:
    """Measures how far strong candidates move without their stop words, and without as many other words.

    Returns:
        As from `drift.measure`, with the versions "stop words out" and "other words out".
    """
    gone = perturb.STOP_WORDS.get(study.language, ())
    holds = [text != perturb.without(text, gone) for text in study.rows["strong"]] if gone else []
    if sum(holds) < 2:
        return nothing(KEYS[len(STUDY) :], ["drift"])
    few = study._replace(rows=study.rows[holds]).sample(count, seed)
    texts = list(few["strong"])
    versions = {"stop words out": [perturb.without(text, gone) for text in texts]}
    versions["other words out"] = perturb.without_others(texts, gone, tokenizer, seed)
    return measure(study.reader, few, versions)


def odd_tokens(study: Study, tokenizer: PreTrainedTokenizerBase, count: int, seed: int = 0) -> pd.DataFrame:
    """Puts odd things into strong candidates; see `perturb.noisy`. Returns a table as from `drift.measure`."""
    few = study.sample(count, seed)
    return measure(study.reader, few, perturb.noisy(list(few["strong"]), study.language, tokenizer))


def forms(study: Study, tokenizer: PreTrainedTokenizerBase, count: int, seed: int = 0) -> pd.DataFrame:
    """Turns strong candidates into keyword lists, and asks for them by sentences and by keyword lists.

    Returns:
        As from `drift.measure`, with the versions of `perturb.lists`; the index has the level `query`, too, which is
        "a sentence" or "a keyword list".
    """
    few = study.sample(count, seed)
    lines, asked = (perturb.lists(list(few[name]), study.language, tokenizer) for name in ("strong", "query"))
    tables = {
        name: measure(study.reader, few.assign(query=asked[form]), lines)
        for name, form in (("a sentence", "sentence"), ("a keyword list", "keyword list"))
    }
    return pd.concat(tables, names=["query"]).reorder_levels([*STUDY, "query", *KEYS[len(STUDY) :]])


def lured(study: Study, lines: Sequence[str] = perturb.SYMBOLS) -> pd.DataFrame:
    """Finds out which queries put a line that says nothing above their own strong candidate.

    Returns:
        One row for each item and a column for each line, 1 where it stands above the strong candidate and 0.5 where it
        ties; NaN for a line in which the model finds no token. The column `ORDINARY` has the mean over the strong
        candidates of all other items, lines that do say something.
    """
    reader, rows = study.reader, study.rows
    known = [line for line in lines if reader.reads(line)]
    own, asked, odd = (reader.vectors(list(texts)) for texts in (rows["strong"], rows["query"], known))
    tables = []
    for pooling in reader.poolings:
        query = asked[pooling].astype(np.float64)
        mine = (query * own[pooling].astype(np.float64)).sum(axis=1).round(ROUNDING)[:, None]
        above = np.heaviside((query @ odd[pooling].T.astype(np.float64)).round(ROUNDING) - mine, 0.5)
        table = rows[["language", "scenario", "item"]].assign(model=reader.name, pooling=pooling)
        table[ORDINARY] = 1 - beaten(asked[pooling], own[pooling])
        for line in lines:
            table[line or BLANK] = above[:, known.index(line)] if line in known else np.nan
        tables.append(table)
    return pd.concat(tables).set_index(KEYS[:-1])


def nearness(study: Study, lines: Sequence[str] = perturb.SYMBOLS) -> pd.DataFrame:
    """Compares the cosine of the queries to the first line that the model can read with that to another query.

    Returns:
        One row for each pooling: `to the line` and `to another query`, the mean cosines, and `with length`, the rank
        correlation of the first with the number of the query's characters.
    """
    line = next(line for line in lines if study.reader.reads(line))
    queries, odd = list(study.rows["query"]), study.reader.vectors([line])
    sizes, rows = pd.Series([len(query) for query in queries]), []
    for name, array in study.reader.vectors(queries).items():
        cosines = pd.Series((array @ odd[name][0]).round(ROUNDING))
        row = {"to the line": cosines.mean(), "to another query": random_cosine(array)[0]}
        rows.append(row | {"with length": cosines.corr(sizes, method="spearman")})
    return _by_pooling(study, rows)


def _compared(first: str, one: np.ndarray, second: str, other: np.ndarray, seed: int) -> dict[str, float]:
    """Returns the means of two groups of items and their difference with its interval; NaN where one is empty."""
    if not len(one) or not len(other):
        return {first: np.nan, second: np.nan, "value": np.nan, "low": np.nan, "high": np.nan}
    gap = dict(zip(["value", "low", "high"], apart(one, other, seed), strict=True))
    return {first: one.mean(), second: other.mean()} | gap


def _by_pooling(study: Study, rows: list[dict[str, float]]) -> pd.DataFrame:
    keys = [(study.reader.name, study.language, pooling) for pooling in study.reader.poolings]
    return pd.DataFrame(rows, pd.MultiIndex.from_tuples(keys, names=STUDY))
