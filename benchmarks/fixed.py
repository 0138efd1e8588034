"""What a run costs before it computes anything, by imports, models and kernels; and what `make reproduce` costs."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import nbformat
import papermill
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from benchmarks.rows import REPETITIONS, Row, Setting, paired
from helpers.models import EMBEDDED, ModelError, load
from helpers.notebooks import WORKERS
from helpers.paths import BUILD, ROOT
from helpers.series import notebooks

PART = "fixed costs"
IMPORTS = ("helpers.encode", "helpers.plots")
IMPORT = re.compile(r"^(?:import|from) ", re.MULTILINE)


def measure(
    repetitions: int = REPETITIONS, models: Sequence[str] = tuple(EMBEDDED), place: Path = BUILD / "reproduce"
) -> Iterator[Row]:
    """Yields all of it; `place` is where the last `make reproduce` left its notebooks."""
    yield from imports(repetitions)
    yield from loads(models, repetitions)
    yield from kernel(repetitions)
    yield from reproduce(place, len(notebooks(ROOT)))


def imports(repetitions: int) -> Iterator[Row]:
    """Starts a Python for each module, and one for none, whose seconds are subtracted."""
    ways = {module: partial(_python, f"import {module}") for module in IMPORTS}
    seconds = _timed(ways | {"": partial(_python, "pass")}, repetitions, "imports")
    for module in IMPORTS:
        extra = [one - bare for one, bare in zip(seconds[module], seconds[""], strict=True)]
        yield Setting(PART).row(f"import {module}", "seconds", "s", extra, "in a fresh Python, whose start is left out")


def loads(models: Sequence[str], repetitions: int) -> Iterator[Row]:
    """Loads each model where all that it imports is imported already and its files have been read before."""
    for name in models:
        setting = Setting(PART, name, dtype="float32")
        try:
            seconds = _timed({name: partial(load, name, device="cpu")}, repetitions, f"loading {name}")[name]
        except ModelError as problem:
            yield setting.not_measured("load", "seconds", "s", str(problem))
        else:
            yield setting.row("load", "seconds", "s", seconds, "without imports, with its files in the system's cache")


def kernel(repetitions: int) -> Iterator[Row]:
    """Runs a notebook of one empty line, as every notebook of the lab is run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "empty.ipynb")
        nbformat.write(new_notebook(cells=[new_code_cell("None")]), path)
        run = partial(
            papermill.execute_notebook,
            str(path),
            str(path),
            kernel_name="python3",
            progress_bar=False,
            shutdown_kernel="immediate",
            extra_arguments=["--Application.log_level=50"],
        )
        seconds = _timed({"kernel": run}, repetitions, "a notebook's kernel")["kernel"]
    yield Setting(PART).row(
        "a notebook's kernel", "seconds", "s", seconds, "start to end of a notebook that does nothing"
    )


def reproduce(place: Path, expected: int) -> Iterator[Row]:
    """Reads how long the notebooks of the last `make reproduce` took, and what part of it went where."""
    setting, case = Setting(PART), "make reproduce"
    done = [nbformat.read(path, as_version=4) for path in sorted(place.glob("notebooks/*.ipynb"))]
    runs = [one.metadata.get("papermill", {}) for one in done]
    if len(done) < expected or any(one.get("exception") or not one.get("end_time") for one in runs):
        yield setting.not_measured(case, "seconds", "s", "`make reproduce` has not been run to its end here")
        return
    starts, ends = ([datetime.fromisoformat(one[key]) for one in runs] for key in ("start_time", "end_time"))
    note = f"the last one: from the first notebook's start to the last one's end, {WORKERS} at a time"
    wall = (max(ends) - min(starts)).total_seconds()
    yield setting.row(case, "seconds", "s", [wall], note)
    total = sum(one["duration"] for one in runs)
    cells = [cell for one in done for cell in one.cells if cell.cell_type == "code"]
    importing = sum(_seconds(cell) for one in done for cell in list(filter(_imports, one.cells))[:1])
    computing = sum(_seconds(cell) for cell in cells) - importing
    beyond = f"the same, less what its cells took behind their imports, shared by {WORKERS}: waiting counts, too"
    yield setting.row(f"{case}: beyond the experiments", "seconds", "s", [wall - computing / WORKERS], beyond)
    for part, seconds in (
        ("kernels", total - importing - computing),
        ("imports", importing),
        ("experiments", computing),
    ):
        note = f"of the {total:.0f} s that its notebooks took, one after the other"
        yield setting.row(f"{case}: {part}", "share of the notebooks' time", "share", [seconds / total], note)


def _imports(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and bool(IMPORT.search(cell.source))


def _seconds(cell: NotebookNode) -> float:
    return cell.metadata.papermill.duration or 0


def _python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def _timed(ways: dict[str, Callable[[], object]], repetitions: int, description: str) -> dict[str, list[float]]:
    """Times as `paired` does, after every way has been run once to warm up."""
    for run in ways.values():
        run()
    return paired(ways, repetitions, description)
