"""The shape of a cloud of sentence vectors, and what straightening it does to the scores."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from helpers.scores import score_vectors, texts_of

FOLDS = 5
ALIKE = 1e-5  # as far as a forward pass repeats itself: vectors that differ by less are the same
DIRECTIONS = 64  # that whitening keeps at most: beyond what the texts can tell apart, it amplifies noise
ENOUGH = 2000  # texts whose pairs are compared
STEPS = {
    "centred": lambda texts, dim: StandardScaler(with_std=False),
    "whitened": lambda texts, dim: PCA(min(DIRECTIONS, texts // 4, dim), whiten=True, svd_solver="covariance_eigh"),
}


def random_cosine(vectors: np.ndarray) -> tuple[float, float]:
    """Returns mean and standard deviation of the cosine between different texts.

    The mean measures anisotropy (Ethayarajh, 2019): near 0 where vectors point everywhere, near 1 where all of them
    fill one narrow cone.

    Args:
        vectors: One row for each text, `(texts, dim)`, two or more, none of length 0. Of more than `ENOUGH` texts, a
            random choice is compared.
    """
    some = np.random.default_rng(0).permutation(vectors)[:ENOUGH].astype(np.float64)
    some /= np.linalg.norm(some, axis=1, keepdims=True)
    cosines = (some @ some.T)[np.triu_indices(len(some), k=1)]
    return float(cosines.mean()), float(cosines.std())


def effective_dimension(vectors: np.ndarray) -> float:
    """Returns how many directions vectors `(texts, dim)` really spread over: the participation ratio (Σλ)² / Σλ².

    λ are the eigenvalues of their covariance: a round cloud gives its number of dimensions, a line 1, and vectors that
    are all the same NaN. The λ sum to the covariance's trace, and λ² to its squared entries, so none has to be found.
    """
    if _alike(vectors):
        return float("nan")
    covariance = np.cov(vectors.astype(np.float64), rowvar=False)
    return float(np.trace(covariance) ** 2 / (covariance**2).sum())


def shape(vectors: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Describes the cloud of each pooling: `random cosine`, its `spread` (standard deviation) and `dimension`."""
    found = {name: (*random_cosine(array), effective_dimension(array)) for name, array in vectors.items()}
    return pd.DataFrame.from_dict(found, "index", columns=["random cosine", "spread", "dimension"])


def postprocess(
    vectors: Mapping[tuple[str, str], Mapping[str, np.ndarray]], scenarios: pd.DataFrame, seed: int = 0
) -> dict[str, pd.DataFrame]:
    """Scores the vectors of several studies behind each of the `STEPS`.

    Args:
        vectors: By model and language, what `score_postprocessed` takes.
        scenarios: Rows of all their languages.
        seed: Seed of the folds.

    Returns:
        A table as from `score_postprocessed` by the name of the step.
    """
    rows = dict(list(scenarios.groupby("language", sort=False)))
    return {
        step: pd.concat(
            [score_postprocessed(few, name, rows[code], step, seed) for (name, code), few in vectors.items()],
            ignore_index=True,
        )
        for step in STEPS
    }


def score_postprocessed(
    vectors: Mapping[str, np.ndarray], name: str, scenarios: pd.DataFrame, step: str, seed: int = 0
) -> pd.DataFrame:
    """Scores vectors behind a transformation that was fitted on the texts of other items, in `FOLDS` folds.

    Args:
        vectors: `{pooling: array (texts, dim)}`, rows in the order of `scores.texts_of(scenarios)`.
        name: What the table calls the model.
        scenarios: Rows of one language, from `scenarios.read`, at least two.
        step: "centred" subtracts the mean vector; "whitened" also turns to the principal axes, keeps the first
            `DIRECTIONS` of them, or one for every four texts if these are fewer, and gives each the same variance
            (BERT-whitening, Su et al., 2021).
        seed: Seed of the folds.

    Returns:
        A table as from `scores.score_vectors`. No text of a fold's items, wherever else it stands, helps to fit what
        that fold is scored with. Where a pooling gives all texts one vector, but for rounding, the cosines are NaN.

    Raises:
        ValueError: The items share so many texts that none are left to fit on.
    """
    texts = texts_of(scenarios)
    row_of = {text: row for row, text in enumerate(texts)}
    tables = []
    for _, held_out in KFold(min(FOLDS, len(scenarios)), shuffle=True, random_state=seed).split(scenarios):
        items = scenarios.iloc[held_out]
        tested = texts_of(items)
        own = set(tested)
        others = [row_of[text] for text in texts if text not in own]
        if len(others) < 4:
            raise ValueError(f"{len(others)} texts are left to fit on; the items share too many of their texts.")
        changed = {}
        for pooling, array in vectors.items():
            exact = array.astype(np.float64)  # in float32 small variances would depend on the processor
            fitted = STEPS[step](len(others), array.shape[1]).fit(exact[others])
            moved = fitted.transform(exact[[row_of[text] for text in tested]])
            changed[pooling] = np.full_like(moved, np.nan) if _alike(array) else moved
        tables.append(score_vectors(changed, name, items, normalize=False))
    return pd.concat(tables, ignore_index=True)


def _alike(vectors: np.ndarray) -> bool:
    return bool(np.ptp(vectors, axis=0).max() < ALIKE * np.abs(vectors).max())
