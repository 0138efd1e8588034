"""Calibration by hand, against scikit-learn, and by simulation: are these the probabilities that they claim to be?"""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import brier_score_loss, log_loss

from helpers import calibration, scores
from helpers.thresholds import ThresholdError

METHODS = pytest.mark.parametrize("method", calibration.METHODS)


def tidy(cosines: np.ndarray, pooling: str = "mean") -> pd.DataFrame:
    """Makes a score table of `(items, 3)` cosines: strong, weak, unrelated."""
    rows = [
        ("m", "en", pooling, True, "s", str(item), candidate, value)
        for item, values in enumerate(np.asarray(cosines, float).tolist())
        for candidate, value in zip(scores.CANDIDATES, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=scores.COLUMNS)


def normal(items: int, seed: int) -> np.ndarray:
    """Draws cosines of strong pairs 2 deviations above those of weak and unrelated ones."""
    return np.random.default_rng(seed).normal(size=(items, 3)) + [2, 0, 0]


def truth(cosine: np.ndarray) -> np.ndarray:
    """Returns the probability that a pair with this cosine from `normal` is strong, not unrelated."""
    return norm.pdf(cosine - 2) / (norm.pdf(cosine - 2) + norm.pdf(cosine))


@METHODS
def test_calibrator_recovers_the_true_probability(method: str) -> None:
    cosines = normal(4000, 0)[:, [0, 2]]
    probability = calibration.calibrator(cosines.ravel(), np.tile([True, False], 4000), method)
    at = np.array([-0.5, 0, 0.5, 1, 1.5, 2, 2.5])
    np.testing.assert_allclose(probability(at), truth(at), atol=0.05)
    assert probability(1.0).shape == (1,)


@METHODS
def test_calibrator_does_not_care_for_the_scale(method: str) -> None:
    cosines, positive = normal(50, 1)[:, [0, 2]].ravel(), np.tile([True, False], 50)
    narrow = calibration.calibrator(0.9 + cosines / 1000, positive, method)
    wide = calibration.calibrator(cosines, positive, method)
    np.testing.assert_allclose(narrow(0.9 + cosines / 1000), wide(cosines), atol=1e-4)


@METHODS
def test_a_base_rate_multiplies_the_odds(method: str) -> None:
    cosines, positive = normal(60, 2)[:, [0, 2]].ravel(), np.tile([True, False], 60)
    half = calibration.calibrator(cosines, positive, method)
    rare = calibration.calibrator(cosines, positive, method, base_rate=0.01)
    np.testing.assert_allclose(rare(cosines), expit(logit(half(cosines)) - np.log(99)), atol=1e-9)


@METHODS
def test_nothing_is_certain(method: str) -> None:
    cosines, positive = np.r_[np.linspace(0.8, 0.9, 10), np.linspace(0.1, 0.2, 10)], np.arange(20) < 10
    probability = calibration.calibrator(cosines, positive, method)
    assert probability([-5, 5]).tolist() == pytest.approx([1 / 22, 21 / 22])
    assert (np.diff(probability(np.linspace(0, 1, 50))) >= 0).all()


@METHODS
def test_without_any_difference_it_says_the_base_rate(method: str) -> None:
    probability = calibration.calibrator([0.5] * 20, [True, False] * 10, method)
    assert probability([0.1, 0.5, 0.9]) == pytest.approx([0.5] * 3)


def test_isotonic_by_hand() -> None:
    cosines, positive = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [False, False, True, False, True, True]
    probability = calibration.calibrator(cosines, positive, "isotonic")
    assert probability(cosines) == pytest.approx([1 / 8, 1 / 8, 1 / 2, 1 / 2, 7 / 8, 7 / 8])


@pytest.mark.parametrize(
    ("cosines", "positive", "options", "error", "said"),
    [
        ([0.1, np.nan], [True, False], {}, ThresholdError, "no cosine may be missing"),
        ([0.1, 0.2], [True, True], {}, ThresholdError, "pairs of both classes"),
        ([0.1, 0.2], [True, False], {"method": "platt"}, ValueError, "'platt' is unknown; use one of logistic, isoto"),
        ([0.1, 0.2], [True, False], {"base_rate": 2}, ValueError, "base_rate 2 is no share"),
    ],
)
def test_calibrator_refuses(cosines: list, positive: list, options: dict, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        calibration.calibrator(cosines, positive, **options)


@METHODS
def test_an_item_does_not_help_to_judge_itself(method: str) -> None:
    cosines = normal(40, 3)
    before = calibration.calibrate(tidy(cosines), method)
    turned = cosines.copy()
    turned[11] = cosines[11, ::-1]  # its strong candidate becomes the unrelated one
    after = calibration.calibrate(tidy(turned), method)
    assert list(before.columns) == [*scores.COLUMNS, "positive", "probability"]
    own = before["item"] == "11"
    assert before.loc[own, "probability"].tolist() == after.loc[own, "probability"].tolist()[::-1]
    assert (before.loc[~own, "probability"] != after.loc[~own, "probability"]).any()


def test_calibrate_leaves_out_what_it_cannot_judge() -> None:
    few, missing = tidy(normal(9, 4)), tidy(np.where(np.arange(120).reshape(40, 3) == 5, np.nan, normal(40, 5)), "cls")
    assert calibration.calibrate(few).empty
    found = calibration.calibrate(pd.concat([few, missing, tidy(normal(12, 6), "max")]))
    assert found["pooling"].unique().tolist() == ["max"]
    empty = calibration.calibrate(few)
    assert calibration.quality(empty).empty
    assert "brier_low" in calibration.quality(empty)
    assert calibration.reliability(empty).empty


def test_negatives_may_be_weak_pairs_too() -> None:
    found = calibration.calibrate(tidy(normal(300, 7)), against=["weak", "unrelated"])
    assert found["positive"].mean() == pytest.approx(1 / 3)
    assert found["probability"].mean() == pytest.approx(1 / 3, abs=0.01)


def test_quality_is_that_of_scikit_learn() -> None:
    judged = calibration.calibrate(tidy(normal(80, 8)))
    found = calibration.quality(judged).iloc[0]
    assert found["brier"] == pytest.approx(brier_score_loss(judged["positive"], judged["probability"]))
    assert found["log_loss"] == pytest.approx(log_loss(judged["positive"], judged["probability"]))
    assert found["skill"] == pytest.approx(1 - found["brier"] / 0.25)
    assert found["brier_low"] < found["brier"] < found["brier_high"]
    assert found["log_loss_low"] < found["log_loss"] < found["log_loss_high"]
    assert found[["items", "base_rate"]].tolist() == [80, 0.5]


def test_reliability_by_hand() -> None:
    judged = calibration.pairs(tidy(normal(40, 9))).assign(probability=np.arange(80) / 100)
    judged["positive"] = np.arange(80) % 10 < 3
    found = calibration.reliability(judged)
    assert found["pairs"].tolist() == [10] * calibration.BINS
    assert found["said"].tolist() == pytest.approx(np.arange(calibration.BINS) / 10 + 0.045)
    assert found["seen"].tolist() == pytest.approx([0.3] * calibration.BINS)
    assert found.loc[0, ["low", "high"]].tolist() == pytest.approx([0.1078, 0.6032], abs=1e-4)  # Wilson's


def test_equal_probabilities_share_a_bin() -> None:
    judged = calibration.pairs(tidy(normal(40, 10))).assign(probability=0.5)
    assert calibration.reliability(judged)[["said", "seen", "pairs"]].to_numpy().tolist() == [[0.5, 0.5, 80]]


@METHODS
def test_in_simulation_what_is_said_is_what_is_seen(method: str) -> None:
    judged = calibration.calibrate(tidy(normal(2000, 11)), method)
    found = calibration.reliability(judged)
    np.testing.assert_allclose(found["seen"], found["said"], atol=0.06)
    best = np.mean((truth(judged["cosine"]) - judged["positive"]) ** 2)
    assert calibration.quality(judged)["brier"].iloc[0] == pytest.approx(best, abs=0.003)


def test_the_interval_of_the_brier_score_covers() -> None:
    shares = truth(normal(200_000, 12)[:, [0, 2]])
    exact = np.mean((shares - [1, 0]) ** 2)
    hits = []
    for run in range(100):
        pairs = calibration.pairs(tidy(normal(150, 1000 + run)))
        found = calibration.quality(pairs.assign(probability=truth(pairs["cosine"]))).iloc[0]
        hits.append(found["brier_low"] <= exact <= found["brier_high"])
    assert np.mean(hits) >= 0.88
