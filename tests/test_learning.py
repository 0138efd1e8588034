"""What a student's curve is made of: the same measures as everywhere else, item by item."""

import numpy as np
import pandas as pd
import pytest

from helpers import scenarios, scores
from helpers.learning import CLOSE, SEARCH, Student, curve, ends, examine, follow, grade, reread


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    return scenarios.read().query("language == 'en'").iloc[::16]


@pytest.fixture(scope="module")
def vectors(items: pd.DataFrame) -> np.ndarray:
    made = np.random.default_rng(0).normal(size=(len(scores.texts_of(items)), 4))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def test_the_parts_of_the_auc_average_to_that_of_the_summary(items: pd.DataFrame, vectors: np.ndarray) -> None:
    found = grade({"one": vectors, "other": vectors[::-1].copy()}, "m", items)
    for reading, made in (("one", vectors), ("other", vectors[::-1])):
        summary = scores.summary(scores.score_vectors({reading: made}, "m", items))
        assert found.xs(reading, level="pooling")["auc"].mean() == pytest.approx(summary["auc"].item())


def test_first_of_24_is_the_chance_that_23_drawn_from_all_others_are_further(
    items: pd.DataFrame, vectors: np.ndarray
) -> None:
    found = grade({"one": vectors}, "m", items)["first of 24"].to_numpy()
    row_of = {text: row for row, text in enumerate(scores.texts_of(items))}
    generator = np.random.default_rng(0)
    for place, item in enumerate(items.itertuples()):
        others = [text for column in ("strong", "weak", "unrelated") for text in items[column] if text != item.strong]
        cosines = np.array([vectors[row_of[item.query]] @ vectors[row_of[text]] for text in others])
        own = vectors[row_of[item.query]] @ vectors[row_of[item.strong]]
        drawn = generator.choice(cosines, size=(4000, 23))
        assert found[place] == pytest.approx((drawn < own).all(axis=1).mean(), abs=0.03)


def test_a_curve_has_each_seed_and_all_of_them_item_by_item() -> None:
    values = {("a", seed, step): np.arange(30) % 7 + seed + 10 * step for seed in (0, 1) for step in (0, 5)}
    found = curve(values).set_index(["arm", "seed", "step"])
    assert len(found) == 6
    assert found.loc[("a", 1, 5), "value"] == pytest.approx(values["a", 1, 5].mean())
    assert found.loc[[("a", 0, 0), ("a", 1, 0)], ["low", "high"]].isna().all(axis=None)
    both = (values["a", 0, 5] + values["a", 1, 5]) / 2
    together = found.loc[("a", "all", 5)]
    assert together["value"] == pytest.approx(both.mean())
    assert (together["low"], together["high"]) == pytest.approx(scores.interval(both))


@pytest.fixture(scope="module")
def student(items: pd.DataFrame) -> Student:
    """One whose vectors are its teacher's behind the training, and noise before it; its first two texts are unseen."""
    generator = np.random.default_rng(1)
    made = generator.normal(size=(2, 2 + 2 * len(scores.texts_of(items)), 4)).astype(np.float32)
    teacher, before = made / np.linalg.norm(made, axis=2, keepdims=True)
    half = before[: 2 + len(scores.texts_of(items))]
    way = {0: {"cls": before, "mean": teacher}, 8: {"cls": teacher, "mean": before}, 4: {"cls": half}}
    return Student("m", "pupil", "cls", teacher, {0: way, 1: way})


def test_a_student_is_followed_on_unseen_texts_and_on_the_first_items(items: pd.DataFrame, student: Student) -> None:
    found = follow([student], items, unseen=2)
    assert list(found.loc[found["seed"].eq(0) & found["measure"].eq(CLOSE), "step"]) == [0, 4, 8]
    close = ends(found)[CLOSE].loc["pupil"]
    assert close[8] == pytest.approx(1, abs=1e-6)
    assert close[0] == pytest.approx((student.teacher[:2] * student.ways[0][0]["cls"][:2]).sum(axis=1).mean())
    texts = len(scores.texts_of(items))
    first = grade({"": student.teacher[2 : 2 + texts]}, "m", items)[scores.FIRST].mean()
    assert ends(found)[SEARCH].loc["pupil", 8] == pytest.approx(first)


def test_the_examination_is_of_the_last_texts_and_compares_before_after_and_teacher(
    items: pd.DataFrame, student: Student
) -> None:
    result, together = examine([student], items)
    readings = {"before": student.ways[0][0]["cls"], "after": student.teacher, "teacher": student.teacher}
    last = {name: vectors[-len(scores.texts_of(items)) :] for name, vectors in readings.items()}
    means = grade(last, "m", items).groupby("pooling").mean()
    assert list(result["seed"]) == [0, 0, 1, 1]
    assert list(result["measure"]) == ["auc", "first of 24"] * 2
    for row in result.itertuples():
        expected = means[row.measure]
        assert (row.before, row.after, row.teacher) == pytest.approx(tuple(expected[["before", "after", "teacher"]]))
        assert row.gain == pytest.approx(expected["after"] - expected["before"], abs=1e-5)
        assert row.gain_low < row.gain < row.gain_high
        assert (row.left, row.left_low, row.left_high, row.left_p_holm) == (0, 0, 0, 1)
    assert together[["model", "arm"]].to_numpy().tolist() == [["m", "pupil"]]
    assert together["after"].item() == pytest.approx(means["auc"]["after"])
    assert together["before_low"].item() < together["before"].item() < together["before_high"].item()


def test_a_student_is_read_through_other_poolings_and_its_own_is_compared_with_the_usual_one(
    items: pd.DataFrame, student: Student
) -> None:
    result = reread([student], items, ["mean", "cls"], "mean")
    assert result[["student", "seed", "measure"]].to_numpy().tolist() == [
        ["pupil", seed, measure] for seed in (0, 1) for measure in ("auc", "first of 24")
    ]
    last = {name: vectors[-len(scores.texts_of(items)) :] for name, vectors in student.ways[0][8].items()}
    expected = grade(last, "m", items).groupby("pooling").mean()
    for row in result.itertuples():
        assert (row.mean, row.cls) == pytest.approx(tuple(expected.loc[["mean", "cls"], row.measure]))
        assert row.difference == pytest.approx(row.cls - row.mean, abs=1e-5)
        assert row.low < row.difference < row.high and 0 < row.p_holm <= 1
