"""What bfloat16 changes, against independent statistics and changes made by hand."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sentence_transformers import SentenceTransformer
from sklearn.metrics import roc_auc_score

from benchmarks import bfloat16
from benchmarks.rows import Row
from helpers import scenarios, scores
from helpers.encode import embed
from helpers.models import ModelError
from helpers.pooling import POOLINGS


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    return scenarios.read().query("language == 'en' and source == 'translation'")


@pytest.fixture(scope="module")
def rows(embedded: Callable[[str], SentenceTransformer], items: pd.DataFrame) -> list[Row]:
    return list(bfloat16.compare(embedded("minilm"), "minilm", items))


def one(rows: list[Row], case: str, dtype: str, measure: str) -> Row:
    (row,) = [row for row in rows if (row.case, row.dtype, row.measure) == (case, dtype, measure)]
    return row


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_auc_and_delta_are_those_of_each_arithmetic(
    rows: list[Row], dtype: str, embedded: Callable[[str], SentenceTransformer], items: pd.DataFrame
) -> None:
    texts = items[["query", "strong", "unrelated"]].to_numpy().T.ravel().tolist()
    asked, strong, unrelated = np.split(embed(embedded("minilm"), texts, ("max",), dtype=dtype)["max"], 3)
    near, far = (asked * strong).sum(axis=1), (asked * unrelated).sum(axis=1)
    auc, delta = (one(rows, "max", dtype, measure) for measure in ("AUC", "Δ"))
    labels = np.repeat([1, 0], len(items))
    assert auc.median == pytest.approx(roc_auc_score(labels, np.concatenate([near, far])), abs=1 / len(items) ** 2)
    assert delta.median == pytest.approx(near.mean() - far.mean(), abs=2e-3)  # other neighbours, other rounding
    assert auc.low <= auc.median <= auc.high
    assert delta.low < delta.median < delta.high


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_change_is_the_difference_of_the_two(rows: list[Row], pooling: str) -> None:
    for measure in ("AUC", "Δ"):
        exact, rough = (one(rows, pooling, dtype, measure).median for dtype in ("float32", "bfloat16"))
        change = one(rows, pooling, bfloat16.BOTH, f"change in {measure}")
        assert change.median == pytest.approx(rough - exact, abs=1e-9)
        assert change.low <= change.median <= change.high
        assert change.note == bfloat16.INTERVAL
    assert one(rows, pooling, bfloat16.BOTH, "change in Δ").median != 0, "bfloat16 is another arithmetic"


@pytest.mark.parametrize("pooling", POOLINGS)
def test_neighbours_matter_in_bfloat16_alone(rows: list[Row], pooling: str) -> None:
    exact, rough = (
        one(rows, pooling, dtype, "largest change of a cosine by neighbours") for dtype in ("float32", "bfloat16")
    )
    assert exact.median < 1e-5 < rough.median < 0.02
    assert exact.note.startswith("32 texts, ")


def test_vectors_that_are_the_same_are_as_near_as_can_be(items: pd.DataFrame) -> None:
    vectors = _unit(np.random.default_rng(0).normal(size=(32, 8)))
    assert list(bfloat16.closeness(vectors, vectors, items).values()) == pytest.approx([1, 1, 0, 1, 1])
    assert bfloat16.largest_change(vectors, vectors) == 0


def test_closeness_sees_one_vector_that_is_changed(items: pd.DataFrame) -> None:
    exact = _unit(np.random.default_rng(0).normal(size=(32, 8)))
    rough = exact.copy()
    rough[0] = -exact[0]  # the first query: the last shall be first
    found = {measure: value for (measure, _), value in bfloat16.closeness(exact, rough, items).items()}
    texts = scores.texts_of(items)
    offered = [texts.index(text) for text in items[list(scenarios.CANDIDATES)].to_numpy().ravel()]
    asked = [texts.index(text) for text in items["query"]]
    before, after = exact[asked] @ exact[offered].T, rough[asked] @ rough[offered].T
    assert found["lowest cosine of a text's two vectors"] == pytest.approx(-1)
    assert -1 < found["cosine that 99 % of the texts exceed"] < 1
    assert found["largest change of a cosine"] == pytest.approx(2 * abs(before[0]).max())
    rho = stats.spearmanr(before.ravel(), after.ravel()).statistic
    assert found["rank correlation of the cosines"] == pytest.approx(rho)
    assert found["same first hit"] == 7 / 8


def test_order_names_the_comparisons_whose_verdict_changes() -> None:
    noise = np.random.default_rng(0).normal(scale=0.01, size=(3, 60))
    exact = _parts({"cls": 0.7 + noise[0], "mean": 0.9 + noise[1], "max": 0.5 + noise[2]})
    rough = _parts({"cls": 0.7 + noise[0], "mean": 0.7 + noise[0], "max": 0.8 + noise[2]})
    poolings = np.array(["cls", "mean", "max"], dtype=object)
    same = {measure: found for (measure, _), found in bfloat16.order(exact, exact, poolings).items()}
    assert same["rank correlation of the poolings by AUC"] == (pytest.approx(1), "the same order")
    assert same["significant in float32"] == (3, "of 3")
    assert same["verdict changes"] == (0, "of 3")
    moved = {measure: found for (measure, _), found in bfloat16.order(exact, rough, poolings).items()}
    said = "mean, cls, max became max, cls, mean"
    assert moved["rank correlation of the poolings by AUC"] == (pytest.approx(-0.816, abs=1e-3), said)
    assert moved["verdict changes"] == (3, "of 3, mean − cls, max − cls, max − mean")


def test_twins_are_compared_once(rows: list[Row]) -> None:
    significant = one(rows, "7 distinct poolings", bfloat16.BOTH, "significant in float32")
    assert significant.note == "of 21"
    assert 0 <= one(rows, "7 distinct poolings", bfloat16.BOTH, "verdict changes").median <= 21


def test_every_study_is_named_even_where_its_model_is_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, device: str) -> None:
        raise ModelError(f"{name} is out of reach.")

    monkeypatch.setattr(bfloat16, "load", load)
    rows = list(bfloat16.measure())
    assert [(row.model, row.corpus) for row in rows] == [
        ("e5-small", "scenarios, zh"),
        ("e5-small", "scenarios, en"),
        ("minilm", "scenarios, en"),
    ]
    assert [row.note for row in rows] == [f"not measured: {row.model} is out of reach." for row in rows]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _parts(values: dict[str, np.ndarray]) -> pd.Series:
    """Makes a column of `scores.measures`, one value for each item."""
    index = [("m", "en", pooling, "s", item) for pooling, items in values.items() for item in range(len(items))]
    return pd.Series(
        np.concatenate([*values.values()]), pd.MultiIndex.from_tuples(index, names=scores.ITEM), name="auc"
    )
