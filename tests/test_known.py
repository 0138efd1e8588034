"""The published numbers are met by the recipe that they were made with, and by no other."""

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

from helpers import known
from helpers.models import load


def test_minilm_gives_its_published_numbers(embedded):
    answers = known.check(embedded("minilm"), "minilm")
    assert answers.agree
    assert np.abs(answers.measured - answers.published).max() < 1e-4
    assert str(answers) == (
        "all-MiniLM-L6-v2: published [1.0000 0.6660 0.1046; 0.6660 1.0000 0.1411; 0.1046 0.1411 1.0000] (the "
        "quickstart of sentence-transformers) and measured [1.0000 0.6660 0.1046; 0.6660 1.0000 0.1411; 0.1046 "
        "0.1411 1.0000] agree within 0.005"
    )


def test_bfloat16_is_close_enough():
    answers = known.check(load("minilm", dtype="bfloat16"), "minilm")
    assert answers.agree
    assert answers.tolerance == 0.02
    assert np.abs(answers.measured - answers.published).max() > known.FLOAT32, "which is why its tolerance is wider"


def misread(transformer, pooling: str, normalize: bool = True, query: str = "") -> SentenceTransformer:
    modules = [transformer, Pooling(384, pooling), *[Normalize()] * normalize]
    return SentenceTransformer(modules=modules, prompts={"query": query, "document": ""}, device="cpu")


@pytest.mark.parametrize(
    ("recipe", "least"),
    [
        ({"pooling": "mean", "normalize": False}, 20),
        ({"pooling": "mean", "query": "query: "}, 0.1),
        ({"pooling": "cls"}, 0.5),
        ({"pooling": "max"}, 0.5),
        ({"pooling": "lasttoken"}, 0.1),
        ({"pooling": "weightedmean"}, 0.02),
    ],
)
def test_a_wrong_recipe_is_told(embedded, recipe, least):
    answers = known.check(misread(embedded("minilm")[0], **recipe), "minilm")
    assert not answers.agree
    assert "differ by more than 0.005" in str(answers)
    assert np.abs(answers.measured - answers.published).max() > max(least, known.SHORTER), "in bfloat16, too"


def test_another_model_of_the_same_name_is_told(qwen3_layout):
    answers = known.check(load(qwen3_layout), "Qwen/Qwen3-Embedding-0.6B")
    assert not answers.agree
    assert answers.measured.shape == answers.published.shape == (2, 2)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
        ("all-minilm-l6-v2", "all-MiniLM-L6-v2"),
        (Path("~/models/all-MiniLM-L6-v2/"), "all-MiniLM-L6-v2"),
        ("./minilm", None),
        ("e5-small", None),
        ("someone/all-MiniLM-L6-v2-tuned", None),
    ],
)
def test_the_name_says_which_numbers_are_due(embedded, name, title):
    answers = known.check(embedded("minilm"), name)
    assert (answers and answers.title) == title


def test_the_table_is_made_of_similarities():
    for one in known.TABLE.values():
        assert np.shape(one.values) == (len(one.queries), len(one.documents))
        assert np.abs(one.values).max() <= 1
