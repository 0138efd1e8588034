"""The texts that are encoded: English ones from what every Python ships, Chinese ones from the lab's scenarios."""

import pydoc_data.topics

import numpy as np
from sentence_transformers import SentenceTransformer

from helpers.scenarios import CANDIDATES, read

MEDIAN_WORDS, SPREAD, MOST_WORDS = 8, 0.9, 120  # median 12 tokens, mean 19, and rarely as many as 250
MOST_SENTENCES = 8


def english(count: int, words: int | None = None) -> list[str]:
    """Returns `count` different fragments of Python's manual, the same ones in every run on the same Python.

    Args:
        count: How many; those of a smaller corpus begin a larger one.
        words: Length of each; None draws lengths as texts have them: most are short, few are very long.
    """
    manual = [word for topic in pydoc_data.topics.topics.values() for word in topic.split() if word[:1].isalnum()]
    generator = np.random.default_rng(0)
    texts: dict[str, None] = {}  # a set that keeps the order
    while len(texts) < count:
        length = words or int(np.clip(MEDIAN_WORDS * generator.lognormal(sigma=SPREAD), 1, MOST_WORDS))
        start = generator.integers(len(manual) - length)
        texts[" ".join(manual[start : start + length])] = None
    return list(texts)


def chinese(count: int) -> list[str]:
    """Returns `count` different texts of one to eight of the scenarios' Chinese sentences, put together at random."""
    items = read().query("language == 'zh'")
    sentences = items[["query", *CANDIDATES]].to_numpy().ravel()
    generator = np.random.default_rng(0)
    texts: dict[str, None] = {}
    while len(texts) < count:
        number = min(generator.geometric(0.7), MOST_SENTENCES)
        texts["".join(generator.choice(sentences, number, replace=False))] = None
    return list(texts)


def tokens(model: SentenceTransformer, texts: list[str]) -> list[int]:
    """Counts the tokens of each text that the model reads, special ones included and padding left out."""
    return [len(ids) for ids in model.tokenizer(texts, truncation=True)["input_ids"]]
