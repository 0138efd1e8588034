"""What several test files share: the embedded models, each loaded once, and the layout of a hub."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from layouts import save_qwen3
from sentence_transformers import SentenceTransformer

from helpers.models import load

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["POOLING_LAB_DEVICE"] = "cpu"  # committed numbers are the CPU's


@pytest.fixture(scope="session", autouse=True)
def results_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests write into a folder of their own, and find no vectors that an earlier run has kept."""
    os.environ["POOLING_LAB_OUTPUT"] = str(tmp_path_factory.mktemp("output"))


@pytest.fixture(scope="session")
def embedded() -> Callable[[str], SentenceTransformer]:
    """Loads an embedded model by name, once for all tests; they leave it as they found it."""
    return cache(load)


@pytest.fixture(scope="session")
def qwen3_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as the hub's Qwen3-Embedding, tiny and with random weights; tests leave it as it is."""
    return save_qwen3(tmp_path_factory.mktemp("hub") / "qwen3")
