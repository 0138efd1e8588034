"""Says whether what a notebook shows is what is committed: text exactly, numbers and pictures within a tolerance."""

import base64
import copy
import io
import re
from pathlib import Path

import nbformat
import numpy as np
from matplotlib.image import imread
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from nbformat import NotebookNode

from helpers.series import SKIPPED, NotebookError

NUMBER = re.compile(r"(?<![\w.])[-−+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])")
TOLERANCE = 1e-4
VISIBLE = 0.2  # difference of a pixel, of 1
VISIBLE_PIXELS = 20  # a changed letter has more; rounding moves no mark so far


def clean(notebook: NotebookNode) -> NotebookNode:
    """Returns an executed notebook without what changes from run to run: timings, paths of the run, kernel versions.

    Raises:
        NotebookError: A cell was not run, or wrote to stderr, as warnings do; they are mended, not committed.
    """
    notebook = copy.deepcopy(notebook)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    own = {"pooling_lab": notebook.metadata.get("pooling_lab", {})}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}} | own)
    count = 0
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type != "code":
            continue
        if tags and SKIPPED in tags:
            continue
        count += 1
        if cell.execution_count is None:
            raise NotebookError(f"cell {count} was not run")
        cell.execution_count = count
        CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, 0)  # how many pieces a print comes in depends on timing
        for one in cell.outputs:
            if one.get("name") == "stderr":
                raise NotebookError(f"cell {count} wrote a warning: {one.text.strip().splitlines()[0]}")
            one.pop("metadata", None)
            if one.output_type != "stream":
                one["metadata"] = {}
            if "execution_count" in one:
                one.execution_count = count
    return notebook


def is_clean(notebook: NotebookNode) -> bool:
    """Returns whether a notebook is as `clean` would leave it."""
    try:
        return clean(notebook) == notebook
    except NotebookError:
        return False


def compare_notebooks(fresh: NotebookNode, committed: NotebookNode) -> list[str]:
    """Lists where the outputs of two runs of a notebook disagree."""
    found = []
    cells = ([cell for cell in notebook.cells if cell.cell_type == "code"] for notebook in (fresh, committed))
    for number, (new, old) in enumerate(zip(*cells, strict=True), start=1):
        new_outputs, old_outputs = _outputs(new), _outputs(old)
        if new_outputs.keys() != old_outputs.keys():
            kinds = " against ".join(", ".join(outputs) or "none" for outputs in (new_outputs, old_outputs))
            found.append(f"cell {number}: other kinds of output ({kinds})")
            continue
        for kind, content in new_outputs.items():
            compare = _compare_encoded_pictures if kind.endswith("image/png") else compare_text
            if problem := compare(content, old_outputs[kind]):
                found.append(f"cell {number}: {problem}")
    return found


def compare_files(new: Path, old: Path) -> str:
    """Says how a fresh file differs from the committed one; an empty string where they agree."""
    if not old.exists():
        return "is new"
    if new.suffix == ".png":
        return _compare_pictures(new.read_bytes(), old.read_bytes())
    return compare_text(new.read_text(encoding="utf-8"), old.read_text(encoding="utf-8"))


def compare_text(fresh: str, committed: str) -> str:
    """Compares two texts, numbers within a tolerance and the rest exactly.

    Whole numbers must be equal. Numbers with decimals may differ by one unit of their last printed place or by 1e-4,
    absolute or relative, whichever is largest: more than float32 arithmetic differs between processors.

    Returns:
        The first disagreement in words, or an empty string.
    """
    for new, old in zip(NUMBER.findall(fresh), NUMBER.findall(committed), strict=False):
        if not _close(new, old):
            return f"{new} against {old} in git"
    if NUMBER.split(fresh) == NUMBER.split(committed):
        return ""
    lines = zip(fresh.splitlines(), committed.splitlines(), strict=False)
    new, old = next((pair for pair in lines if pair[0] != pair[1]), ("more or fewer lines", ""))
    return f"{new!r} against {old!r} in git"


def _outputs(cell: NotebookNode) -> dict[str, str]:
    """Returns a cell's outputs by place and kind."""
    found = {}
    for place, one in enumerate(cell.outputs):
        data = {"text": one.text} if one.output_type == "stream" else one.get("data", {})
        found |= {f"{place} {kind}": content for kind, content in data.items()}
    return found


def _close(new: str, old: str) -> bool:
    if new == old:
        return True
    if not any(mark in new + old for mark in ".e"):
        return False
    decimals = min(len(text.partition(".")[2].partition("e")[0]) for text in (new, old))
    first, second = float(new.replace("−", "-")), float(old.replace("−", "-"))
    allowed = max(TOLERANCE, TOLERANCE * abs(second), 0 if "e" in new + old else 1.001 * 10**-decimals)
    return abs(first - second) <= allowed


def _compare_encoded_pictures(new: str, old: str) -> str:
    try:
        return _compare_pictures(base64.b64decode(new), base64.b64decode(old))
    except ValueError:
        return "the picture in git cannot be read"


def _compare_pictures(new: bytes, old: bytes) -> str:
    if new == old:  # as on the machine that drew both; reading them takes most of a comparison's time
        return ""
    try:
        first, second = imread(io.BytesIO(new), "png"), imread(io.BytesIO(old), "png")
    except (OSError, SyntaxError, ValueError):
        return "the picture in git cannot be read"
    if first.shape != second.shape:
        return "the picture has another size"
    visible = (np.abs(first - second) > VISIBLE).any(axis=-1).sum()
    return "the picture looks different" if visible > VISIBLE_PIXELS else ""
