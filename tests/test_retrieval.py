"""Ranks of the right line, by hand-made similarities."""

import numpy as np
import pytest

from helpers import retrieval
from helpers.drift import means
from helpers.scores import ITEM, STUDY, paired

SIMILARITY = [[0.9, 0.5, 0.1], [0.2, 0.2, 0.8], [0.3, 0.3, 0.3]]


@pytest.mark.parametrize(
    ("right", "places"), [([0, 2, 0], [1, 1, 2]), ([2, 0, 2], [3, 2.5, 2]), ([1, 1, 1], [2, 2.5, 2])]
)
def test_ties_share_the_mean_of_their_places(right: list[int], places: list[float]) -> None:
    assert retrieval.ranks(SIMILARITY, right).tolist() == places


def test_rounding_parts_no_tie() -> None:
    assert retrieval.ranks([[0.5, 0.5 + 1e-8, 0.4]], [0]).tolist() == [1.5]
    assert retrieval.ranks([[50.0, 50.0 + 1e-6, 40]], [0]).tolist() == [1.5]


@pytest.mark.parametrize(
    ("similarity", "right", "message"),
    [
        (SIMILARITY, [0, 1], "do not fit"),
        ([0.1, 0.2], [0], "do not fit"),
        (SIMILARITY, [0, 1, 3], "rows 0 to 2"),
        (SIMILARITY, [0, 1, -1], "rows 0 to 2"),
        ([[0.1, np.nan]], [0], "1 similarities are missing"),
    ],
)
def test_refuses_what_has_no_rank(similarity: list, right: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval.ranks(similarity, right)


def test_measures_rank_by_cosine_whatever_the_lengths() -> None:
    lines = np.array([[1.0, 0], [0, 9], [3, 3]])
    questions = np.array([[5.0, 0.1], [0.1, 1], [2, 0.9]])
    found = retrieval.measures({"mean": questions}, {"mean": lines}, [0, 1, 0], "toy", "en")
    assert found.index.names == ITEM
    assert found["hit@1"].tolist() == [1, 1, 0]  # the third points nearer to the diagonal
    assert found["hit@10"].tolist() == [1, 1, 1]
    assert found["mrr"].tolist() == [1, 1, 0.5]


def test_the_lab_s_statistics_take_the_measures() -> None:
    generator = np.random.default_rng(0)
    lines = {pooling: generator.standard_normal((40, 8)) for pooling in ("cls", "mean")}
    noise = {"cls": 3.0, "mean": 0.1}
    questions = {
        pooling: array + noise[pooling] * generator.standard_normal(array.shape) for pooling, array in lines.items()
    }
    found = retrieval.measures(questions, lines, np.arange(40), "toy", "en")
    summary = means(found, STUDY)
    assert summary.loc[("toy", "en", "mean", "hit@1"), "value"] > 0.9
    gap = paired(found, ["cls", "mean"]).loc[("toy", "en", "mrr", "mean − cls")]
    assert gap["low"] > 0.3 and gap["p"] < 0.01


def test_keywords_are_counted_and_nothing_shared_is_nothing() -> None:
    found = retrieval.keywords(["图书", "xyz"], ["图书逾期", "公园里"])
    assert found.shape == (2, 2)
    assert found[0, 0] > 0.5 and found[0, 1] == 0
    assert (found[1] == 0).all()


def test_a_question_without_a_known_word_ranks_all_lines_in_the_middle() -> None:
    silent = {"words": np.zeros((1, 2))}
    found = retrieval.measures(silent, {"words": np.eye(3, 2)}, [0], "no model", "en")
    assert found["mrr"].tolist() == [0.5]


def test_a_long_line_wins_by_its_length() -> None:
    unit = np.array([[1.0, 0], [0.8, 0.6]])
    questions = np.array([[2.0, 0], [0, 3]])
    even = retrieval.by_length(questions, unit, np.array([1.0, 1]), [0, 1])
    assert even["lengths vary by"] == even["first hit changes"] == 0
    assert even["right first, cosine"] == even["right first, dot"] == 1
    long = retrieval.by_length(questions, unit, np.array([1.0, 3]), [0, 1])
    assert long["first hit changes"] == long["right first, dot"] == long["longest first, cosine"] == 0.5
    assert long["longest first, dot"] == 1
    assert long["lengths vary by"] == 0.5


def test_a_map_keeps_an_order_or_turns_it_round() -> None:
    points, places = np.array([[0.0, 0], [1, 0], [3, 0]]), np.array([[0.0, 0], [4, 0]])
    kept = retrieval.flattened(points, places, np.array([[0.9, 0.5, 0.1], [0.1, 0.5, 0.9]]))
    assert kept == {"rank correlation": pytest.approx(1), "same nearest line": 1}
    half = retrieval.flattened(points, places, np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1]]))
    assert half == {"rank correlation": pytest.approx(0), "same nearest line": 0.5}


def test_passing_counts_lines_questions_and_what_is_right_of_them() -> None:
    cosines = np.array([[0.9, 0.5, 0.8], [0.2, 0.7, 0.9]])
    found = retrieval.passing(cosines, [0, 0], 0.7)
    assert found == {"lines": 2, "right": 0.5, "precision": 0.25}
    assert np.isnan(retrieval.passing(cosines, [0, 0], 0.95)["precision"])
