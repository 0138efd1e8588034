"""What a model's makers published: numbers to recompute, and the pooling that the model was trained with."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from helpers.models import EMBEDDED
from helpers.paths import MODELS

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

# By their model cards, under the last part of their hub ids in small letters.
POOLING = {
    "cls": (
        *(f"bge-{size}-{language}-v1.5" for size in ("small", "base", "large") for language in ("en", "zh")),
        *(f"snowflake-arctic-embed-{size}" for size in ("xs", "s", "m", "m-long", "l")),
        "bge-m3",
    ),
    "mean": (
        *("all-minilm-l6-v2", "all-minilm-l12-v2", "all-mpnet-base-v2", "paraphrase-multilingual-minilm-l12-v2"),
        *("multilingual-e5-small", "multilingual-e5-base", "multilingual-e5-large", "embeddinggemma-300m"),
        *("text2vec-base-chinese", "m3e-base"),
    ),
    "lasttoken": ("qwen3-embedding-0.6b", "qwen3-embedding-4b", "qwen3-embedding-8b"),
}
TRAINED_TO_EMBED = ("minilm", "e5-small")  # of the embedded models


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
    last = EMBEDDED[str(name)].title.lower() if str(name) in EMBEDDED else _last_part(name)
    title = next((title for title in TABLE if title.lower() == last), None)
    if title is None:
        return None
    known = TABLE[title]
    queries, documents = model.encode_query(list(known.queries)), model.encode_document(list(known.documents))
    tolerance = FLOAT32 if str(model.dtype) == "torch.float32" else SHORTER
    return Answers(title, np.array(known.values), queries @ documents.T, tolerance, known.source)


def trained_pooling(name: str | Path) -> str | None:
    """Returns the pooling that the model of this name was trained with, by its model card; None where none is known.

    Args:
        name: As in `check`. A name proves little: anybody's folder may be called so.
    """
    last = _last_part(EMBEDDED[str(name)].origin if str(name) in EMBEDDED else name)
    return next((pooling for pooling, names in POOLING.items() if last in names), None)


def same_weights(model: "SentenceTransformer") -> str | None:
    """Returns the embedded model, of those trained to embed, whose weights a model has to the last bit, if any."""
    import torch
    from safetensors.torch import load_file

    if model.transformers_model is None:
        return None
    own = model.transformers_model.state_dict()
    own = {key: weight for key, weight in own.items() if not key.startswith("pooler.")}  # which nobody reads
    for name in TRAINED_TO_EMBED:
        file = MODELS / name / "model.safetensors"
        stored = load_file(file) if file.is_file() else {}
        if all(
            key in stored and torch.equal(weight.cpu(), stored[key].to(weight.dtype)) for key, weight in own.items()
        ):
            return name
    return None


def _last_part(name: str | Path) -> str:
    return Path(name).expanduser().resolve().name.lower()


def _in_a_line(table: np.ndarray) -> str:
    return f"[{'; '.join(' '.join(f'{value:.4f}' for value in row) for row in table)}]"
