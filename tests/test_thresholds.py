"""Thresholds by hand, against scikit-learn, and by simulation: do they keep out of sample what they promise?"""

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sentence_transformers import SentenceTransformer
from sklearn.metrics import precision_recall_curve

from helpers import scores, thresholds
from helpers.encode import embed
from helpers.scenarios import read
from helpers.thresholds import ThresholdError

STUDY = ("m", "en", "mean")
PAIRS = st.lists(st.tuples(st.sampled_from(np.arange(9) / 10), st.booleans()), min_size=20, max_size=60)
SHARES = st.sampled_from([0.3, 0.5, 0.6, 2 / 3, 0.75, 0.8, 0.9])


def tidy(cosines: np.ndarray, study: tuple[str, str, str] = STUDY) -> pd.DataFrame:
    """Makes a score table of `(items, 3)` cosines: strong, weak, unrelated."""
    model, language, pooling = study
    rows = [
        (model, language, pooling, True, "s", str(item), candidate, value)
        for item, values in enumerate(np.asarray(cosines, float).tolist())
        for candidate, value in zip(scores.CANDIDATES, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=scores.COLUMNS)


def normal(items: int, shift: float, seed: int) -> np.ndarray:
    """Draws cosines of strong pairs `shift` deviations above the unrelated ones, weak between, tied to their item."""
    generator = np.random.default_rng(seed)
    return 0.6 * generator.normal(size=(items, 1)) + 0.8 * generator.normal(size=(items, 3)) + [shift, shift / 2, 0]


def true_precision(threshold: float, shift: float, base_rate: float = 0.5) -> float:
    hits, alarms = stats.norm.sf(threshold - shift), stats.norm.sf(threshold)
    return base_rate * hits / (base_rate * hits + (1 - base_rate) * alarms)


def test_bands_by_hand() -> None:
    table = tidy([[0.65, 0.5, 0.2], [0.64, 0.35, 0.34], [0.9, np.nan, 0.45], [0.1, 0.7, 0.449]])
    found = thresholds.bands(table, [0.35, 0.45, 0.65])
    assert list(found.columns) == [*scores.STUDY, "candidate", "≥ 0.65", "0.45 to 0.65", "0.35 to 0.45", "< 0.35"]
    assert found["candidate"].tolist() == list(scores.CANDIDATES)
    np.testing.assert_allclose(found.iloc[:, 4:], [[0.5, 0.25, 0, 0.25], [0.25, 0.25, 0.25, 0], [0, 0.25, 0.25, 0.5]])


def test_one_edge_makes_two_bands() -> None:
    assert thresholds.bands(tidy([[1, 0.5, 0]]), [0.5]).iloc[:, 4:].to_numpy().tolist() == [[1, 0], [1, 0], [0, 1]]


def test_random_cosines_are_those_of_the_score_table(embedded: Callable[[str], SentenceTransformer]) -> None:
    items = read().query("language == 'en' and source == 'translation'")
    vectors = embed(embedded("minilm"), scores.texts_of(items), ("mean",))
    table = scores.score_vectors(vectors, "minilm", items, every_candidate=True)
    own = table["scenario"].eq(table["candidate_scenario"])
    found = thresholds.random_cosines(vectors["mean"], items)
    assert found.shape == (8, 8, 3)
    assert np.isnan(found[np.eye(8, dtype=bool)]).all()
    for place, candidate in enumerate(scores.CANDIDATES):
        expected = table.loc[table["candidate"].eq(candidate) & ~own, "cosine"]
        np.testing.assert_allclose(found[..., place][~np.eye(8, dtype=bool)], expected, atol=2e-6)


def test_random_cosines_of_queries_that_are_treated_in_another_way() -> None:
    items = pd.DataFrame([["a", "b", "c", "d"], ["e", "f", "g", "h"]], columns=["query", *scores.CANDIDATES])
    generator = np.random.default_rng(0)
    vectors, queries = generator.normal(size=(2, 8, 5))
    found = thresholds.random_cosines(vectors, items, queries)
    cosine = queries[4] @ vectors[2] / np.linalg.norm(queries[4]) / np.linalg.norm(vectors[2])
    assert found[1, 0, 1] == pytest.approx(cosine, abs=1e-6)


def test_ranges_by_hand() -> None:
    table = pd.concat([tidy([[0.5, 0, 0], [0.7, 0, 0]]), tidy([[0, 0, 0]], ("m", "en", "cls"))])
    cube = np.linspace(0, 1, 12).reshape(2, 2, 3)
    cube[0, 0] = np.nan
    found = thresholds.ranges(table, {STUDY: cube})
    assert found["kind"].tolist() == ["random", "strong"]  # and nothing of cls, which has no random pairs
    assert found[0.5].tolist() == pytest.approx([np.median(np.linspace(0, 1, 12)[3:]), 0.6])
    assert found[0.75].iloc[1] == pytest.approx(0.65)


def test_choose_by_hand() -> None:
    cosines = np.arange(20) / 20
    positive = np.arange(20) >= 8  # the twelve highest
    assert thresholds.choose(cosines, positive, precision=0.9) == 7 / 20  # 12 of 13 are right
    assert thresholds.choose(cosines, positive, precision=0.95) == 8 / 20
    assert thresholds.choose(cosines, positive, recall=0.9) == 9 / 20  # 11 of 12 pass
    assert thresholds.choose(cosines, positive, recall=0.95) == 8 / 20
    assert thresholds.choose(cosines, positive, precision=0.5, base_rate=0.1) == 8 / 20  # one alarm is 0.47
    assert thresholds.choose(cosines, positive, recall=0.1) == 10 / 20  # fewer than ten pairs prove nothing


def test_equal_cosines_pass_together() -> None:
    cosines = np.repeat([0.9, 0.5], 10)
    positive = np.array([True] * 8 + [False] * 2 + [True] * 2 + [False] * 8)
    assert thresholds.choose(cosines, positive, precision=0.8) == 0.9
    with pytest.raises(ThresholdError, match="out of reach: 0.800 is the most"):
        thresholds.choose(cosines, positive, precision=0.81)


def test_a_target_that_is_met_exactly_is_met() -> None:
    cosines, positive = np.arange(30) / 30, np.arange(30) % 10 > 0
    assert thresholds.choose(cosines, positive, precision=0.9) == 0
    assert thresholds.choose(cosines, positive, recall=1 - 1 / 27) == 2 / 30


@given(pairs=PAIRS, target=SHARES, base_rate=st.sampled_from([None, 0.1, 0.5]))
@settings(deadline=None, max_examples=200)
def test_choose_agrees_with_scikit_learn(
    pairs: list[tuple[float, bool]], target: float, base_rate: float | None
) -> None:
    cosines, positive = np.array(pairs).T
    positive = positive.astype(bool)
    assume(positive.any() and not positive.all())
    share = positive.mean()
    rate = share if base_rate is None else base_rate
    weight = np.where(positive, rate / share, (1 - rate) / (1 - share))
    precision, recall, at = precision_recall_curve(positive, cosines, sample_weight=weight)
    enough = np.array([(cosines >= one).sum() >= thresholds.FEWEST for one in at])
    for aim, curve, pick in (("precision", precision, min), ("recall", recall, max)):
        meets = at[(curve[:-1] >= target - 1e-9) & enough]
        if len(meets):
            assert thresholds.choose(cosines, positive, **{aim: target}, base_rate=base_rate) == pick(meets)
        else:
            with pytest.raises(ThresholdError, match=f"{aim.title()} .* is out of reach"):
                thresholds.choose(cosines, positive, **{aim: target}, base_rate=base_rate)


@pytest.mark.parametrize(
    ("cosines", "positive", "said"),
    [
        ([0.1, np.nan], [True, False], "1 of 2 cosines are missing"),
        ([0.1, 0.2], [True, True], "All 2 pairs are of one class"),
        ([0.1, 0.2], [False, False], "All 2 pairs are of one class"),
        ([0.1, 0.2], [True, False], "Recall 0.9 is out of reach: there are only 2 pairs"),
    ],
)
def test_no_threshold_without_pairs_to_choose_on(cosines: list[float], positive: list[bool], said: str) -> None:
    with pytest.raises(ThresholdError, match=said):
        thresholds.choose(cosines, positive, recall=0.9)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "pass precision or recall"),
        ({"precision": 0.9, "recall": 0.9}, "and not both"),
        ({"precision": 90}, "precision 90 is no share"),
        ({"recall": 0}, "recall 0 is no share"),
        ({"recall": 0.9, "base_rate": 1}, "base_rate 1 is no share"),
    ],
)
def test_targets_are_shares(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        thresholds.choose([0.1, 0.2], [True, False], **wrong)
    with pytest.raises(ValueError, match=said):
        thresholds.find(tidy(normal(20, 2, 0)), **wrong)


@pytest.mark.parametrize("against", [(), ("strong",), ("weak", "other"), "random"])
def test_unknown_negatives(against: object) -> None:
    for function in (thresholds.pairs, thresholds.curve):
        with pytest.raises(ValueError, match="names no negatives; use weak or unrelated, or both"):
            function(tidy(normal(20, 2, 0)), against)


def test_pairs_by_hand() -> None:
    table = tidy([[0.9, 0.8, 0.1], [0.7, 0.6, 0.2]])
    assert thresholds.pairs(table)["cosine"].tolist() == [0.9, 0.1, 0.7, 0.2]
    assert thresholds.pairs(table)["positive"].tolist() == [True, False] * 2
    assert thresholds.pairs(table, "weak")["cosine"].tolist() == [0.9, 0.8, 0.7, 0.6]
    assert len(thresholds.pairs(table, ["weak", "unrelated"])) == 6


def test_find_chooses_what_choose_would() -> None:
    table = tidy(normal(100, 2, 1))
    for against, rate in ((["unrelated"], 0.5), (["weak", "unrelated"], 1 / 3)):
        chosen = thresholds.find(table, recall=0.8, against=against).iloc[0]
        pairs = thresholds.pairs(table, against)
        assert chosen["threshold"] == thresholds.choose(pairs["cosine"], pairs["positive"], recall=0.8)
        assert chosen[["aim", "target", "items", "note"]].tolist() == ["recall", 0.8, 100, ""]
        assert chosen["base_rate"] == pytest.approx(rate)
        assert chosen["threshold_low"] <= chosen["threshold"] <= chosen["threshold_high"]


def test_find_judges_each_item_by_a_threshold_that_never_saw_it() -> None:
    cosines = np.column_stack([np.linspace(0.5, 0.6, 20), np.full(20, 0.3), np.linspace(0.1, 0.2, 20)])
    cosines[7] = [0.05, 0.3, 0.01]  # the one strong pair that is lower than all unrelated ones
    found = thresholds.find(tidy(cosines), recall=0.99).iloc[0]
    assert found["threshold"] == 0.05  # on all items, nothing is missed
    assert found["recall"] <= 0.95  # but without item 7 its pair is missed, and so is each new lowest one
    assert found["strong"] == found["recall"]
    assert found["weak"] == 0.9  # judged without item 7, its fold's weak pairs fail, too


def test_find_keeps_studies_apart_and_in_order() -> None:
    low, high = normal(60, 2, 2), normal(60, 2, 2) + 5
    table = pd.concat([tidy(high, ("b", "en", "mean")), tidy(low, ("a", "en", "mean"))])
    found = thresholds.find(table, precision=0.8)
    assert found["model"].tolist() == ["b", "a"]
    assert found["threshold"].diff().iloc[1] == pytest.approx(-5)
    same = ["precision", "recall", "strong", "weak", "unrelated", "recall_low", "precision_high"]
    np.testing.assert_allclose(found.loc[0, same].astype(float), found.loc[1, same].astype(float))


def test_a_rarer_positive_needs_a_higher_threshold() -> None:
    table = tidy(normal(400, 3, 3))
    found = pd.concat([thresholds.find(table, precision=0.9, base_rate=rate) for rate in (0.5, 0.2, 0.1)])
    assert found["threshold"].is_monotonic_increasing
    assert found["recall"].is_monotonic_decreasing
    assert found["base_rate"].tolist() == [0.5, 0.2, 0.1]


@pytest.mark.parametrize(
    ("cosines", "said"),
    [
        (normal(9, 3, 0), "9 items are too few to choose on: 10 at least"),
        (normal(40, 0, 0), "out of reach|by luck"),
        (normal(40, 1.2, 4), "Precision 0.9 is met at .* but by luck"),
        (np.full((40, 3), 0.5), "Precision 0.9 is out of reach: 0.500 is the most"),
        (np.where(np.arange(120).reshape(40, 3) == 5, np.nan, normal(40, 2, 0)), "1 of 80 cosines are missing"),
    ],
)
def test_find_says_why_there_is_no_threshold(cosines: np.ndarray, said: str) -> None:
    found = thresholds.find(tidy(cosines), precision=0.9)
    assert re.search(said, found["note"].iloc[0])
    assert found[["threshold", "threshold_low", "precision", "recall", "weak"]].isna().all(axis=None)
    assert thresholds.readable(found).empty
    assert thresholds.sentence(found.iloc[0].to_dict()) == found["note"].iloc[0]


def test_in_simulation_the_promise_is_kept_and_the_intervals_cover() -> None:
    shift, target, runs = 2.0, 0.9, 80
    exact = np.linspace(-2, 4, 6001)
    exact = exact[np.argmax(true_precision(exact, shift) >= target)]
    found = [thresholds.find(tidy(normal(200, shift, 100 + run)), precision=target) for run in range(runs)]
    found = pd.concat(found)
    truth = true_precision(found["threshold"].to_numpy(), shift)
    assert found["precision"].mean() == pytest.approx(target, abs=0.01)
    assert truth.mean() == pytest.approx(target, abs=0.01)
    reality = {"precision": truth, "recall": stats.norm.sf(found["threshold"] - shift), "threshold": exact}
    covers = {
        name: (found[f"{name}_low"] <= value) & (value <= found[f"{name}_high"]) for name, value in reality.items()
    }
    for name, share in covers.items():
        assert share.mean() >= 0.85, (name, share.mean())


def test_passing_by_hand() -> None:
    table = tidy([[0.9, 0.8, 0.1], [0.7, 0.2, 0.6], [0.4, 0.5, 0.3], [0.5, 0.1, 0.2]])
    found = thresholds.passing(table, 0.5).iloc[0]
    assert found[["strong", "weak", "unrelated", "recall"]].tolist() == [0.75, 0.5, 0.25, 0.75]
    assert found["precision"] == 0.75
    assert thresholds.passing(table, 0.5, against=["weak", "unrelated"])["precision"].iloc[0] == 3 / 6
    at_rate = thresholds.passing(table, 0.5, base_rate=0.1)["precision"].iloc[0]
    assert at_rate == pytest.approx(0.1 * 0.75 / (0.1 * 0.75 + 0.9 * 0.25))


def test_where_nothing_passes_no_precision_is_told() -> None:
    found = thresholds.passing(tidy([[0.9, 0, 0]] * 3), 0.95).iloc[0]
    assert found["recall"] == 0
    assert np.isnan(found["precision"])
    assert np.isnan(found["precision_low"])


def test_a_missing_cosine_does_not_count_as_refused() -> None:
    with pytest.raises(thresholds.ThresholdError, match="1 cosines of .* are missing"):
        thresholds.passing(tidy([[0.9, 0.1, 0.1], [np.nan, 0.2, 0.2]]), 0.5)


def test_a_base_rate_that_is_none_is_refused_by_all() -> None:
    table = tidy(normal(20, 2, 5))
    with pytest.raises(ValueError, match="base_rate 1.5 is no share"):
        thresholds.curve(table, base_rate=1.5)
    assert list(thresholds.curve(table.assign(cosine=np.nan)).columns) == [*scores.STUDY, *thresholds.CURVE]


def test_interval_of_passing_is_that_of_a_share() -> None:
    table = tidy(normal(300, 2, 5))
    found = thresholds.passing(table, 1.5).iloc[0]
    expected = stats.binomtest(int(round(found["recall"] * 300)), 300).proportion_ci(method="wilson")
    assert found[["recall_low", "recall_high"]].tolist() == pytest.approx([expected.low, expected.high], abs=0.01)


def test_curve_follows_scikit_learn() -> None:
    table = tidy(normal(400, 2, 6))
    found = thresholds.curve(table, ["unrelated"])
    assert found["recall"].tolist() == pytest.approx(np.arange(1, 51) / 50)
    assert (found["low"] <= found["precision"] + 0.01).all()
    assert (found["precision"] <= found["high"]).all()
    pairs = thresholds.pairs(table)
    precision, recall, _ = precision_recall_curve(pairs["positive"], pairs["cosine"])
    expected = [precision[recall >= share - 1e-9][-1] for share in found["recall"]]
    np.testing.assert_allclose(found["precision"], expected, atol=0.02)
    rare = thresholds.curve(table, ["unrelated"], base_rate=0.1)
    odds = found["low"] / (1 - found["low"]).clip(1e-12) / 9
    np.testing.assert_allclose(rare["low"], odds / (1 + odds), atol=1e-6)


def test_curve_leaves_out_what_has_no_cosine() -> None:
    assert thresholds.curve(tidy(np.full((12, 3), np.nan))).empty


def test_only_what_follows_the_scale_transfers() -> None:
    cosines = normal(300, 2, 7)
    places = {
        ("a", "en", "mean"): cosines,
        ("a", "en", "cls"): cosines / 2,
        ("a", "zh", "mean"): cosines + 1,
        ("b", "en", "mean"): cosines + 20,
    }
    judged = pd.concat([thresholds.pairs(tidy(values, study)) for study, values in places.items()])
    judged["place"] = judged.groupby(scores.STUDY)["cosine"].rank()
    moves = thresholds.transfer(judged, ["cosine", "place"], 0.9)
    assert len(moves) == 2 * 4 * 4
    kinds = {"home": 4, "another pooling": 2, "another language": 4, "another model": 6}
    assert moves.query("currency == 'place'")["move"].value_counts().to_dict() == kinds
    kept = moves.query("currency == 'place' or move == 'home'")
    assert kept["precision"].between(0.89, 0.92).all()
    far = moves.query("currency == 'cosine' and move == 'another model'")
    assert set(far["strong"]) == {0.0, 1.0}
    assert far["unrelated"].equals(far["strong"].rename("unrelated"))
    assert far["precision"].dropna().eq(0.5).all()
    assert list(moves.columns) == ["currency", "move", "strong", "unrelated", "precision"]
    turned = thresholds.transfer(judged[::-1], ["cosine"], 0.9)
    assert turned["strong"].mean() == pytest.approx(moves.query("currency == 'cosine'")["strong"].mean(), abs=0.01)


def test_a_home_without_a_threshold_lets_nothing_pass() -> None:
    judged = thresholds.pairs(tidy(np.full((20, 3), 0.5)))
    moves = thresholds.transfer(judged, ["cosine"], 0.9)
    assert moves[["strong", "unrelated"]].to_numpy().tolist() == [[0, 0]]
    assert moves["precision"].isna().all()


def test_words_for_what_was_found() -> None:
    found = thresholds.find(tidy(normal(100, 2, 8) / 10), precision=0.9)
    shown = thresholds.readable(found).iloc[0]
    assert re.fullmatch(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", shown["threshold"])
    assert re.fullmatch(r"0\.\d\d \[0\.\d\d, [01]\.\d\d\]", shown["precision"])
    said = thresholds.sentence(found.iloc[0].to_dict())
    assert said.startswith(f"cut at {found['threshold'].iloc[0]:.3f} (")
    assert "where 50% of the pairs are strong" in said


def test_folds_keep_items_together() -> None:
    item = np.repeat(np.arange(25), 2)
    parts = list(thresholds.folds(item, 0))
    assert len(parts) == thresholds.FOLDS
    assert sorted(np.concatenate([held_out for _, held_out in parts])) == list(range(50))
    for others, held_out in parts:
        assert not set(item[others]) & set(item[held_out])
