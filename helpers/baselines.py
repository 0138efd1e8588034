"""Similarities that know no meaning: what a model must beat, and what its items must not give away."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer

from helpers.scenarios import CANDIDATES
from helpers.scores import COLUMNS, ROUNDING, texts_of

NO_MODEL = "no model"
CHARACTERS, WORDS, LENGTH, RANDOM = "TF-IDF, characters", "TF-IDF, words", "length", "random"


def score(scenarios: pd.DataFrame, words: Callable[[str], list[str]], seed: int = 0) -> pd.DataFrame:
    """Scores each query against its candidates without any model.

    Args:
        scenarios: Rows of one language, or of several, from `scenarios.read`.
        words: Splits a text into words.
        seed: Seed of the random similarities.

    Returns:
        A table as from `scores.score`, its model `NO_MODEL` and its `pooling` one of: `CHARACTERS`, the cosine of
        weighted runs of one to three characters; `WORDS`, of weighted words; `LENGTH`, how close the numbers of
        characters are, `-|log(query / candidate)|`; `RANDOM`. The column `cosine` holds the similarity. Weights are
        those of all texts of the language (TF-IDF).

    Raises:
        ValueError: The texts of a language hold no word.
    """
    generator, tables = np.random.default_rng(seed), []
    for language, rows in scenarios.groupby("language", sort=False):
        texts = texts_of(rows)
        place = {text: row for row, text in enumerate(texts)}
        kinds = {
            CHARACTERS: TfidfVectorizer(analyzer="char", ngram_range=(1, 3)),
            WORDS: TfidfVectorizer(tokenizer=words, token_pattern=None),
        }
        try:
            matrices = {kind: vectorizer.fit_transform(texts) for kind, vectorizer in kinds.items()}
        except ValueError:
            raise ValueError(f"The texts in language {language!r} hold no word to compare; write sentences.") from None
        sizes = np.log([len(text) for text in texts])
        for candidate in CANDIDATES:
            left, right = ([place[text] for text in rows[column]] for column in ("query", candidate))
            found = {
                kind: np.asarray(matrix[left].multiply(matrix[right]).sum(axis=1)).ravel()
                for kind, matrix in matrices.items()
            }
            found |= {LENGTH: -np.abs(sizes[left] - sizes[right]), RANDOM: generator.random(len(rows))}
            for kind, similarity in found.items():
                table = rows[["scenario", "item"]].assign(candidate=candidate, cosine=similarity.round(ROUNDING))
                tables.append(table.assign(model=NO_MODEL, language=language, pooling=kind, normalized=True))
    return pd.concat(tables, ignore_index=True)[COLUMNS]
