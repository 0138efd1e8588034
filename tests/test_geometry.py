"""The shape of clouds against closed forms, and postprocessing against NumPy loops that fit and score each fold."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold

from helpers import geometry, scores
from helpers.scenarios import CANDIDATES, COLUMNS

KEY = ["pooling", "scenario", "item", "candidate"]


def table(items: int) -> pd.DataFrame:
    """Makes items whose texts are numbered; some texts stand in two items."""
    texts = np.arange(4 * items).reshape(items, 4)
    texts[items // 2, 3] = texts[0, 3]
    texts[items - 1, 1] = texts[1, 2]
    rows = [("en", f"s{item % 3}", str(item), *map(str, texts[item]), "own") for item in range(items)]
    return pd.DataFrame(rows, columns=list(COLUMNS), index=np.arange(items) * 7 + 100)


def cloud(scenarios: pd.DataFrame, dim: int, seed: int) -> np.ndarray:
    """Draws one vector for each text, from an uneven cloud far from the origin."""
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(len(scores.texts_of(scenarios)), dim)) @ generator.normal(size=(dim, dim))
    return mixed + generator.normal(size=dim) * 5


def folds(scenarios: pd.DataFrame, seed: int = 0) -> list[pd.DataFrame]:
    split = KFold(geometry.FOLDS, shuffle=True, random_state=seed).split(scenarios)
    return [scenarios.iloc[held_out] for _, held_out in split]


def cosines(found: pd.DataFrame) -> pd.Series:
    return found.set_index(KEY)["cosine"].sort_index()


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    return first @ second / (first @ first * (second @ second)) ** 0.5


def centred(fitting: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    mean = fitting.sum(axis=0) / len(fitting)
    return lambda vector: vector - mean


def whitened(fitting: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    mean = fitting.mean(axis=0)
    values, axes = np.linalg.eigh(np.cov(fitting.T))
    kept = np.argsort(values)[::-1][: min(64, len(fitting) // 4)]
    return lambda vector: (vector - mean) @ axes[:, kept] / values[kept] ** 0.5


# --- shape --------------------------------------------------------------------------------------------------------


def test_random_cosine_is_that_of_a_double_loop() -> None:
    vectors = np.random.default_rng(0).normal(1, 1, size=(9, 5))
    each = [cosine(vectors[i], vectors[j]) for i in range(9) for j in range(i)]
    assert geometry.random_cosine(vectors) == pytest.approx((np.mean(each), np.std(each)))


def test_random_cosine_of_equal_opposite_and_round_clouds() -> None:
    lengths = np.arange(1, 8)[:, None]
    assert geometry.random_cosine(lengths * [3.0, 4.0]) == pytest.approx((1, 0), abs=1e-7)
    assert geometry.random_cosine(np.array([[1.0, 2.0], [-2.0, -4.0]])) == pytest.approx((-1, 0))
    mean, deviation = geometry.random_cosine(np.random.default_rng(1).normal(size=(600, 50)))
    assert mean == pytest.approx(0, abs=0.005)
    assert deviation == pytest.approx(50**-0.5, rel=0.02)  # of the cosine of two random directions


def test_of_many_texts_a_choice_from_every_role_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "ENOUGH", 100)
    vectors = np.tile(np.eye(4), (100, 1))  # queries, strong, weak and unrelated texts each in a direction of their own
    mean, _ = geometry.random_cosine(vectors)
    assert 0.2 < mean < 0.3  # a quarter of all pairs share a role
    ten = [cosine(vectors[i], vectors[j]) for i in range(10) for j in range(i)]
    assert geometry.random_cosine(vectors[:10])[0] == pytest.approx(np.mean(ten))


def test_effective_dimension_of_known_eigenvalues() -> None:
    axes = np.linalg.qr(np.random.default_rng(3).normal(size=(30, 4)))[0]
    even = np.linalg.qr(axes - axes.mean(axis=0))[0]  # orthonormal columns of mean 0
    assert geometry.effective_dimension(even * np.sqrt([4, 1, 1, 0])) == pytest.approx(6**2 / 18)
    assert geometry.effective_dimension(even) == pytest.approx(4)


def test_effective_dimension_of_a_round_cloud_and_of_a_line() -> None:
    generator = np.random.default_rng(4)
    assert geometry.effective_dimension(generator.normal(size=(20_000, 12))) == pytest.approx(12, rel=0.01)
    assert geometry.effective_dimension(generator.normal(size=(50, 1)) * [1, 2, 3] + [5, 0, 9]) == pytest.approx(1)


def test_effective_dimension_knows_no_place_scale_or_turn() -> None:
    generator = np.random.default_rng(5)
    vectors = generator.normal(size=(40, 6)) * [3, 2, 1, 1, 0.5, 0.1]
    turned = vectors @ np.linalg.qr(generator.normal(size=(6, 6)))[0] * 100 + 7
    assert geometry.effective_dimension(turned) == pytest.approx(geometry.effective_dimension(vectors))


def test_the_shape_of_each_pooling_is_a_row() -> None:
    generator = np.random.default_rng(14)
    vectors = {"cls": generator.normal(size=(30, 4)), "mean": generator.normal(2, 1, size=(30, 7)).astype(np.float32)}
    found = geometry.shape(vectors)
    assert found.columns.tolist() == ["random cosine", "spread", "dimension"]
    assert found.index.tolist() == ["cls", "mean"]
    for name, array in vectors.items():
        expected = [*geometry.random_cosine(array), geometry.effective_dimension(array)]
        assert found.loc[name].tolist() == pytest.approx(expected)


# --- postprocessing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "fit"), [("centred", centred), ("whitened", whitened)])
@pytest.mark.parametrize("seed", [0, 3])
def test_each_fold_is_scored_with_what_a_loop_fits_on_the_other_texts(
    step: str, fit: Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]], seed: int
) -> None:
    scenarios = table(17)
    vectors = cloud(scenarios, 20, seed=6)
    row_of = {text: row for row, text in enumerate(scores.texts_of(scenarios))}
    found = cosines(geometry.score_postprocessed({"mean": vectors}, "m", scenarios, step, seed))
    checked = 0
    for items in folds(scenarios, seed):
        own = set(scores.texts_of(items))
        change = fit(np.array([vectors[row] for text, row in row_of.items() if text not in own]))
        for item in items.itertuples():
            query = change(vectors[row_of[item.query]])
            for candidate in CANDIDATES:
                expected = cosine(query, change(vectors[row_of[getattr(item, candidate)]]))
                assert found["mean", item.scenario, item.item, candidate] == pytest.approx(expected, abs=2e-6)
                checked += 1
    assert checked == len(found) == 17 * 3


@pytest.mark.parametrize("step", ["centred", "whitened"])
def test_no_text_helps_to_fit_what_its_fold_is_scored_with(step: str) -> None:
    scenarios = table(17)
    vectors = cloud(scenarios, 6, seed=7)
    texts = scores.texts_of(scenarios)
    before = cosines(geometry.score_postprocessed({"mean": vectors}, "m", scenarios, step))
    tried = scores.texts_of(scenarios.iloc[[0, 1, 5, 8, 16]])  # two of these texts stand in two items
    spoilt = []
    for text in tried:
        wild = vectors.copy()
        wild[texts.index(text)] += 1e3
        after = cosines(geometry.score_postprocessed({"mean": wild}, "m", scenarios, step))
        for items in folds(scenarios):
            holds = scenarios.loc[items.index, ["query", *CANDIDATES]].eq(text)
            pairs = [
                ("mean", item.scenario, item.item, candidate)
                for item in items.itertuples()
                for candidate in CANDIDATES
                if text not in (item.query, getattr(item, candidate))
            ]
            same = np.abs(after[pairs] - before[pairs]) < 1e-9
            if holds.to_numpy().any():
                assert same.all(), text
            else:
                spoilt.append(not same.all())
    assert all(spoilt)
    assert len(spoilt) == 16 * 4 + 2 * 3  # a text that stands in two folds is kept out of both fits


@pytest.mark.parametrize("step", ["centred", "whitened"])
def test_each_item_is_scored_once_in_each_pooling(step: str) -> None:
    scenarios = table(13)
    vectors = {"cls": cloud(scenarios, 5, seed=8), "mean": cloud(scenarios, 9, seed=9)}
    found = geometry.score_postprocessed(vectors, "m", scenarios, step)
    assert found.columns.tolist() == scores.COLUMNS
    assert set(found["model"]) == {"m"}
    assert not found.duplicated(KEY).any()
    assert len(found) == 2 * 13 * 3
    assert set(found["item"]) == set(scenarios["item"])
    alone = geometry.score_postprocessed({"mean": vectors["mean"]}, "m", scenarios, step)
    pd.testing.assert_series_equal(cosines(found).loc[["mean"]], cosines(alone))


@pytest.mark.parametrize("step", ["centred", "whitened"])
def test_where_the_cloud_lies_no_longer_matters(step: str) -> None:
    scenarios = table(12)
    vectors = cloud(scenarios, 6, seed=10)
    near, far = ({"mean": vectors + shift} for shift in (0, [20, 0, -30, 5, 5, 5]))
    raw = [cosines(scores.score_vectors(made, "m", scenarios)) for made in (near, far)]
    assert np.abs(raw[0] - raw[1]).max() > 0.1
    changed = [cosines(geometry.score_postprocessed(made, "m", scenarios, step)) for made in (near, far)]
    np.testing.assert_allclose(*changed, atol=2e-6)
    assert np.abs(changed[0] - raw[0]).max() > 0.1


def test_scale_and_turn_no_longer_matter_to_whitened_vectors() -> None:
    scenarios = table(30)
    vectors = cloud(scenarios, 6, seed=11)
    mixed = vectors @ np.random.default_rng(11).normal(size=(6, 6))
    whitened, of_mixed = (
        cosines(geometry.score_postprocessed({"mean": made}, "m", scenarios, "whitened")) for made in (vectors, mixed)
    )
    np.testing.assert_allclose(whitened, of_mixed, atol=2e-6)
    centred = [
        cosines(geometry.score_postprocessed({"mean": made}, "m", scenarios, "centred")) for made in (vectors, mixed)
    ]
    assert np.abs(centred[0] - centred[1]).max() > 0.1


@pytest.mark.parametrize(("texts", "dim", "directions"), [(400, 100, 64), (100, 100, 25), (400, 10, 10)])
def test_whitening_gives_the_fitting_texts_unit_variance_in_every_direction(
    texts: int, dim: int, directions: int
) -> None:
    generator = np.random.default_rng(12)
    vectors = generator.normal(size=(texts, dim)) @ generator.normal(size=(dim, dim)) + 3
    fitted = geometry.STEPS["whitened"](texts, dim).fit(vectors)
    straight = fitted.transform(vectors)
    np.testing.assert_allclose(np.cov(straight.T), np.eye(directions), atol=1e-6)
    np.testing.assert_allclose(straight.mean(axis=0), 0, atol=1e-6)
    expected = PCA(directions, whiten=True, svd_solver="full").fit(vectors).transform(vectors)
    np.testing.assert_allclose(np.abs(straight), np.abs(expected), atol=1e-5)  # an axis may point either way


def test_few_items_make_few_folds() -> None:
    for items in (4, 5):
        scenarios = table(items)
        vectors = {"mean": cloud(scenarios, 3, seed=13)}
        assert len(geometry.score_postprocessed(vectors, "m", scenarios, "centred")) == 3 * items


def test_items_that_share_all_their_texts_are_refused() -> None:
    scenarios = table(3).assign(query="q", strong="s", weak="w", unrelated="u")
    with pytest.raises(ValueError, match="0 texts are left to fit on"):
        geometry.score_postprocessed({"mean": np.eye(4)}, "m", scenarios, "centred")


def test_one_vector_for_all_texts_has_no_cosine_behind_a_step() -> None:
    scenarios = table(6)
    noise = 1e-8 * cloud(scenarios, 3, seed=14)
    found = geometry.score_postprocessed({"cls": noise + [1, 2, 3]}, "m", scenarios, "centred")
    assert found["cosine"].isna().all()
    assert np.isnan(geometry.effective_dimension(np.full((7, 3), 0.1)))
