"""How far vectors move when a text changes, on a scale that poolings share, and whether the text is still found."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats
from sentence_transformers import SentenceTransformer

from helpers.encode import TruncationWarning, embed
from helpers.geometry import random_cosine
from helpers.scores import RESAMPLES, ROUNDING, STUDY, holm, interval, paired

SHOWN = ("cls", "mean", "max", "lasttoken")
KEYS = [*STUDY, "scenario", "item", "version"]
TOKENS_AT_ONCE = 512  # a fifth faster than twice as many on one core, whose cache then holds a batch


class Reader:
    """A model that reads each text once, and keeps its vectors.

    Args:
        model: The model.
        name: What tables call it.
        poolings: Names from `pooling.POOLINGS`.
    """

    def __init__(self, model: SentenceTransformer, name: str, poolings: Sequence[str] = SHOWN) -> None:
        self.model = model
        self.name = name
        self.poolings = tuple(poolings)
        self._rows: dict[str, int] = {}
        self._kept: dict[str, np.ndarray] = {}

    def vectors(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Returns normalized vectors `(texts, dim)` for each pooling; long texts are cut without a warning."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TruncationWarning)
                made = embed(self.model, new, self.poolings, token_budget=TOKENS_AT_ONCE)
            for pooling, array in made.items():
                self._kept[pooling] = np.concatenate([*([self._kept[pooling]] if self._rows else []), array])
            self._rows |= {text: row for row, text in enumerate(new, start=len(self._rows))}
        rows = [self._rows[text] for text in texts]
        return {pooling: array[rows] for pooling, array in self._kept.items()}

    @property
    def limit(self) -> float:
        """The most tokens that the model reads, special ones included; infinity where it sets no limit."""
        return self.model.max_seq_length or np.inf

    def pieces(self, texts: Sequence[str]) -> list[str]:
        """Shows what the model's tokenizer makes of each text."""
        return [" · ".join(self.model.tokenizer.tokenize(text)) for text in texts]

    def reads(self, text: str) -> bool:
        """Tells whether the model finds any token in a text, as some find none in an empty one."""
        return bool(self.model.tokenizer(text)["input_ids"])

    def tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Counts the tokens of each text, special ones included, before anything is cut."""
        found = self.model.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        return np.array([len(ids) for ids in found])


def relative(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Returns how far each vector moved: 0 is not at all, 1 is as far as another text's vector is away on average.

    That is `(1 − cosine(before, after)) / (1 − random cosine)`, the latter between different rows of `before`; without
    it, a pooling whose vectors all lie in a narrow cone would seem not to move. NaN where all of `before` are alike.

    Args:
        before: Vectors `(texts, dim)`, two or more.
        after: Those of the changed texts, in the same order.
    """
    unit = 1 - random_cosine(before)[0]
    if unit < 10**-ROUNDING:
        return np.full(len(before), np.nan)
    cosine = (before * after).sum(axis=1, dtype=np.float64)
    cosine /= np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    return ((1 - cosine) / unit).round(ROUNDING)


def beaten(queries: np.ndarray, documents: np.ndarray, own: Sequence[int] | None = None) -> np.ndarray:
    """Returns which share of the other documents each query's own one beats, ties counting half; 0.5 is chance.

    NaN for a query whose vector, or whose own document's, is NaN.

    Args:
        queries: Normalized vectors `(queries, dim)`.
        documents: Normalized vectors `(documents, dim)`, two or more.
        own: The number of each query's document; by default they stand in the same order.
    """
    cosines = (queries.astype(np.float64) @ documents.T.astype(np.float64)).round(ROUNDING)
    own = np.arange(len(queries)) if own is None else np.asarray(own)
    mine = cosines[np.arange(len(queries)), own][:, None]
    wins = (cosines < mine).sum(axis=1) + ((cosines == mine).sum(axis=1) - 1) / 2
    return np.where(np.isnan(mine[:, 0]), np.nan, wins / (len(documents) - 1))


def measure(reader: Reader, rows: pd.DataFrame, versions: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Measures what changes of the strong candidates do to their vectors.

    Args:
        reader: The model.
        rows: Items of one language, from `scenarios.read`.
        versions: The changed candidates, one for each row, by the name of the change.

    Returns:
        One row for each (model, language, pooling, scenario, item, version), the index, with `drift`, from `relative`;
        `beaten`, which share of the other items' candidates, changed in the same way, the query puts below its own; and
        `found`, 1 where it puts all of them there; `characters`, `tokens`, and `whole`, whether none were cut.
    """
    queries, before = reader.vectors(list(rows["query"])), reader.vectors(list(rows["strong"]))
    tables = []
    for version, texts in versions.items():
        after, tokens = reader.vectors(texts), reader.tokens(texts)
        for pooling in reader.poolings:
            share = beaten(queries[pooling], after[pooling])
            table = rows[["language", "scenario", "item"]].assign(model=reader.name, pooling=pooling, version=version)
            table = table.assign(drift=relative(before[pooling], after[pooling]), beaten=share)
            table["found"] = np.where(np.isnan(share), np.nan, share == 1)
            table = table.assign(characters=[len(text) for text in texts], tokens=tokens)
            tables.append(table.assign(whole=tokens <= reader.limit))
    return pd.concat(tables).set_index(KEYS)


def means(values: pd.Series | pd.DataFrame, by: Sequence[str], seed: int = 0, unit: str | None = None) -> pd.DataFrame:
    """Returns the mean of each group with its 95 % bootstrap interval, resampling rows or units that they share.

    Args:
        values: The values; of several columns, each is summarised in rows of its own, named in the level `measure`.
        by: Levels of the index that make the groups.
        seed: Seed of the resampling.
        unit: Level of the index whose members are resampled together; each counts once, by its mean.

    Returns:
        The columns `value`, `low`, `high` and `items`, the number of rows or units that have a value.
    """
    if isinstance(values, pd.DataFrame):
        parts = {name: means(values[name], by, seed, unit) for name in values}
        return pd.concat(parts, names=["measure"]).reorder_levels([*by, "measure"])
    rows = {}
    for group, some in values.groupby(level=list(by), sort=False):
        known = some.dropna()
        sample = (known if unit is None else known.groupby(level=unit, sort=False).mean()).to_numpy(float)
        middle = sample.mean() if len(sample) else np.nan
        rows[group] = [middle, *interval(sample, seed=seed), len(sample)]
    table = pd.DataFrame.from_dict(rows, "index", columns=["value", "low", "high", "items"])
    table.index = pd.MultiIndex.from_tuples(rows, names=by)
    return table.astype({"items": int})


def duel(measures: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Compares mean with cls on the same items by `scores.paired`, measure by measure.

    Args:
        measures: One column for each measure; the index has the levels `STUDY`, scenario and item.
        seed: Seed of the resampling.

    Returns:
        One row for each (model, language, measure): `value`, mean − cls, with its interval `low` to `high`, and
        `p_holm`, corrected for all measures of that model and language.
    """
    found = paired(measures, ["cls", "mean"], seed).droplevel("compared").rename(columns={"difference": "value"})
    found["p_holm"] = found.groupby(level=["model", "language"])["p"].transform(holm)
    return found[["value", "low", "high", "p_holm"]]


def minus(table: pd.DataFrame) -> pd.DataFrame:
    """Turns differences with `value`, `low` and `high` round: second − first instead of first − second."""
    return table.assign(value=-table["value"], low=-table["high"], high=-table["low"])


def apart(first: np.ndarray, second: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Returns by how much the mean of one group of items exceeds that of another, with its 95 % bootstrap interval."""
    gap = float(np.mean(first) - np.mean(second))
    if min(len(first), len(second)) < 2:
        return gap, float("nan"), float("nan")
    found = stats.bootstrap(
        (first, second),
        lambda one, other, axis: one.mean(axis=axis) - other.mean(axis=axis),
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return gap, float(found.low), float(found.high)


def settings(table: pd.DataFrame, name: str) -> dict[str, tuple[float, float, float]]:
    """Turns a table with `value`, `low` and `high` into the settings of a claim; rows without an interval are left out.

    Args:
        table: The table.
        name: What a setting is called, such as "{model} {language}, {pooling}"; the braces hold levels of the index.
    """
    found = {}
    for key, row in table[["value", "low", "high"]].dropna().iterrows():
        found[name.format(**dict(zip(table.index.names, key, strict=True)))] = tuple(map(float, row))
    return found


def hoyer(vectors: np.ndarray) -> np.ndarray:
    """Returns how sparse each vector `(texts, dim)` is by Hoyer's measure (2004): 1 with one entry, 0 if all are equal.

    A vector of `dim` Gaussian numbers has about 0.2, whatever `dim` is.
    """
    size = vectors.shape[1] ** 0.5
    return (size - np.abs(vectors).sum(axis=1) / np.linalg.norm(vectors, axis=1)) / (size - 1)
