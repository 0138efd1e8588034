"""Where to cut: bands of cosines, and thresholds for a chosen precision or recall.

A query and its strong candidate are a positive pair; `against` says which candidates make the negative ones. Precision
depends on the base rate, the share of positives among all pairs that are judged. Where none is passed it is that of the
table: one half against unrelated candidates, one third against weak ones as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.model_selection import GroupKFold

from helpers.scenarios import CANDIDATES
from helpers.scores import ITEM, NUMBERS_AT_ONCE, RESAMPLES, ROUNDING, STUDY, by_item, texts_of

FEWEST = 10  # items that a threshold is chosen on, and pairs that must pass it: a precision over fewer is luck
FOLDS, REPEATS = 10, 10
GRID = np.arange(1, 51) / 50  # recalls at which a curve is drawn
DEPENDABLE = 0.99  # the share of redraws in which a target must be met
ROUND = 1e-9
CURVE = ["recall", "precision", "low", "high"]
MOVES = ("another model", "another language", "another pooling", "home")
LEVELS = (0.01, 0.25, 0.5, 0.75, 0.99)


class ThresholdError(ValueError):
    """No threshold can be chosen: too few items, one class alone, a missing cosine, or a target out of reach."""


def bands(scores: pd.DataFrame, edges: Sequence[float]) -> pd.DataFrame:
    """Returns which share of the pairs of each kind falls into each band of cosines.

    Args:
        scores: A table as from `scores.score`.
        edges: Where one band ends and the next begins, ascending; a cosine on an edge belongs to the band above.

    Returns:
        One row for each (model, language, pooling, candidate), one column for each band, the highest first, such as
        "≥ 0.65", "0.45 to 0.65", "< 0.45". A missing cosine is in no band.
    """
    names = [f"< {edges[0]:g}", *(f"{low:g} to {high:g}" for low, high in zip(edges, edges[1:], strict=False))]
    names = [*names, f"≥ {edges[-1]:g}"][::-1]
    placed = pd.cut(scores["cosine"], [-np.inf, *edges, np.inf], right=False, labels=names[::-1])
    inside = {name: placed.eq(name) for name in names}
    kinds = scores[[*STUDY, "candidate"]].assign(**inside).groupby([*STUDY, "candidate"], sort=False)
    return kinds[names].mean().reset_index()


def random_cosines(vectors: np.ndarray, scenarios: pd.DataFrame, queries: np.ndarray | None = None) -> np.ndarray:
    """Returns the cosine of each query with the candidates of all other items: what chance alone brings together.

    Args:
        vectors: One row for each text of `scores.texts_of(scenarios)`, `(texts, dim)`.
        scenarios: Rows of one language.
        queries: The same for the texts as queries, where a model treats queries in another way than candidates.

    Returns:
        `(items, items, 3)`: query, whose candidate, and which; NaN where an item meets itself. No labels are needed.
    """
    row_of = {text: row for row, text in enumerate(texts_of(scenarios))}
    unit = [array / np.linalg.norm(array, axis=1, keepdims=True) for array in (vectors, queries) if array is not None]
    asked = unit[-1][scenarios["query"].map(row_of)]
    cosines = np.stack([asked @ unit[0][scenarios[name].map(row_of)].T for name in CANDIDATES], axis=-1).round(ROUNDING)
    cosines[np.eye(len(scenarios), dtype=bool)] = np.nan
    return cosines


def ranges(scores: pd.DataFrame, random: Mapping[tuple[str, str, str], np.ndarray]) -> pd.DataFrame:
    """Returns where the cosines of random and of strong pairs lie, as their quantiles at `LEVELS`.

    Args:
        scores: A table as from `scores.score`.
        random: What `random_cosines` gives, by model, language and pooling; other rows of `scores` are left out.

    Returns:
        One row for each study and `kind`, "random" or "strong", with a column for each quantile.
    """
    rows = {}
    for study, some in scores[scores["candidate"] == "strong"].groupby(STUDY, sort=False):
        if study in random:
            rows[*study, "random"] = np.nanquantile(random[study], LEVELS)
            rows[*study, "strong"] = some["cosine"].quantile(LEVELS)
    return pd.DataFrame(rows, index=LEVELS).T.rename_axis([*STUDY, "kind"]).reset_index()


def choose(
    cosines: ArrayLike,
    positive: ArrayLike,
    *,
    precision: float | None = None,
    recall: float | None = None,
    base_rate: float | None = None,
) -> float:
    """Chooses a threshold on labelled pairs; a pair passes whose cosine is at least as large.

    Args:
        cosines: One for each pair.
        positive: Whether the pair is a positive one.
        precision: The share of positives that the passing pairs must hold. The lowest such threshold is taken, which
            keeps the most positives.
        recall: The share of positives that must pass. The highest such threshold is taken. Pass one of both targets.
        base_rate: The share of positives where the threshold will be used; by default that of these pairs.

    Returns:
        One of the cosines.

    Raises:
        ThresholdError: No threshold with at least `FEWEST` passing pairs meets the target, a cosine is missing, or all
            pairs are of one class.
        ValueError: There is not exactly one target, or a target or the base rate is no share.
    """
    cosines, positive = np.asarray(cosines, float), np.asarray(positive, bool)
    _check_target(precision, recall, base_rate)
    if np.isnan(cosines).any():
        raise ThresholdError(f"{np.isnan(cosines).sum()} of {len(cosines)} cosines are missing; leave such pairs out.")
    if positive.all() or not positive.any():
        raise ThresholdError(f"All {len(cosines)} pairs are of one class; a threshold needs both.")
    at, passed = _passed(cosines, positive, np.ones(len(cosines)))
    rate = positive.mean() if base_rate is None else base_rate
    place = _place(*passed, precision, recall, rate)
    if place < 0:
        reached = np.where(sum(passed) >= FEWEST, _precision(*passed, rate), 0).max()
        best = f"{reached:.3f} is the most" if reached else f"there are only {len(cosines)} pairs"
        target = f"Recall {recall:g}" if precision is None else f"Precision {precision:g}"
        raise ThresholdError(f"{target} is out of reach: {best} with at least {FEWEST} passing pairs.")
    return float(at[place])


def find(
    scores: pd.DataFrame,
    *,
    precision: float | None = None,
    recall: float | None = None,
    against: Sequence[str] = ("unrelated",),
    base_rate: float | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Chooses a threshold for each model, language and pooling, and says what it is worth on items that it never saw.

    Args:
        scores: A table as from `scores.score`.
        precision: The precision to aim at; or
        recall: the recall.
        against: The negatives: "unrelated", "weak" or both.
        base_rate: The share of positives where the threshold will be used, such as 0.01; by default that of the table.
        seed: Seed of the folds and of the resampling.

    Returns:
        One row for each study, with `items`, `aim` ("precision" or "recall"), `target`, `base_rate`, and `threshold`,
        which is chosen on all items. What follows is out of sample, as each item is judged by a threshold that was
        chosen without it, in `FOLDS` folds, `REPEATS` times: `precision`, `recall`, and which share of the pairs
        passes, `strong`, `weak` and `unrelated`. `…_low` and `…_high` are 95 % percentile bootstrap intervals over
        items: the threshold is chosen anew in each draw; for precision and recall, the out-of-sample decisions are
        drawn. `note` says why a row has no threshold, and is empty otherwise.

    Raises:
        ValueError: As in `choose`, or `against` names no negatives.
    """
    _check_target(precision, recall, base_rate)
    kinds = _kinds(against)
    aim = {"aim": "precision", "target": precision} if recall is None else {"aim": "recall", "target": recall}
    rate = _rate(kinds, base_rate)
    goal = {"precision": precision, "recall": recall, "base_rate": rate}
    rows = []
    for study, items in by_item(scores).groupby(STUDY, sort=False):
        row = dict(zip(STUDY, study, strict=True)) | aim | {"base_rate": rate, "items": len(items), "note": ""}
        draws = _draws(len(items), seed)
        try:
            row |= _with_interval(items[kinds].to_numpy(), goal, draws)
            rows.append(row | _worth(_out_of_sample(items, kinds, goal, seed), kinds, rate, draws))
        except ThresholdError as problem:
            rows.append(row | {"note": str(problem)})
    ends = [f"{name}{end}" for name in ("threshold", "precision", "recall") for end in ("", "_low", "_high")]
    columns = [*STUDY, "items", "aim", "target", "base_rate", *ends, *CANDIDATES, "note"]
    return pd.DataFrame(rows).reindex(columns=columns)


def passing(
    scores: pd.DataFrame,
    threshold: float,
    *,
    against: Sequence[str] = ("unrelated",),
    base_rate: float | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Says what a given threshold does: which share of each kind of pair passes, with what precision and recall.

    Args:
        scores: A table as from `scores.score`.
        threshold: A pair passes whose cosine is at least as large.
        against: The negatives.
        base_rate: The share of positives; by default that of the table.
        seed: Seed of the resampling.

    Returns:
        One row for each study with `threshold`, `strong`, `weak`, `unrelated`, and `precision` and `recall` with their
        95 % bootstrap intervals over items. Where nothing passes, precision is missing. Choose the threshold on
        other items, or the numbers flatter it.

    Raises:
        ThresholdError: A cosine is missing.
        ValueError: `against` names no negatives, or the base rate is no share.
    """
    kinds, rows = _kinds(against), []
    rate = _rate(kinds, base_rate)
    for study, items in by_item(scores).groupby(STUDY, sort=False):
        cosines = items[list(CANDIDATES)].to_numpy()
        if missing := np.isnan(cosines).sum():
            raise ThresholdError(f"{missing} cosines of {', '.join(study)} are missing; leave such items out.")
        passes = cosines >= threshold
        worth = _worth(passes, kinds, rate, _draws(len(items), seed))
        rows.append(dict(zip(STUDY, study, strict=True)) | {"threshold": threshold} | worth)
    return pd.DataFrame(rows)


def transfer(judged: pd.DataFrame, currencies: Sequence[str], precision: float, seed: int = 0) -> pd.DataFrame:
    """Chooses a threshold in each study, its home, and uses it in every study.

    Args:
        judged: Strong pairs and one kind of negatives, as from `pairs`, none missing.
        currencies: The columns in which a threshold may be stated, such as the cosine.
        precision: What the threshold is to reach at home.
        seed: Seed of the resampling.

    Returns:
        One row for each currency, home and place: `currency`; `move`, one of `MOVES`, the way from home to there; which
        share of the pairs passes there, with one column for each kind; and the `precision` that follows. Shares are
        means over thresholds that are chosen on redrawn items of the home, which is steadier than a single one; at home
        they are judged on the items that they were drawn from. Where there is none, nothing passes.
    """
    _check_target(precision, None, None)
    kinds, rows = _kinds([kind for kind in CANDIDATES[1:] if kind in set(judged["candidate"])]), []
    for currency in currencies:
        wide = judged.set_index([*ITEM, "candidate"])[currency].unstack("candidate", sort=False)[kinds]
        studies = {study: some.to_numpy() for study, some in wide.groupby(level=STUDY, sort=False)}
        for home, own in studies.items():
            goal = {"precision": precision, "recall": None, "base_rate": 0.5}
            draws = _batches(_draws(len(own), seed), own.size)
            at = np.concatenate([_chosen(own, some, **goal) for some in draws])
            for place, other in studies.items():
                shared = next((rank for rank, (a, b) in enumerate(zip(home, place, strict=True)) if a != b), len(STUDY))
                below = [np.searchsorted(np.sort(column), at) for column in other.T]  # what is equal passes
                shares = 1 - np.mean(below, axis=1) / len(other)
                row = {"currency": currency, "move": MOVES[shared]} | dict(zip(kinds, shares.tolist(), strict=True))
                rows.append(row | {"precision": float(shares[0] / shares.sum()) if shares.sum() else np.nan})
    return pd.DataFrame(rows, columns=["currency", "move", *kinds, "precision"])


def curve(
    scores: pd.DataFrame, against: Sequence[str] = ("unrelated",), base_rate: float | None = None, seed: int = 0
) -> pd.DataFrame:
    """Returns the precision-recall curve of each study, in steps of recall, with 95 % bootstrap intervals over items.

    Args:
        scores: A table as from `scores.score`; studies with missing cosines are left out.
        against: The negatives.
        base_rate: The share of positives; by default that of the table.
        seed: Seed of the resampling.

    Returns:
        One row for each study and `recall`: the `precision` of the highest threshold that reaches it, the mean over
        redrawn items, which smooths its sawtooth, and its `low` and `high`.
    """
    kinds, tables = _kinds(against), []
    rate = _rate(kinds, base_rate)
    for study, items in by_item(scores).groupby(STUDY, sort=False):
        cosines = items[kinds].to_numpy()
        if np.isnan(cosines).any():
            continue
        draws = _batches(_draws(len(items), seed), cosines.size)
        redrawn = np.concatenate([_precisions(cosines, some, rate) for some in draws])
        low, high = np.quantile(redrawn, [0.025, 0.975], axis=0)
        found = {"recall": GRID, "precision": redrawn.mean(axis=0), "low": low, "high": high}
        tables.append(pd.DataFrame(dict(zip(STUDY, study, strict=True)) | found))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*STUDY, *CURVE])


def pairs(scores: pd.DataFrame, against: Sequence[str] = ("unrelated",)) -> pd.DataFrame:
    """Returns the positive and the negative pairs of a score table, told apart by the column `positive`."""
    kept = scores[scores["candidate"].isin(_kinds(against))].reset_index(drop=True)
    return kept.assign(positive=kept["candidate"].eq("strong"))


def readable(found: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of `find` that have a threshold as text: thresholds to three decimals, shares to two."""
    some = found[found["note"] == ""]
    forms = {"threshold": 3, "precision": 2, "recall": 2}
    texts = {
        name: [
            f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
            for value, low, high in zip(some[name], some[f"{name}_low"], some[f"{name}_high"], strict=True)
        ]
        for name, digits in forms.items()
    }
    weak = some["weak"].map("{:.2f}".format)
    return some[["aim", *STUDY]].assign(**texts, **{"weak passing": weak}).set_index(["aim", *STUDY])


def sentence(row: Mapping[str, Any]) -> str:
    """Says in words what a row of `find` found."""
    if row["note"]:
        return row["note"]
    ends = f"({row['threshold_low']:.3f} to {row['threshold_high']:.3f})"
    worth = f"precision {row['precision']:.2f}, recall {row['recall']:.2f}"
    return (
        f"cut at {row['threshold']:.3f} {ends}; on items not seen: {worth}, where {row['base_rate']:.0%} of the pairs "
        f"are strong; of the weak pairs {row['weak']:.2f} pass, too."
    )


def check_share(name: str, share: float | None) -> None:
    """Raises ValueError for what is not strictly between 0 and 1; None passes."""
    if share is not None and not 0 < share < 1:
        raise ValueError(f"{name} {share!r} is no share; it must lie between 0 and 1.")


def folds(item: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Splits rows into `FOLDS` folds of others and held out, the rows of an item, which bear one number, together."""
    split = GroupKFold(min(FOLDS, len(np.unique(item))), shuffle=True, random_state=seed)
    return split.split(item, groups=item)


def _check_target(precision: float | None, recall: float | None, base_rate: float | None) -> None:
    if (precision is None) == (recall is None):
        raise ValueError("Aim at one thing: pass precision or recall, and not both.")
    for name, share in (("precision", precision), ("recall", recall), ("base_rate", base_rate)):
        check_share(name, share)


def _kinds(against: Sequence[str]) -> list[str]:
    negatives = [against] if isinstance(against, str) else list(dict.fromkeys(against))
    if not negatives or not {*negatives} <= {*CANDIDATES[1:]}:
        raise ValueError(f"against={against!r} names no negatives; use {' or '.join(CANDIDATES[1:])}, or both.")
    return ["strong", *negatives]


def _rate(kinds: Sequence[str], base_rate: float | None) -> float:
    """Returns the base rate asked for, or that of a table in which each kind is equally frequent."""
    check_share("base_rate", base_rate)
    return 1 / len(kinds) if base_rate is None else base_rate


def _labels(cosines: np.ndarray) -> np.ndarray:
    """Labels cosines `(items, kinds)`, whose first column holds the positives; choose takes both flat."""
    return np.arange(cosines.shape[1]) == np.zeros((len(cosines), 1))


def _draws(items: int, seed: int) -> np.ndarray:
    """Counts how often each item is drawn in each resample, `(RESAMPLES, items)`."""
    return np.random.default_rng(seed).multinomial(items, np.full(items, 1 / items), RESAMPLES)


def _batches(draws: np.ndarray, pairs: int) -> list[np.ndarray]:
    """Cuts draws into parts that fit into memory."""
    return np.array_split(draws, max(1, -(-len(draws) * pairs // NUMBERS_AT_ONCE)))


def _passed(
    cosines: np.ndarray, positive: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Returns every possible threshold, falling, and how many positives and negatives pass it, `(…, thresholds)`."""
    order = np.argsort(-cosines, kind="stable")
    last = np.append(np.diff(cosines[order]) != 0, True)  # of equal cosines: they pass together
    ranked = counts[..., order]
    passed = [(ranked * kind[order]).cumsum(axis=-1)[..., last] for kind in (positive, ~positive)]
    return cosines[order][last], (passed[0], passed[1])


def _precision(positives: np.ndarray, negatives: np.ndarray, base_rate: float) -> np.ndarray:
    """Returns the precision at a base rate of what passes; the last entry of both counts is that of all pairs."""
    hits, alarms = positives / positives[..., -1:], negatives / negatives[..., -1:]
    return _at_base_rate(hits, alarms, base_rate)


def _at_base_rate(hits: np.ndarray, alarms: np.ndarray, base_rate: float) -> np.ndarray:
    """Returns precision from the true and the false positive rate; NaN where nothing passes."""
    right, all_ = base_rate * hits, base_rate * hits + (1 - base_rate) * alarms
    return np.divide(right, all_, out=np.full(np.shape(all_), np.nan), where=all_ > 0)


def _place(
    positives: np.ndarray, negatives: np.ndarray, precision: float | None, recall: float | None, base_rate: float
) -> np.ndarray:
    """Returns the place of the threshold that meets the target; −1 where there is none."""
    enough = positives + negatives >= FEWEST
    if precision is None:
        meets = enough & (positives >= (recall - ROUND) * positives[..., -1:])
        return np.where(meets.any(axis=-1), meets.argmax(axis=-1), -1)
    meets = enough & (_precision(positives, negatives, base_rate) >= precision - ROUND)
    return np.where(meets.any(axis=-1), meets.shape[-1] - 1 - meets[..., ::-1].argmax(axis=-1), -1)


def _chosen(
    cosines: np.ndarray, counts: np.ndarray, precision: float | None, recall: float | None, base_rate: float
) -> np.ndarray:
    """Chooses a threshold in each draw of the items, by cosines `(items, kinds)`; infinity where there is none."""
    of_pairs = counts.repeat(cosines.shape[1], axis=1)
    at, passed = _passed(cosines.ravel(), _labels(cosines).ravel(), of_pairs)
    return np.append(at, np.inf)[_place(*passed, precision, recall, base_rate)]


def _with_interval(cosines: np.ndarray, goal: dict[str, float | None], draws: np.ndarray) -> dict[str, float]:
    """Chooses a threshold by cosines `(items, kinds)`, and anew in each draw."""
    if len(cosines) < FEWEST:
        raise ThresholdError(f"{len(cosines)} items are too few to choose on: {FEWEST} at least, better hundreds.")
    at = choose(cosines.ravel(), _labels(cosines).ravel(), **goal)
    anew = np.concatenate([_chosen(cosines, some, **goal) for some in _batches(draws, cosines.size)])
    if np.isfinite(anew).mean() < DEPENDABLE:
        target = "Recall {recall:g}" if goal["precision"] is None else "Precision {precision:g}"
        raise ThresholdError(
            f"{target.format(**goal)} is met at {at:.3f}, but by luck: in more than one of a hundred redraws of the "
            "items nothing meets it. Aim lower, or collect more items."
        )
    low, high = np.quantile(anew, [0.025, 0.975], method="inverted_cdf")
    return {"threshold": at, "threshold_low": float(low), "threshold_high": float(high)}


def _out_of_sample(items: pd.DataFrame, kinds: list[str], goal: dict[str, float | None], seed: int) -> np.ndarray:
    """Returns how often each candidate passes a threshold that was chosen without its item, `(items, 3)` shares."""
    every, cosines = items[list(CANDIDATES)].to_numpy(), items[kinds].to_numpy()
    passes = np.zeros(every.shape)
    for repeat in range(REPEATS):
        for others, held_out in folds(np.arange(len(items)), seed + repeat):
            at = _chosen(cosines[others], np.ones((1, len(others))), **goal)
            passes[held_out] += (every[held_out] >= at) / REPEATS
    return passes


def _precisions(cosines: np.ndarray, counts: np.ndarray, base_rate: float) -> np.ndarray:
    """Returns the precision in each draw at each recall of `GRID`, `(draws, grid)`."""
    of_pairs = counts.repeat(cosines.shape[1], axis=1)
    positives, negatives = _passed(cosines.ravel(), _labels(cosines).ravel(), of_pairs)[1]
    found = _precision(positives, negatives, base_rate)
    places = [(positives >= (recall - ROUND) * positives[:, -1:]).argmax(axis=1) for recall in GRID]
    return np.take_along_axis(found, np.stack(places, axis=1), axis=1)


def _worth(passes: np.ndarray, kinds: Sequence[str], base_rate: float, draws: np.ndarray) -> dict[str, float]:
    """Describes decisions `(items, 3)` on the candidates of each item."""
    shares, redrawn = passes.mean(axis=0), draws @ passes / len(passes)
    negatives = [CANDIDATES.index(kind) for kind in kinds[1:]]
    row = dict(zip(CANDIDATES, shares.tolist(), strict=True))
    both = np.vstack([shares, redrawn])
    found = {"recall": both[:, 0], "precision": _at_base_rate(both[:, 0], both[:, negatives].mean(axis=1), base_rate)}
    for name, values in found.items():
        ends = np.nanquantile(values[1:], [0.025, 0.975]) if np.isfinite(values[1:]).any() else (np.nan, np.nan)
        row |= {name: float(values[0]), f"{name}_low": float(ends[0]), f"{name}_high": float(ends[1])}
    return row
