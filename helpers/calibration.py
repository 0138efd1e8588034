"""Cosines turned into probabilities, and how far these can be believed.

A query and its strong candidate are a positive pair, as in `thresholds`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from helpers.scores import ITEM, STUDY, interval
from helpers.thresholds import FEWEST, ThresholdError, check_share, folds, pairs

METHODS = ("logistic", "isotonic")
RIDGE = 1e-3  # on standardised cosines: matters only where they part the classes wholly
BINS = 8


def calibrator(
    cosines: ArrayLike, positive: ArrayLike, method: str = "logistic", base_rate: float | None = None
) -> Callable[[ArrayLike], np.ndarray]:
    """Fits what turns a cosine into the probability that the pair is a positive one.

    Args:
        cosines: One for each labelled pair.
        positive: Whether the pair is a positive one.
        method: "logistic" fits a sigmoid (Platt, 1999): two numbers, content with few pairs. "isotonic" fits any curve
            that never falls (Zadrozny and Elkan, 2002), and wants hundreds.
        base_rate: The share of positives where it will be used; the odds are multiplied to fit (Elkan, 2001).

    Returns:
        A function of cosines. No probability comes nearer to 0 or 1 than so many pairs can tell, 1 / (pairs + 2).

    Raises:
        ThresholdError: A cosine is missing, or all pairs are of one class.
        ValueError: The method is unknown, or the base rate no share.
    """
    cosines, positive = np.asarray(cosines, float), np.asarray(positive, bool)
    check_share("base_rate", base_rate)
    if method not in METHODS:
        raise ValueError(f"The method {method!r} is unknown; use one of {', '.join(METHODS)}.")
    if np.isnan(cosines).any() or positive.all() or not positive.any():
        raise ThresholdError("To calibrate takes pairs of both classes, and no cosine may be missing.")
    if method == "isotonic":
        steps = IsotonicRegression(out_of_bounds="clip").fit(cosines, positive)
    else:
        sigmoid = make_pipeline(StandardScaler(), LogisticRegression(C=1 / RIDGE)).fit(cosines[:, None], positive)
    least = 1 / (len(cosines) + 2)
    shift = 0 if base_rate is None else logit(base_rate) - logit(positive.mean())

    def probability(values: ArrayLike) -> np.ndarray:
        values = np.atleast_1d(np.asarray(values, float))
        found = steps.predict(values) if method == "isotonic" else sigmoid.predict_proba(values[:, None])[:, 1]
        return expit(logit(found.clip(least, 1 - least)) + shift)

    return probability


def calibrate(
    scores: pd.DataFrame, method: str = "logistic", *, against: Sequence[str] = ("unrelated",), seed: int = 0
) -> pd.DataFrame:
    """Gives each pair the probability that a `calibrator` fitted on other items gives it.

    Args:
        scores: A table as from `scores.score`; studies of fewer than `FEWEST` items, or with missing cosines, are left
            out.
        method: See `calibrator`.
        against: The negatives.
        seed: Seed of the folds.

    Returns:
        The pairs of the table, strong and negative, with the columns `positive` and `probability`.
    """
    tables = []
    for _, rows in pairs(scores, against).groupby(STUDY, sort=False):
        item = rows.groupby(ITEM, sort=False).ngroup().to_numpy()
        if item.max() + 1 < FEWEST or rows["cosine"].isna().any():
            continue
        cosines, positive, found = rows["cosine"].to_numpy(), rows["positive"].to_numpy(), np.empty(len(rows))
        for others, held_out in folds(item, seed):
            found[held_out] = calibrator(cosines[others], positive[others], method)(cosines[held_out])
        tables.append(rows.assign(probability=found))
    return pd.concat(tables, ignore_index=True) if tables else pairs(scores[:0]).assign(probability=0.0)


def quality(judged: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Says how good probabilities are: the Brier score and the log loss, both 0 for a prophet, lower being better.

    Args:
        judged: Rows with `positive` and a `probability` that is never 0 or 1, as from `calibrate`.
        seed: Seed of the resampling.

    Returns:
        One row for each study with `items`, `base_rate`, `brier` and `log_loss`, with 95 % bootstrap intervals over
        items, and `skill`, the share of the Brier score of one who always says the base rate that is saved.
    """
    rows = []
    for study, some in judged.groupby(STUDY, sort=False):
        truth, said = some["positive"].astype(float), some["probability"]
        loss = pd.DataFrame({"brier": (said - truth) ** 2, "log_loss": -np.log(np.where(truth, said, 1 - said))})
        each, rate = loss.groupby([some["scenario"], some["item"]], sort=False).mean(), truth.mean()
        row = dict(zip(STUDY, study, strict=True)) | {"items": len(each), "base_rate": rate}
        for name in loss:
            ends = interval(each[name].to_numpy(), seed=seed)
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), (each[name].mean(), *ends), strict=True))
        rows.append(row | {"skill": 1 - row["brier"] / (rate * (1 - rate))})
    ends = [f"{name}{end}" for name in ("brier", "log_loss") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=[*STUDY, "items", "base_rate", *ends, "skill"])


def reliability(judged: pd.DataFrame) -> pd.DataFrame:
    """Compares what was said with what was so, in `BINS` bins of as many pairs each as ties allow.

    Args:
        judged: Rows with `positive` and `probability`.

    Returns:
        One row for each study and bin with the mean of what was `said`, the share of positives `seen` with its 95 %
        interval `low` and `high` (Wilson's, which takes pairs as independent), and `pairs`.
    """
    rows = []
    for study, some in judged.groupby(STUDY, sort=False):
        for _, part in some.groupby(np.ceil(some["probability"].rank(pct=True) * BINS)):
            seen = stats.binomtest(int(part["positive"].sum()), len(part))
            low, high = seen.proportion_ci(method="wilson")
            row = {
                "said": part["probability"].mean(),
                "seen": seen.statistic,
                "low": low,
                "high": high,
                "pairs": len(part),
            }
            rows.append(dict(zip(STUDY, study, strict=True)) | row)
    return pd.DataFrame(rows, columns=[*STUDY, "said", "seen", "low", "high", "pairs"])
