"""Intervals, tests and power against closed forms, hand-computed cases, simulation and independent implementations."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from helpers import scores

TABLE = st.lists(st.tuples(*[st.sampled_from([0.1, 0.2, 0.3, 0.4])] * 3), min_size=2, max_size=9)


def tidy(cosines: np.ndarray, pooling: str = "mean", scenarios: int = 1) -> pd.DataFrame:
    """Makes a score table of `(items, 3)` cosines: strong, weak, unrelated."""
    rows = [
        ("m", "en", pooling, True, f"s{item % scenarios}", str(item), candidate, value)
        for item, values in enumerate(np.asarray(cosines).tolist())
        for candidate, value in zip(scores.CANDIDATES, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=scores.COLUMNS)


def normal(items: int, shift: float, seed: int) -> np.ndarray:
    """Draws cosines whose strong pairs lie `shift` deviations above weak and unrelated ones, tied to their item."""
    generator = np.random.default_rng(seed)
    return 0.6 * generator.normal(size=(items, 1)) + 0.8 * generator.normal(size=(items, 3)) + [shift, 0, 0]


@given(table=TABLE)
@settings(deadline=None)
def test_spearman_is_that_of_scipy(table: list[tuple[float, ...]]) -> None:
    cosines = np.array(table)
    found = scores.summary(tidy(cosines)).iloc[0]
    labels = np.tile([2, 1, 0], len(cosines))
    if np.ptp(cosines) == 0:
        assert np.isnan(found["spearman"])
    else:
        assert found["spearman"] == pytest.approx(stats.spearmanr(labels, cosines.ravel())[0], abs=1e-9)


def test_interval_of_spearman_is_that_of_redrawn_tables() -> None:
    cosines = normal(60, 1.0, seed=1)
    found = scores.summary(tidy(cosines)).iloc[0]
    draws = np.random.default_rng(0).integers(60, size=(3000, 60))
    each = [stats.spearmanr(np.tile([2, 1, 0], 60), cosines[draw].ravel())[0] for draw in draws]
    np.testing.assert_allclose(
        [found["spearman_low"], found["spearman_high"]], np.quantile(each, [0.025, 0.975]), atol=0.03
    )


def test_spearman_of_a_draw_is_that_of_scipy() -> None:
    for cosines in (normal(9, 1.0, seed=12), normal(9, 1.0, seed=13).round(0), np.zeros((9, 3)) + [0.5, 0, 0]):
        draws = np.random.default_rng(0).integers(9, size=(200, 9))
        found = scores._spearman_of_drawn(*cosines.T)(draws)
        expected = [stats.spearmanr(np.tile([2, 1, 0], 9), cosines[draw].ravel())[0] for draw in draws]
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_missing_cosine_wins_nothing() -> None:
    cosines = normal(9, 1.0, seed=14)
    cosines[3, 0] = np.nan
    found = scores.summary(tidy(cosines)).iloc[0]
    assert np.isnan(found[["auc", "auc_weak", "spearman"]].astype(float)).all()
    assert scores.measures(tidy(cosines))["auc"].isna().any()


def test_interval_of_auc_is_that_of_redrawn_samples() -> None:
    for cosines in (normal(30, 1.0, seed=2), normal(30, 1.0, seed=3).round(0)):  # without ties and with many
        found = scores.summary(tidy(cosines), seed=5).iloc[0]
        strong, weak, unrelated = cosines.T
        for name, negative in (("auc", unrelated), ("auc_weak", weak)):
            expected = scores.interval(strong, negative, statistic=scores.auc, seed=5)
            np.testing.assert_allclose(found[[f"{name}_low", f"{name}_high"]].tolist(), expected, atol=1e-9)


def closed_forms(shift: float) -> dict[str, float]:
    """Returns the true values for cosines from `normal`."""
    auc = stats.norm.cdf(shift / 2**0.5)  # of two normals one deviation wide
    within = stats.norm.cdf(shift / (2**0.5 * 0.8))  # in one item, whose own level cancels out
    spearman = 2**0.5 / 3 * (auc + 2 * auc + 0.5 - 2)  # three equal groups without ties; weak against unrelated is 0.5
    half = {"delta": shift, "delta_sd": shift, "auc": auc, "auc_weak": auc}
    return half | {"triplet_accuracy": within, "spearman": spearman}


def test_closed_forms_for_normal_cosines() -> None:
    found = scores.summary(tidy(normal(4000, 1.0, seed=4))).iloc[0]
    for name, value in closed_forms(1.0).items():
        assert found[name] == pytest.approx(value, abs=0.03)
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]


@pytest.mark.parametrize("shift", [0.5, 1.5])
def test_intervals_cover_the_truth_about_as_often_as_they_say(shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "RESAMPLES", 400)
    found = pd.DataFrame([scores.summary(tidy(normal(40, shift, seed))).iloc[0] for seed in range(100, 400)])
    for name, value in closed_forms(shift).items():
        hits = found[f"{name}_low"].le(value) & found[f"{name}_high"].ge(value)
        assert 0.90 <= hits.mean() <= 0.98, name


def test_scenarios_are_summarised_one_by_one() -> None:
    cosines = normal(12, 1.0, seed=7)
    found = scores.summary(tidy(cosines, scenarios=3), by=["scenario"]).set_index("scenario")
    assert found["items"].tolist() == [4, 4, 4]
    alone = scores.summary(tidy(cosines[1::3])).iloc[0]
    assert found.loc["s1", "auc"] == alone["auc"]
    assert found.loc["s1", "delta_low"] == alone["delta_low"]


@given(table=TABLE)
@settings(deadline=None)
def test_measures_average_to_the_summary(table: list[tuple[float, ...]]) -> None:
    rows = tidy(np.array(table))
    found, expected = scores.measures(rows).mean(), scores.summary(rows).iloc[0]
    for name in ("delta", "triplet_accuracy", "auc", "auc_weak"):
        assert found[name] == pytest.approx(expected[name])
    strong, _, unrelated = np.array(table).T
    labels = [1] * len(table) + [0] * len(table)
    assert found["auc"] == pytest.approx(roc_auc_score(labels, [*strong, *unrelated]))


def test_measures_by_hand() -> None:
    found = scores.measures(tidy([[0.9, 0, 0.4], [0.5, 0, 0.6]]))["auc"].tolist()
    assert found == pytest.approx([1 + 1 - 0.75, 0.5 + 0.5 - 0.75])  # beats 2 of 2 and is beaten by 2 of 2; 1 and 1


def test_measures_carry_the_sampling_error_of_an_auc() -> None:
    estimates = [scores.summary(tidy(normal(80, 1.0, seed))).iloc[0]["auc"] for seed in range(60)]
    errors = [scores.measures(tidy(normal(80, 1.0, seed)))["auc"].sem() for seed in range(60)]
    assert np.mean(errors) == pytest.approx(np.std(estimates, ddof=1), rel=0.2)


def test_holm_by_hand() -> None:
    p = pd.Series([0.04, 0.01, np.nan, 0.03, 0.005], list("abcde"))
    assert scores.holm(p).round(10).tolist()[:2] == [0.06, 0.03]  # 0.03 × 2, larger than 0.04 × 1; 0.01 × 3
    assert scores.holm(p).round(10).tolist()[3:] == [0.06, 0.02]  # 0.03 × 2; 0.005 × 4
    assert np.isnan(scores.holm(p)["c"])
    assert scores.holm(pd.Series([0.6, 0.7])).tolist() == [1, 1]
    assert scores.holm(pd.Series([0.04, 0.01], ["same", "same"])).tolist() == [0.04, 0.02]


def test_a_clean_sweep_of_eight_items() -> None:
    better = np.linspace(0.1, 0.3, 8)[:, None] * [1, 0, 0]
    both = pd.concat([tidy(np.zeros((8, 3)), "cls"), tidy(better, "mean")])
    found = scores.paired(scores.measures(both)[["delta"]], ["cls", "mean"]).iloc[0]
    assert found["items_won"] == 8
    assert found["p"] == pytest.approx(2 / 2**8)


def test_two_poolings_of_equal_worth_seldom_look_different() -> None:
    """Their cosines have different scales, and share half of what decides them, as poolings of one model do."""
    hits, generator = 0, np.random.default_rng(8)
    for seed in range(200):
        common = normal(40, 1.0, seed)
        noise = generator.normal(size=(2, 40, 3))
        both = pd.concat([tidy(common + noise[0], "cls"), tidy((common + noise[1]) / 50 + 0.9, "mean")])
        hits += scores.paired(scores.measures(both)[["auc"]].round(9), ["cls", "mean"]).iloc[0]["p"] <= 0.05
    assert 0.01 <= hits / 200 <= 0.10


def test_a_better_pooling_is_found() -> None:
    poor, good = normal(200, 0.5, seed=9), normal(200, 0.5, seed=9) + [0.7, 0, 0]
    each = scores.measures(pd.concat([tidy(poor, "cls"), tidy(good, "mean")]))
    found = scores.paired(each, ["cls", "mean"]).xs("mean − cls", level="compared")
    assert (found["p_holm"] < 0.001).all()
    assert (found["low"] > 0).all()


def test_chosen_counts_who_comes_first() -> None:
    low, high = tidy(np.zeros((9, 3)), "cls"), tidy(np.full((9, 3), 0.5) * [1, 0, 0], "mean")
    each = scores.measures(pd.concat([low, high, high.assign(pooling="max")]))["delta"]
    found = scores.chosen(each)
    assert found.loc["m", "en", "cls"] == 0
    assert found.loc["m", "en", "mean"] == found.loc["m", "en", "max"] == 0.5
    noise = scores.measures(pd.concat([tidy(normal(50, 1.0, seed), str(seed)) for seed in range(4)]))["delta"]
    assert scores.chosen(noise).sum() == pytest.approx(1)
    assert scores.chosen(noise).max() < 1


def test_power_is_that_of_the_t_test() -> None:
    generator = np.random.default_rng(10)
    gains = stats.zscore(generator.normal(size=20_000)) + 0.4
    for items, power, wrong in scores.power(gains, [5, 20, 80]).itertuples(index=False):
        beyond, noncentral = stats.t.isf(0.025, items - 1), stats.nct(items - 1, 0.4 * items**0.5)
        assert power == pytest.approx(noncentral.sf(beyond), abs=0.04)
        assert wrong == pytest.approx(noncentral.cdf(-beyond), abs=0.01)


def test_power_does_not_depend_on_the_sign() -> None:
    gains = np.random.default_rng(11).normal(0.3, 1, size=400)
    pd.testing.assert_frame_equal(scores.power(gains, [4, 40]), scores.power(-gains, [4, 40]))
    assert scores.power(np.zeros(9), [4])["power"].tolist() == [0]
