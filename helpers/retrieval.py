"""How well a search finds the line that answers a question."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from helpers.scores import ITEM

CUTS = (1, 10)
TIE = 1e-6  # what float32 states carry: closer similarities are equal


def ranks(similarity: ArrayLike, right: ArrayLike) -> np.ndarray:
    """Returns the place of the right line for each question; the most similar line has place 1.

    Lines that tie share the mean of their places: two at the top both have 1.5. So who calls all lines equal puts the
    right one in the middle, and no tie at the top counts as found at 1.

    Args:
        similarity: Cosines or dot products, `(questions, lines)`.
        right: The row of the line that answers each question, `(questions,)`.

    Returns:
        `(questions,)`.

    Raises:
        ValueError: The shapes disagree, a row is no line, or a similarity is missing.
    """
    similarity, right = np.asarray(similarity, float), np.asarray(right)
    if similarity.ndim != 2 or right.shape != similarity.shape[:1]:
        raise ValueError(f"Similarities {similarity.shape} and right lines {right.shape} do not fit each other.")
    if not np.isfinite(similarity).all():
        raise ValueError(f"{(~np.isfinite(similarity)).sum()} similarities are missing; leave such lines out.")
    if right.size and not 0 <= right.min() <= right.max() < similarity.shape[1]:
        raise ValueError(f"A right line is not among the rows 0 to {similarity.shape[1] - 1}.")
    own = np.take_along_axis(similarity, right[:, None], axis=1)
    tied = np.isclose(similarity, own, rtol=TIE, atol=TIE)
    above = (similarity > own) & ~tied
    return above.sum(axis=1) + (tied.sum(axis=1) + 1) / 2


def measures(
    questions: Mapping[str, np.ndarray], lines: Mapping[str, np.ndarray], right: ArrayLike, model: str, language: str
) -> pd.DataFrame:
    """Says under each pooling how each question fares when lines are ranked by their cosine with it.

    Args:
        questions: `{pooling: array (questions, dim)}` of any lengths; the cosine with a vector of zeros is 0.
        lines: The same for the lines, `(lines, dim)`.
        right: The row of the line that answers each question, `(questions,)`.
        model: What the table calls the model.
        language: What it calls the language or, across languages, the way.

    Returns:
        One row for each pooling and question, its index that of `scores.measures`, so that `scores.paired` and
        `drift.means` take it. Columns: `hit@1` and `hit@10`, whether the right line is among the first one or ten;
        `mrr`, 1 / its place, whose mean is the mean reciprocal rank.
    """
    tables = {}
    for pooling in questions:
        cosines = normalize(questions[pooling]) @ normalize(lines[pooling]).T
        places = ranks(cosines, right)
        found = {f"hit@{cut}": (places <= cut).astype(float) for cut in CUTS} | {"mrr": 1 / places}
        tables[model, language, pooling, "questions"] = pd.DataFrame(found)
    return pd.concat(tables, names=ITEM)


def keywords(questions: Sequence[str], lines: Sequence[str]) -> np.ndarray:
    """Compares by words alone: the cosine of shared characters and pairs of them, by how rare they are (TF-IDF).

    Characters serve every script, also those that write no spaces.

    Returns:
        `(questions, lines)`; 0 where nothing is shared.
    """
    words = TfidfVectorizer(analyzer="char", ngram_range=(1, 2)).fit(lines)
    return (words.transform(questions) @ words.transform(lines).T).toarray()


def by_length(questions: np.ndarray, unit: np.ndarray, norms: np.ndarray, right: ArrayLike) -> dict[str, float]:
    """Says what becomes of a search where lines are ranked by the dot product instead of the cosine.

    Args:
        questions: `(questions, dim)`, of any lengths: a question's own length changes no order.
        unit: The lines' vectors of length 1, `(lines, dim)`.
        norms: The lengths that they had, `(lines,)`.
        right: The row of the line that answers each question, `(questions,)`.

    Returns:
        By how much of their mean the lengths vary, and the cosines from line to line; the share of questions whose
        first hit changes; which share has the right line first and which the longest one, by cosine and by dot product.
    """
    cosines = normalize(questions) @ unit.T
    dots = cosines * norms
    first, first_by_dot = cosines.argmax(axis=1), dots.argmax(axis=1)
    found = {
        "lengths vary by": norms.std() / norms.mean(),
        "cosines vary by": (cosines.std(axis=1) / np.abs(cosines.mean(axis=1))).mean(),
        "first hit changes": (first != first_by_dot).mean(),
    }
    for what, row in (("right", np.asarray(right)), ("longest", norms.argmax())):
        found |= {f"{what} first, cosine": (first == row).mean(), f"{what} first, dot": (first_by_dot == row).mean()}
    return {name: float(value) for name, value in found.items()}


def flattened(points: np.ndarray, places: np.ndarray, cosines: np.ndarray) -> dict[str, float]:
    """Says what a map in two dimensions keeps of who is near whom.

    Args:
        points: Of the lines on the map, `(lines, 2)`.
        places: Of the questions, `(questions, 2)`.
        cosines: In truth, `(questions, lines)`.

    Returns:
        The mean rank correlation (Spearman) of closeness on the map with the cosine, question by question, and the
        share of questions for which both have the same nearest line.
    """
    apart = np.linalg.norm(places[:, None] - points, axis=2)
    return {
        "rank correlation": float(
            np.mean([spearmanr(-far, near).statistic for far, near in zip(apart, cosines, strict=True)])
        ),
        "same nearest line": float((apart.argmin(axis=1) == cosines.argmax(axis=1)).mean()),
    }


def passing(cosines: np.ndarray, right: ArrayLike, threshold: float) -> dict[str, float]:
    """Says what a threshold lets through in a search; a line passes whose cosine is at least as large.

    Args:
        cosines: `(questions, lines)`.
        right: The row of the line that answers each question, `(questions,)`.
        threshold: The threshold.

    Returns:
        How many `lines` pass for a question on average; for which share the `right` one does; and the `precision`, the
        share of right ones among all that pass, missing where none does.
    """
    passes = cosines >= threshold
    hits = passes[np.arange(len(cosines)), np.asarray(right)]
    return {
        "lines": float(passes.sum(axis=1).mean()),
        "right": float(hits.mean()),
        "precision": float(hits.sum() / passes.sum()) if passes.any() else float("nan"),
    }
