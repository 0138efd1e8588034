"""The numbered notebooks, and what each says of itself."""

import json
import re
from pathlib import Path
from typing import Any

from helpers.paths import ROOT

SKIPPED = "skip-execution"  # the tag of a cell that nbclient leaves alone, such as one whose widgets need a kernel


class NotebookError(RuntimeError):
    """A notebook failed, is none of the lab's, or shows something that must not be committed."""


def notebooks(root: Path = ROOT) -> list[Path]:
    """Lists the numbered notebooks in order, leaving out copies that JupyterLab made."""
    return sorted(path for path in (root / "notebooks").glob("*.ipynb") if re.fullmatch(r"\d\d_\w+", path.stem))


def about(path: Path) -> dict[str, Any]:
    """Returns what a notebook says of itself: `question`, `minutes`, `models`, and optionally `needs`, `study`, `long`.

    `needs` lists the notebooks that must run before it; a `study` takes MODEL and perhaps LANGUAGE and SCENARIOS,
    or STEPS; a `long` one is left out of `make test`.

    Raises:
        NotebookError: The file is no notebook, or says nothing of itself.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["metadata"]["pooling_lab"])
    except (KeyError, ValueError, TypeError) as problem:
        raise NotebookError(
            f"notebooks/{path.name} is not a notebook of the lab ({type(problem).__name__}): mend it, or give it a "
            "name without a number."
        ) from None
