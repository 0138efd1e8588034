"""Where the lab reads and writes, wherever it was cloned."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
MODELS = ROOT / "models"
BUILD = ROOT / "build"
EMBEDDINGS = "embeddings"  # the folder below `output()` for vectors that several notebooks need
TRAINING = "training"  # that for trainings, finished and cut off


def output() -> Path:
    """Returns the folder under which a notebook writes `data/results/` and `figures/`.

    Only `make reproduce` and `make bench` may change the files in git, so a notebook that is run by hand writes to
    `build/explore/`; the runner points `POOLING_LAB_OUTPUT` at a staging folder and publishes from there.
    """
    return Path(os.environ.get("POOLING_LAB_OUTPUT") or BUILD / "explore")


def save_table(table: pd.DataFrame, name: str) -> str:
    """Writes a table as `data/results/<name>.csv` below `output()`, and returns that relative name."""
    path = f"data/results/{name}.csv"
    (output() / path).parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(output() / path, index=False, lineterminator="\n")
    return path
