"""What several test files share: the embedded models, each loaded once."""

import os
from collections.abc import Callable
from functools import cache

import pytest
from sentence_transformers import SentenceTransformer

from helpers.models import load

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def embedded() -> Callable[[str], SentenceTransformer]:
    """Loads an embedded model by name, once for all tests; they leave it as they found it."""
    return cache(load)
