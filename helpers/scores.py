"""The tidy score table, and every statistic that is computed from it."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy import stats
from sentence_transformers import SentenceTransformer

from helpers.encode import embed
from helpers.paths import output
from helpers.pooling import POOLINGS
from helpers.scenarios import CANDIDATES

COLUMNS = ["model", "language", "pooling", "normalized", "scenario", "item", "candidate", "cosine"]
STUDY = ["model", "language", "pooling"]
RECIPE = "own recipe"  # what a table calls the vectors that a model makes in its own way
RESAMPLES = 2000
NUMBERS_AT_ONCE = 2_000_000  # that a bootstrap holds in memory, for each sample
ROUNDING = 6


def score(
    model: SentenceTransformer,
    name: str,
    scenarios: pd.DataFrame,
    poolings: Sequence[str] = tuple(POOLINGS),
    *,
    normalize: bool = True,
    prompt_name: str | None = None,
    every_candidate: bool = False,
    recipe: bool = False,
) -> pd.DataFrame:
    """Encodes each text of a scenario table once and scores its queries against their candidates.

    Args:
        model: The model.
        name: What the table calls it.
        scenarios: Rows of one language, or of several, from `scenarios.read`.
        poolings: Names from `pooling.POOLINGS`.
        normalize: Whether the vectors are scaled to length 1; the cosine is the same up to rounding.
        prompt_name: One of the model's own prompts, put before every text.
        every_candidate: Also score each query against the candidates of all other items in its language.
        recipe: Also score the model's own recipe, as the pooling `RECIPE`: queries by `encode_query` and candidates by
            `encode_document`, with the prompts, the pooling and the further modules that the model declares.

    Returns:
        One row for each (model, language, pooling, scenario, item, candidate) with the columns `COLUMNS`. With
        `every_candidate`, two more columns, `candidate_scenario` and `candidate_item`, say whose candidate it is.
    """
    texts = texts_of(scenarios)
    vectors = embed(model, texts, poolings, normalize, prompt_name=prompt_name)
    queries = dict(vectors)
    if recipe:
        candidates = scenarios[list(CANDIDATES)].to_numpy().ravel()
        queries[RECIPE] = _in_role(model.encode_query, texts, set(scenarios["query"]), normalize)
        vectors[RECIPE] = _in_role(model.encode_document, texts, set(candidates), normalize)
    return score_vectors(
        vectors, name, scenarios, queries=queries, normalize=normalize, every_candidate=every_candidate
    )


def texts_of(scenarios: pd.DataFrame) -> list[str]:
    """Returns each text of a scenario table once, row by row, the query before its candidates."""
    return list(dict.fromkeys(scenarios[["query", *CANDIDATES]].to_numpy().ravel()))


def score_vectors(
    vectors: Mapping[str, np.ndarray],
    name: str,
    scenarios: pd.DataFrame,
    *,
    queries: Mapping[str, np.ndarray] | None = None,
    normalize: bool = True,
    every_candidate: bool = False,
) -> pd.DataFrame:
    """Scores vectors that are made already, however they were pooled.

    Args:
        vectors: `{pooling: array (texts, dim)}` under any names, rows in the order of `texts_of(scenarios)`.
        name: What the table calls the model.
        scenarios: Rows of one language, or of several, from `scenarios.read`.
        queries: The same for the texts as queries, where a model treats queries in another way than candidates.
        normalize: Whether the vectors have length 1; the column `normalized` says so, the cosine does not need it.
        every_candidate: Also score each query against the candidates of all other items in its language.

    Returns:
        A table as from `score`.

    Raises:
        ValueError: An array has not one row for each text, or `queries` and `vectors` do not fit each other.
    """
    texts = texts_of(scenarios)
    queries = vectors if queries is None else queries
    _check_vectors(vectors, queries, len(texts))
    row_of = {text: row for row, text in enumerate(texts)}
    tables = []
    for language, rows in scenarios.groupby("language", sort=False):
        left = rows.loc[rows.index.repeat(len(rows))] if every_candidate else rows
        right = pd.concat([rows] * len(rows)) if every_candidate else rows
        for pooling, candidate in [(pooling, candidate) for pooling in vectors for candidate in CANDIDATES]:
            asked = queries[pooling][[row_of[text] for text in left["query"]]]
            others = vectors[pooling][[row_of[text] for text in right[candidate]]]
            table = left[["scenario", "item"]].reset_index(drop=True)
            table = table.assign(candidate=candidate, cosine=_cosine(asked, others), pooling=pooling)
            table = table.assign(model=name, language=language, normalized=normalize)
            if every_candidate:
                table["candidate_scenario"] = right["scenario"].to_numpy()
                table["candidate_item"] = right["item"].to_numpy()
            tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    return table[COLUMNS + (["candidate_scenario", "candidate_item"] if every_candidate else [])]


def own_candidates(scores: pd.DataFrame) -> pd.DataFrame:
    """Keeps the rows of an `every_candidate` table in which a query meets its own item's candidates."""
    return scores.loc[_is_own(scores), COLUMNS].reset_index(drop=True)


def by_item(scores: pd.DataFrame) -> pd.DataFrame:
    """Puts the candidates side by side: one row for each item, columns strong, weak, unrelated and delta.

    `delta` is strong − unrelated, the article's 区分度.
    """
    keys = [*STUDY, "scenario", "item", "candidate"]
    wide = scores.set_index(keys)["cosine"].unstack("candidate", sort=False)[list(CANDIDATES)]
    return wide.assign(delta=wide["strong"] - wide["unrelated"]).rename_axis(columns=None).reset_index()


def summary(scores: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Summarises each (model, language, pooling).

    Columns: `items`; the mean cosines `strong`, `weak`, `unrelated`; `delta` = strong − unrelated;
    `strong_over_weak`, the share of items whose strong candidate is closer than its weak one; `triplet_accuracy`, the
    share of (query, strong, negative) triplets in the right order, weak and unrelated both serving as negatives;
    `auc` and `auc_weak`, the probability that a random strong pair is closer than a random unrelated (weak) pair.
    Ties count half everywhere. `delta`, `auc` and `auc_weak` come with 95 % bootstrap intervals over items in
    `…_low` and `…_high`; one item has no interval (NaN).
    """
    rows = []
    for study, items in by_item(scores).groupby(STUDY, sort=False):
        strong, weak, unrelated = (items[candidate].to_numpy() for candidate in CANDIDATES)
        over_weak, over_unrelated = _closer(strong, weak), _closer(strong, unrelated)
        row = dict(zip(STUDY, study, strict=True)) | {"items": len(items)}
        row |= {candidate: items[candidate].mean() for candidate in CANDIDATES}
        row |= _with_interval("delta", items["delta"].to_numpy(), statistic=np.mean, seed=seed)
        row |= {"strong_over_weak": over_weak, "triplet_accuracy": (over_weak + over_unrelated) / 2}
        row |= _with_interval("auc", strong, unrelated, statistic=auc, seed=seed)
        row |= _with_interval("auc_weak", strong, weak, statistic=auc, seed=seed)
        rows.append(row)
    return pd.DataFrame(rows)


def interval(
    *samples: np.ndarray, statistic: Callable[..., np.ndarray] = np.mean, seed: int = 0
) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of a statistic, resampling items.

    Args:
        samples: One or more arrays `(items,)`; row i of each belongs to the same item and is drawn together.
        statistic: Function of the samples that takes `axis=`.
        seed: Seed of the resampling.

    Returns:
        Low and high end: bias-corrected and accelerated (BCa, Efron 1987), or percentile where BCa is undefined, as
        when all items agree. NaN for fewer than two items.
    """
    if len(samples[0]) < 2:
        return float("nan"), float("nan")

    def statistic_of_draw(*draw: np.ndarray, axis: int) -> np.ndarray:
        # The same items drawn in another order must tie, or the last bit decides how far BCa shifts the interval.
        return np.round(statistic(*draw, axis=axis), 10)

    for method in ("BCa", "percentile"):
        with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            found = stats.bootstrap(
                samples,
                statistic_of_draw,
                paired=True,
                vectorized=True,
                n_resamples=RESAMPLES,
                batch=max(1, NUMBERS_AT_ONCE // len(samples[0])),
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if np.isfinite(found).all():
            break
    return float(found.low), float(found.high)


def auc(positive: np.ndarray, negative: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns the probability that a random positive exceeds a random negative, ties counting half.

    The area under the ROC curve, as `sklearn.metrics.roc_auc_score` computes it, but over any axis at once: Mann and
    Whitney's U as a share of the pairs.
    """
    u = stats.mannwhitneyu(positive, negative, axis=axis, method="asymptotic").statistic
    return u / (positive.shape[axis] * negative.shape[axis])


def ranks(scores: pd.DataFrame) -> pd.DataFrame:
    """Ranks each query's own strong candidate among all candidates of its language, 1 being the closest.

    Args:
        scores: A table made with `every_candidate=True`.

    Returns:
        One row for each (model, language, pooling, scenario, item) with `rank` (ties share the mean of their places)
        and `candidates`, how many there were.
    """
    query = [*STUDY, "scenario", "item"]
    cosines = scores.groupby(query, sort=False)["cosine"]
    placed = scores.assign(rank=cosines.rank(ascending=False), candidates=cosines.transform("size"))
    strong = _is_own(scores) & scores["candidate"].eq("strong")
    return placed.loc[strong, [*query, "rank", "candidates"]].reset_index(drop=True)


def beaten(scores: pd.DataFrame) -> pd.DataFrame:
    """Returns which share of all pairs across items each strong pair beats, ties counting half.

    The pairs across items join a query with a candidate of another item, whatever its kind. The mean of the shares is
    the AUC of strong pairs against pairs across items, which an interval over items can be put on.

    Args:
        scores: A table made with `every_candidate=True`.

    Returns:
        One row for each (model, language, pooling, scenario, item) with `auc_all`; NaN where there is no other item.
    """
    tables = []
    for study, rows in scores.assign(own=_is_own(scores)).groupby(STUDY, sort=False):
        across = np.sort(rows.loc[~rows["own"], "cosine"])
        strong = rows[rows["own"] & rows["candidate"].eq("strong")]
        below = [np.searchsorted(across, strong["cosine"], side) for side in ("left", "right")]
        share = np.mean(below, axis=0) / len(across) if len(across) else np.nan
        tables.append(strong[["scenario", "item"]].assign(**dict(zip(STUDY, study, strict=True)), auc_all=share))
    return pd.concat(tables, ignore_index=True)[[*STUDY, "scenario", "item", "auc_all"]]


def paired(measures: pd.DataFrame, poolings: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """Compares poolings on the same items: each with every one that stands before it.

    Args:
        measures: One column for each measure; the index has the levels `STUDY`, scenario and item. An item for which
            a measure is missing does not count for that measure.
        poolings: The poolings, such as cls and mean.
        seed: Seed of the resampling.

    Returns:
        One row for each (model, language, measure, compared), `compared` being "mean − cls", say. Columns: the mean
        `difference`, its 95 % bootstrap interval `low` and `high`, and in how many items it is above zero and below,
        `items_won` and `items_lost`.
    """
    rows = {}
    for study, items in measures.groupby(level=["model", "language"], sort=False):
        for measure, (first, second) in product(measures, combinations(poolings, 2)):
            values = items[measure].unstack("pooling")
            gain = (values[second] - values[first]).dropna().round(ROUNDING - 1)  # equal up to rounding is a tie
            row = [gain.mean(), *interval(gain.to_numpy(), seed=seed), (gain > 0).sum(), (gain < 0).sum()]
            rows[*study, measure, f"{second} − {first}"] = row
    table = pd.DataFrame.from_dict(rows, "index", columns=["difference", "low", "high", "items_won", "items_lost"])
    return table.set_index(pd.MultiIndex.from_tuples(rows, names=["model", "language", "measure", "compared"]))


def save(table: pd.DataFrame, name: str) -> str:
    """Writes a result table, rounded to six decimals, as `data/results/<name>.csv` below `paths.output()`.

    Returns:
        That relative name.
    """
    path = f"data/results/{name}.csv"
    (output() / path).parent.mkdir(parents=True, exist_ok=True)
    table.round(ROUNDING).to_csv(output() / path, index=False, lineterminator="\n")
    return path


def _in_role(encode: Callable[..., np.ndarray], texts: list[str], serving: set[str], normalize: bool) -> np.ndarray:
    """Encodes the texts that serve in one role, `(texts, dim)` float32; the rows of all others are NaN."""
    rows = [row for row, text in enumerate(texts) if text in serving]
    made = encode([texts[row] for row in rows], normalize_embeddings=normalize, show_progress_bar=False)
    vectors = np.full((len(texts), made.shape[1]), np.nan, np.float32)
    vectors[rows] = made
    return vectors


def _check_vectors(vectors: Mapping[str, np.ndarray], queries: Mapping[str, np.ndarray], texts: int) -> None:
    if set(queries) != set(vectors):
        names = f"{', '.join(queries) or 'nothing'}, but vectors holds {', '.join(vectors) or 'nothing'}"
        raise ValueError(f"queries holds {names}; give both the same poolings.")
    for pooling, array in vectors.items():
        for role, shape in (("vectors", array.shape), ("queries", queries[pooling].shape)):
            if len(shape) != 2 or shape[0] != texts:
                expected = f"({texts}, dim), a row for each text in the order of texts_of"
                raise ValueError(f"{role}[{pooling!r}] has the shape {shape}; it must be {expected}.")
        if array.shape != queries[pooling].shape:
            widths = f"{queries[pooling].shape[1]} numbers, but a candidate's has {array.shape[1]}"
            raise ValueError(f"A query's vector of {pooling!r} has {widths}; make both equally long.")


def _with_interval(
    name: str, *samples: np.ndarray, statistic: Callable[..., np.ndarray], seed: int
) -> dict[str, float]:
    low, high = interval(*samples, statistic=statistic, seed=seed)
    return {name: float(statistic(*samples, axis=-1)), f"{name}_low": low, f"{name}_high": high}


def _is_own(scores: pd.DataFrame) -> pd.Series:
    return scores["scenario"].eq(scores["candidate_scenario"]) & scores["item"].eq(scores["candidate_item"])


def _cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosines of matching rows, to the six decimals that float32 states carry, so that equal pairs compare as equal."""
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return ((left * right).sum(axis=1, dtype=np.float64) / lengths).round(ROUNDING)


def _closer(first: np.ndarray, second: np.ndarray) -> float:
    return np.heaviside(first - second, 0.5).mean()
