"""Numbers that a model's makers published: recomputed, they tell whether the model is read as it was meant to be."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from helpers.models import EMBEDDED

if TYPE_CHECKING:  # importing it takes seconds
    from sentence_transformers import SentenceTransformer

FLOAT32, SHORTER = 0.005, 0.02  # the largest difference that counts as agreement, by the type of the weights


class Published(NamedTuple):
    """The similarities of some queries (rows) and documents (columns), as their source prints them."""

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    values: list[list[float]]
    source: str


@dataclass(frozen=True)
class Answers:
    """Published numbers beside ours; both are arrays `(queries, documents)`."""

    title: str
    published: np.ndarray
    measured: np.ndarray
    tolerance: float
    source: str

    @property
    def agree(self) -> bool:
        """Whether no number differs by more than the tolerance."""
        return bool(np.allclose(self.measured, self.published, rtol=0, atol=self.tolerance))

    def __str__(self) -> str:
        verdict = f"{'agree within' if self.agree else 'differ by more than'} {self.tolerance}"
        return (
            f"{self.title}: published {_in_a_line(self.published)} ({self.source}) and measured "
            f"{_in_a_line(self.measured)} {verdict}"
        )


WEATHER = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
LEARNING = ("embedding", "I love machine learning and nlp")
QUESTIONS = ("What is the capital of China?", "Explain gravity")
PASSAGES = (
    "The capital of China is Beijing.",
    "Gravity is a force that attracts two bodies towards each other. It gives weight to physical objects and is "
    "responsible for the movement of planets around the sun.",
)
TABLE = {
    "all-MiniLM-L6-v2": Published(
        WEATHER,
        WEATHER,
        [[1, 0.6660, 0.1046], [0.6660, 1, 0.1411], [0.1046, 0.1411, 1]],
        "the quickstart of sentence-transformers",
    ),
    "bge-base-en-v1.5": Published(
        LEARNING, LEARNING, [[1, 0.6077], [0.6077, 1]], "FlagEmbedding's tutorial “BGE Explanation”"
    ),
    "Qwen3-Embedding-0.6B": Published(QUESTIONS, PASSAGES, [[0.7646, 0.1414], [0.1355, 0.6000]], "its model card"),
    "Qwen3-Embedding-4B": Published(QUESTIONS, PASSAGES, [[0.7534, 0.1147], [0.0320, 0.6258]], "its model card"),
    "Qwen3-Embedding-8B": Published(QUESTIONS, PASSAGES, [[0.7493, 0.0751], [0.0880, 0.6318]], "its model card"),
}


def check(model: "SentenceTransformer", name: str | Path) -> Answers | None:
    """Recomputes published numbers with the model as it is: its own prompts, pooling and Normalize.

    The similarity is the dot product, so that a missing Normalize shows, too.

    Args:
        model: The loaded model.
        name: What it was loaded by: an embedded name, or a folder or hub id whose last part tells which model it is,
            in capital or small letters.

    Returns:
        The numbers, or None where none are known under that name.
    """
    last = EMBEDDED[str(name)].title if str(name) in EMBEDDED else Path(name).expanduser().resolve().name
    title = next((title for title in TABLE if title.lower() == last.lower()), None)
    if title is None:
        return None
    known = TABLE[title]
    queries, documents = model.encode_query(list(known.queries)), model.encode_document(list(known.documents))
    tolerance = FLOAT32 if str(model.dtype) == "torch.float32" else SHORTER
    return Answers(title, np.array(known.values), queries @ documents.T, tolerance, known.source)


def _in_a_line(table: np.ndarray) -> str:
    return f"[{'; '.join(' '.join(f'{value:.4f}' for value in row) for row in table)}]"
