"""The tidy score table, and every statistic that is computed from it."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy import stats
from sentence_transformers import SentenceTransformer

from helpers.cache import embed
from helpers.paths import save_table
from helpers.pooling import POOLINGS
from helpers.scenarios import CANDIDATES

COLUMNS = ["model", "language", "pooling", "normalized", "scenario", "item", "candidate", "cosine"]
STUDY = ["model", "language", "pooling"]
ITEM = [*STUDY, "scenario", "item"]
RECIPE = "own recipe"  # what a table calls the vectors that a model makes in its own way
ROLES = {"query": ("query",), "document": ("document", "passage", "corpus")}  # prompts that sentence-transformers takes
RESAMPLES = 2000
MANY = (
    2000  # items, for which the corrections of an interval vanish and their cost, which grows as the square, does not
)
PERMUTATIONS = 9999
SIGNIFICANT = 0.05
NUMBERS_AT_ONCE = 2_000_000  # that a bootstrap holds in memory, for each sample
ROUNDING = 6
RIVALS = 23  # that a query's strong candidate must come before, as in a search among 24
FIRST = f"first of {RIVALS + 1}"
TWINS = 1e-4


def score(
    model: SentenceTransformer,
    name: str,
    scenarios: pd.DataFrame,
    poolings: Sequence[str] = tuple(POOLINGS),
    *,
    normalize: bool = True,
    prompts: bool = False,
    every_candidate: bool = False,
    recipe: bool = False,
) -> pd.DataFrame:
    """Encodes each text of a scenario table once and scores its queries against their candidates.

    The vectors of `poolings` are kept, and found again by the next call for the same texts: see `cache.embed`.

    Args:
        model: The model.
        name: What the table calls it.
        scenarios: Rows of one language, or of several, from `scenarios.read`.
        poolings: Names from `pooling.POOLINGS`.
        normalize: Whether the vectors are scaled to length 1; the cosine is the same up to rounding.
        prompts: Whether to put the model's own prompts before queries and candidates, those that `encode_query` and
            `encode_document` take; a text that serves as both is encoded twice.
        every_candidate: Also score each query against the candidates of all other items in its language.
        recipe: Also score the model's own recipe, as the pooling `RECIPE`: queries by `encode_query` and candidates by
            `encode_document`, with the prompts, the pooling and the further modules that the model declares.

    Returns:
        One row for each (model, language, pooling, scenario, item, candidate) with the columns `COLUMNS`. With
        `every_candidate`, two more columns, `candidate_scenario` and `candidate_item`, say whose candidate it is.
    """
    texts = texts_of(scenarios)
    asked, offered = set(scenarios["query"]), set(scenarios[list(CANDIDATES)].to_numpy().ravel())
    if prompts:
        queries = _in_role(_prompted(model, "query", poolings, normalize), texts, asked)
        vectors = _in_role(_prompted(model, "document", poolings, normalize), texts, offered)
    else:
        vectors = embed(model, texts, poolings, normalize) if poolings else {}
        queries = dict(vectors)
    if recipe:
        how = {"normalize_embeddings": normalize, "show_progress_bar": False}
        queries |= _in_role(lambda some: {RECIPE: model.encode_query(some, **how)}, texts, asked)
        vectors |= _in_role(lambda some: {RECIPE: model.encode_document(some, **how)}, texts, offered)
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
        place = {column: rows[column].map(row_of).to_numpy() for column in ("query", *CANDIDATES)}
        pairs = rows[["scenario", "item"]].reset_index(drop=True)
        if every_candidate:
            pairs = pairs.merge(pairs.add_prefix("candidate_"), how="cross")
        for pooling, candidate in [(pooling, candidate) for pooling in vectors for candidate in CANDIDATES]:
            asked, others = _unit(queries[pooling][place["query"]]), _unit(vectors[pooling][place[candidate]])
            cosine = (asked @ others.T).ravel() if every_candidate else (asked * others).sum(axis=1)
            table = pairs.assign(candidate=candidate, cosine=cosine.round(ROUNDING), pooling=pooling)
            tables.append(table.assign(model=name, language=language, normalized=normalize))
    table = pd.concat(tables, ignore_index=True)
    return table[COLUMNS + (["candidate_scenario", "candidate_item"] if every_candidate else [])]


def prompt_name(model: SentenceTransformer, role: str) -> str | None:
    """Returns the name of the prompt that sentence-transformers puts before a "query" or a "document", if any."""
    return next((name for name in ROLES[role] if name in model.prompts), None)


def own_candidates(scores: pd.DataFrame) -> pd.DataFrame:
    """Keeps the rows of an `every_candidate` table in which a query meets its own item's candidates."""
    return scores.loc[_is_own(scores), COLUMNS].reset_index(drop=True)


def among(table: pd.DataFrame, studies: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Keeps the rows of some studies, each a model and a language, of a table with these columns."""
    return table[pd.MultiIndex.from_frame(table[["model", "language"]]).isin(studies)]


def distinct(scores: pd.DataFrame) -> pd.DataFrame:
    """Leaves out poolings that are another one under another name: no cosine of theirs is off by more than `TWINS`.

    Of such poolings the first stays, for each model and language; mean_sqrt_len_tokens, say, is mean but for a length.
    """
    kept = []
    for _, rows in scores.groupby(["model", "language"], sort=False):
        cosines = rows.pivot(index=["scenario", "item", "candidate"], columns="pooling", values="cosine")
        own = []
        for pooling in rows["pooling"].unique():
            if not any((cosines[pooling] - cosines[other]).abs().max() <= TWINS for other in own):
                own.append(pooling)
        kept.append(rows[rows["pooling"].isin(own)])
    return pd.concat(kept, ignore_index=True)


def by_item(scores: pd.DataFrame) -> pd.DataFrame:
    """Puts the candidates side by side: one row for each item, columns strong, weak, unrelated and delta.

    `delta` is strong − unrelated, the article's 区分度.
    """
    keys = [*ITEM, "candidate"]
    wide = scores.set_index(keys)["cosine"].unstack("candidate", sort=False)[list(CANDIDATES)]
    return wide.assign(delta=wide["strong"] - wide["unrelated"]).rename_axis(columns=None).reset_index()


def summary(scores: pd.DataFrame, seed: int = 0, by: Sequence[str] = ()) -> pd.DataFrame:
    """Summarises each (model, language, pooling), and each value of the columns in `by`, such as the scenario.

    Columns: `items`; the mean cosines `strong`, `weak`, `unrelated`; `delta` = strong − unrelated; `delta_sd`, the same
    in units of the model's own spread, the standard deviation of its unrelated cosines (Glass's delta, 1976);
    `strong_over_weak`, the share of items whose strong candidate is closer than its weak one; `triplet_accuracy`, the
    share of (query, strong, negative) triplets in the right order, weak and unrelated both serving as negatives;
    `auc` and `auc_weak`, the probability that a random strong pair is closer than a random unrelated (weak) pair;
    `spearman`, the rank correlation of all cosines with the labels unrelated < weak < strong. Ties count half.

    All but the means and `strong_over_weak` come with 95 % bootstrap intervals over items in `…_low` and `…_high`: an
    item is drawn with all its candidates. One item has no interval and no spread (NaN), and a handful no interval for
    `delta_sd`, as some draws then hold one item only.
    """
    rows, keys = [], [*STUDY, *by]
    for study, items in by_item(scores).groupby(keys, sort=False):
        strong, weak, unrelated = (items[candidate].to_numpy() for candidate in CANDIDATES)
        over_weak, over_unrelated = _closer(strong, weak), _closer(strong, unrelated)
        row = dict(zip(keys, study, strict=True)) | {"items": len(items)}
        row |= {candidate: items[candidate].mean() for candidate in CANDIDATES}
        row |= _with_interval("delta", strong - unrelated, statistic=np.mean, seed=seed)
        row |= _with_interval("delta_sd", strong, unrelated, statistic=_glass, seed=seed)
        row |= {"strong_over_weak": over_weak.mean()}
        row |= _with_interval("triplet_accuracy", (over_weak + over_unrelated) / 2, statistic=np.mean, seed=seed)
        drawn = np.arange(len(items))
        row |= _with_interval("auc", drawn, statistic=_auc_of_drawn(strong, unrelated), seed=seed)
        row |= _with_interval("auc_weak", drawn, statistic=_auc_of_drawn(strong, weak), seed=seed)
        row |= _with_interval("spearman", drawn, statistic=_spearman_of_drawn(strong, weak, unrelated), seed=seed)
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
        when all items agree, or makes no difference, as with more than `MANY` items. NaN for fewer than two items.
    """
    if len(samples[0]) < 2:
        return float("nan"), float("nan")

    def statistic_of_draw(*draw: np.ndarray, axis: int) -> np.ndarray:
        # The same items drawn in another order must tie, or the last bit decides how far BCa shifts the interval.
        return np.round(statistic(*draw, axis=axis), 10)

    for method in ("BCa", "percentile") if len(samples[0]) <= MANY else ("percentile",):
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
    query = ITEM
    cosines = scores.groupby(query, sort=False)["cosine"]
    placed = scores.assign(rank=cosines.rank(ascending=False), candidates=cosines.transform("size"))
    strong = _is_own(scores) & scores["candidate"].eq("strong")
    return placed.loc[strong, [*query, "rank", "candidates"]].reset_index(drop=True)


def first(scores: pd.DataFrame) -> pd.DataFrame:
    """Returns the chance that each query's strong candidate comes before `RIVALS` others, drawn from its language's.

    Args:
        scores: A table made with `every_candidate=True`.

    Returns:
        One column, `FIRST`; the index has the levels `STUDY`, scenario and item.
    """
    placed = ranks(scores).set_index(ITEM)
    beaten = (placed["candidates"] - placed["rank"]) / (placed["candidates"] - 1)
    return (beaten**RIVALS).to_frame(FIRST)


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
        across = rows.loc[~rows["own"], "cosine"].to_numpy()
        strong = rows[rows["own"] & rows["candidate"].eq("strong")]
        share = _below(across, strong["cosine"]) / len(across) if len(across) else np.nan
        tables.append(strong[["scenario", "item"]].assign(**dict(zip(STUDY, study, strict=True)), auc_all=share))
    return pd.concat(tables, ignore_index=True)[[*ITEM, "auc_all"]]


def measures(scores: pd.DataFrame) -> pd.DataFrame:
    """Returns what each item contributes to the `delta`, `triplet_accuracy`, `auc` and `auc_weak` of `summary`.

    Each column averages to the summary's value, and its scatter over the items gives that value's sampling error, so
    that `paired`, `chosen` and `power` can treat all of them as means. An item's part in an AUC is the share of
    negatives that its strong pair beats, plus the share of strong pairs that beat its negative, less the AUC: the
    structural components of DeLong et al. (1988), summed over a cluster as by Obuchowski (1997).

    Returns:
        The index has the levels `STUDY`, scenario and item.
    """
    items = by_item(scores).set_index(ITEM)
    closer = [_closer(items["strong"], items[negative]) for negative in ("weak", "unrelated")]
    found = items[["delta"]].assign(triplet_accuracy=np.mean(closer, axis=0))
    for name, negatives in (("auc", "unrelated"), ("auc_weak", "weak")):
        parts = [_parts_of_auc(rows["strong"], rows[negatives]) for _, rows in items.groupby(STUDY, sort=False)]
        found[name] = pd.concat(parts)
    return found


def paired(measures: pd.DataFrame, poolings: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """Compares poolings on the same items: each with every one that stands before it.

    Args:
        measures: One column for each measure; the index has the levels `STUDY`, scenario and item. An item for which
            a measure is missing does not count for that measure.
        poolings: The poolings, such as cls and mean.
        seed: Seed of the resampling.

    Returns:
        One row for each (model, language, measure, compared), `compared` being "mean − cls", say. Columns: the mean
        `difference`, its 95 % bootstrap interval `low` and `high`; in how many items it is above zero and below,
        `items_won` and `items_lost`; `p`, two-sided, from the paired permutation test, which lets each item swap its
        poolings (every way for up to 13 items, else `PERMUTATIONS` random ones; for the parts of an AUC, which depend
        on the other items, an approximation); and `p_holm`, corrected by Holm's method (1979) for the comparisons of
        that model, language and measure. One item alone has no p (NaN).
    """
    rows = {}
    for study, items in measures.groupby(level=["model", "language"], sort=False):
        wide = items.unstack("pooling")
        for measure, (first, second) in product(measures, combinations(poolings, 2)):
            values = wide[measure]
            gain = (values[second] - values[first]).dropna().round(ROUNDING - 1)  # equal up to rounding is a tie
            row = [gain.mean(), *interval(gain.to_numpy(), seed=seed), (gain > 0).sum(), (gain < 0).sum()]
            rows[*study, measure, f"{second} − {first}"] = [*row, _permuted(gain.to_numpy(), seed)]
    table = pd.DataFrame.from_dict(rows, "index", columns=["difference", "low", "high", "items_won", "items_lost", "p"])
    table.index = pd.MultiIndex.from_tuples(rows, names=["model", "language", "measure", "compared"])
    return table.assign(p_holm=table.groupby(level=["model", "language", "measure"])["p"].transform(holm))


def paired_by_scenario(measures: pd.DataFrame, poolings: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """Compares poolings within each scenario, as `paired`, by the parts that its items have in the measures.

    Returns:
        A table as from `paired`, with the scenario as the first level of the index; `p_holm` corrects for the number of
        scenarios.
    """
    parts = measures.groupby("scenario", sort=False)
    table = pd.concat({name: paired(rows, poolings, seed) for name, rows in parts}, names=["scenario"])
    table["p_holm"] = table.groupby(level=["model", "language", "measure", "compared"])["p"].transform(holm)
    return table


def holm(p: pd.Series) -> pd.Series:
    """Corrects p-values for their number by Holm's step-down method (1979); NaN stays NaN and does not count."""
    values = p.to_numpy(float)
    order = np.argsort(values)[: np.isfinite(values).sum()]  # NaN is sorted to the end
    corrected = np.full(len(values), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)), 1)
    return pd.Series(corrected, p.index)


def chosen(measure: pd.Series, seed: int = 0) -> pd.Series:
    """Returns how often each pooling would have come first: in which share of redraws of the items its mean is highest.

    Args:
        measure: A column of `measures`; the index has the levels `STUDY`, scenario and item. Items that lack a
            pooling are left out.
        seed: Seed of the resampling.

    Returns:
        One share for each (model, language, pooling); poolings that come first together share a redraw.
    """
    found = []
    for _, rows in measure.groupby(level=["model", "language"], sort=False):
        values = rows.unstack(["scenario", "item"]).dropna(axis=1)
        draws = np.random.default_rng(seed).integers(values.shape[1], size=(RESAMPLES, values.shape[1]))
        means = (_counts(draws, values.shape[1]) @ values.to_numpy().T / values.shape[1]).round(ROUNDING)
        first = means == means.max(axis=1, keepdims=True)
        found.append(pd.Series((first / first.sum(axis=1, keepdims=True)).mean(axis=0), values.index))
    return pd.concat(found).rename("chosen")


def power(gains: np.ndarray, sizes: Sequence[int], seed: int = 0) -> pd.DataFrame:
    """Returns how likely so many items are to show a difference, if the items at hand are typical.

    Draws items with replacement and runs a two-sided paired t test at `SIGNIFICANT` on each draw. The parts of an AUC
    stay as all items at hand made them, which flatters very small numbers.

    Args:
        gains: The paired differences of the items at hand, `(items,)`.
        sizes: Numbers of items to try, 2 or more.
        seed: Seed of the draws.

    Returns:
        One row for each size: `items`; `power`, the share of `RESAMPLES` draws in which the difference is significant
        and has the sign of the mean of `gains`; and `wrong`, the share in which it is significant with the other sign.
    """
    generator, sign = np.random.default_rng(seed), np.sign(gains.mean())
    rows = []
    for size in sizes:
        draws = generator.choice(gains, size=(RESAMPLES, size))
        error = draws.std(axis=1, ddof=1) / size**0.5
        t = np.divide(draws.mean(axis=1), error, out=np.zeros(RESAMPLES), where=error > 1e-12)  # no spread, no test
        beyond = stats.t.isf(SIGNIFICANT / 2, size - 1)
        rows.append({"items": size, "power": (sign * t > beyond).mean(), "wrong": (-sign * t > beyond).mean()})
    return pd.DataFrame(rows)


def save(table: pd.DataFrame, name: str) -> str:
    """Writes a result table, rounded to six decimals, as `data/results/<name>.csv` below `paths.output()`.

    Returns:
        That relative name.
    """
    return save_table(table.round(ROUNDING), name)


def _in_role(
    encode: Callable[[list[str]], dict[str, np.ndarray]], texts: list[str], serving: set[str]
) -> dict[str, np.ndarray]:
    """Encodes the texts that serve in one role, `(texts, dim)` float32 for each pooling; other rows are NaN."""
    rows = [row for row, text in enumerate(texts) if text in serving]
    made = {}
    for pooling, some in encode([texts[row] for row in rows]).items():
        made[pooling] = np.full((len(texts), some.shape[1]), np.nan, np.float32)
        made[pooling][rows] = some
    return made


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


def _prompted(
    model: SentenceTransformer, role: str, poolings: Sequence[str], normalize: bool
) -> Callable[[list[str]], dict[str, np.ndarray]]:
    """Returns `embed` with the prompt that sentence-transformers puts before texts in a role, where there is one."""
    return lambda texts: embed(model, texts, poolings, normalize, prompt_name=prompt_name(model, role))


def _parts_of_auc(positive: pd.Series, negative: pd.Series) -> pd.Series:
    """Returns what each item contributes to `auc`: components that average to it and carry its sampling error."""
    beats, beaten = _below(negative, positive), _below(positive, negative)
    return (beats - beaten - beats.mean()) / len(positive) + 1


def _below(sample: np.ndarray, values: pd.Series) -> pd.Series:
    """Counts how many of a sample lie below each value, ties as half; NaN where either is NaN."""
    places = [np.searchsorted(np.sort(sample), values, side) for side in ("left", "right")]
    return pd.Series(np.mean(places, axis=0), values.index).where(values.notna() & ~np.isnan(sample).any())


def _permuted(gain: np.ndarray, seed: int) -> float:
    """Returns the p of the paired permutation test of gains with five decimals, twice that of the smaller tail."""
    if len(gain) < 2:
        return float("nan")
    return stats.permutation_test(
        (np.rint(gain * 10 ** (ROUNDING - 1)), np.zeros_like(gain)),  # whole numbers add up exactly: ties are ties
        lambda first, second, axis: (first - second).sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        batch=max(1, NUMBERS_AT_ONCE // 10 // len(gain)),
        rng=np.random.default_rng(seed),
    ).pvalue


def _with_interval(
    name: str, *samples: np.ndarray, statistic: Callable[..., np.ndarray], seed: int
) -> dict[str, float]:
    low, high = interval(*samples, statistic=statistic, seed=seed)
    return {name: float(statistic(*samples, axis=-1)), f"{name}_low": low, f"{name}_high": high}


def _is_own(scores: pd.DataFrame) -> pd.Series:
    return scores["scenario"].eq(scores["candidate_scenario"]) & scores["item"].eq(scores["candidate_item"])


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Returns the vectors as float64 of length 1, so that products of equal pairs round to the same six decimals."""
    wide = vectors.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def _closer(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.heaviside(first - second, 0.5)


def _glass(strong: np.ndarray, unrelated: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns Glass's delta: the difference of the means in standard deviations of the second sample; NaN for none."""
    gap = (strong - unrelated).mean(axis=axis)
    spread = unrelated.std(axis=axis, ddof=1) if unrelated.shape[axis] > 1 else np.zeros_like(gap)
    return np.divide(gap, spread, out=np.full_like(gap, np.nan), where=spread > 1e-12)


def _auc_of_drawn(positive: np.ndarray, negative: np.ndarray) -> Callable[..., np.ndarray]:
    """Returns a function of drawn items `(…, items)` that gives `auc` of each draw, without sorting each afresh."""
    if np.isnan([positive, negative]).any():  # NaN would be sorted above all numbers, and win
        return lambda drawn, axis=-1: np.full(drawn.shape[:-1], np.nan)
    order = np.argsort(negative)
    ends = [np.searchsorted(negative[order], positive, side) for side in ("left", "right")]

    def statistic(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        counts = _counts(drawn, len(positive))
        below = np.insert(counts[..., order].cumsum(axis=axis), 0, 0, axis=axis)
        beaten = (below[..., ends[0]] + below[..., ends[1]]) / 2  # ties count half
        return (counts * beaten).sum(axis=axis) / drawn.shape[axis] ** 2

    return statistic


def _spearman_of_drawn(strong: np.ndarray, weak: np.ndarray, unrelated: np.ndarray) -> Callable[..., np.ndarray]:
    """Returns a function of drawn items `(…, items)` that gives Spearman's correlation of cosine and label.

    With as many pairs of each label, the covariance of the ranks is a weighted sum of the three AUCs, and their
    variance follows from the sizes of the runs of equal cosines.
    """
    near, far, low = (_auc_of_drawn(*pair) for pair in ((strong, weak), (strong, unrelated), (weak, unrelated)))
    cosines = np.concatenate([strong, weak, unrelated])
    order = np.argsort(cosines)
    starts = np.flatnonzero(np.diff(cosines[order], prepend=np.nan))  # of each run of equal cosines

    def statistic(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        size = 3 * drawn.shape[axis]
        counts = np.tile(_counts(drawn, len(strong)), 3)[..., order]
        tied = (np.add.reduceat(counts, starts, axis=axis) / size) ** 3
        spread = np.sqrt(np.maximum(1 - tied.sum(axis=axis), 0) / 12)  # of the ranks, as shares of `size`
        gap = near(drawn, axis) + 2 * far(drawn, axis) + low(drawn, axis) - 2
        return np.divide(gap, 54**0.5 * spread, out=np.full_like(gap, np.nan), where=spread > 1e-9)

    return statistic


def _counts(drawn: np.ndarray, items: int) -> np.ndarray:
    """Counts how often each item was drawn: `(…, draws)` becomes `(…, items)`."""
    rows = drawn.reshape(-1, drawn.shape[-1])
    places = rows + items * np.arange(len(rows))[:, None]
    return np.bincount(places.ravel(), minlength=items * len(rows)).reshape(*drawn.shape[:-1], items)
