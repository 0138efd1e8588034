"""Runs the notebooks in fresh kernels, compares what they show with what is in git, and publishes it.

`python -m helpers.notebooks reproduce | verify | report`; the Makefile calls it.
"""

import argparse
import copy
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from nbformat import NotebookNode
from tqdm.auto import tqdm

from helpers import readme
from helpers.paths import BUILD, ROOT
from helpers.scenarios import ScenarioError, read
from helpers.weights import SOURCES, NotOnThisPlatform, WeightsError, unpack

WORKERS = 2
SECONDS_A_CELL = 900
NUMBER = re.compile(r"(?<![\w.])[-−+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])")
TOLERANCE = 1e-4
VISIBLE = 0.2  # difference of a pixel, of 1
VISIBLE_PIXELS = 20  # a changed letter has more; rounding moves no mark so far
KERNEL_ENVIRONMENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}


class NotebookError(RuntimeError):
    """A notebook failed, or shows something that must not be committed."""


@dataclass(frozen=True)
class Run:
    """What became of one notebook: its name, how long it took, and what went wrong, if anything did."""

    name: str
    seconds: float
    error: str = ""


def notebooks(root: Path = ROOT) -> list[Path]:
    """Lists the numbered notebooks in order."""
    return sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def about(path: Path) -> dict[str, Any]:
    """Returns what a notebook says of itself: `question`, `minutes`, `models`, and optionally `needs`, `study`, `long`.

    `needs` lists the notebooks that must run before it; a `study` takes MODEL, LANGUAGE and SCENARIOS; a `long` one is
    left out of `make test`.
    """
    return dict(nbformat.read(path, as_version=4).metadata["pooling_lab"])


def run(paths: list[Path], place: Path, parameters: dict[str, str] | None = None) -> list[Run]:
    """Executes notebooks in fresh kernels, two at a time where neither needs the other.

    Args:
        paths: The notebooks.
        place: Folder that receives `notebooks/`, `data/results/` and `figures/`; emptied first.
        parameters: Values for the parameters cell; without any, the notebooks run as they stand.

    Returns:
        One `Run` for each notebook that was started; the first failure keeps the remaining ones from starting.
    """
    shutil.rmtree(place, ignore_errors=True)
    (place / "notebooks").mkdir(parents=True)
    os.environ.update(KERNEL_ENVIRONMENT, POOLING_LAB_OUTPUT=str(place))
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or WORKERS) // WORKERS))
    names = {path.stem for path in paths}
    needs = {path.stem: set(about(path).get("needs", [])) & names for path in paths}
    waiting, running, done = list(paths), {}, []
    with ProcessPoolExecutor(WORKERS) as pool:
        while (waiting and not any(one.error for one in done)) or running:
            finished = {one.name for one in done}
            for path in [path for path in waiting if needs[path.stem] <= finished]:
                if len(running) < WORKERS and not any(one.error for one in done):
                    print(f"  {path.stem} …", flush=True)
                    waiting.remove(path)
                    target = place / "notebooks" / path.name
                    running[pool.submit(_execute, path, target, parameters, SECONDS_A_CELL)] = path
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                done.append(future.result())
                print(f"  {done[-1].name} {'failed' if done[-1].error else 'done'}", flush=True)
    return sorted(done, key=lambda one: one.name)


def _execute(path: Path, target: Path, parameters: dict[str, str] | None, seconds_a_cell: int) -> Run:
    import papermill

    start, error = time.monotonic(), ""
    takes = set(papermill.inspect_notebook(str(path))) if parameters else set()
    try:
        papermill.execute_notebook(
            str(path),
            str(target),
            parameters={name: value for name, value in (parameters or {}).items() if name in takes},
            cwd=str(path.parent),
            kernel_name="python3",
            execution_timeout=seconds_a_cell,
            start_timeout=120,
            progress_bar=False,
            extra_arguments=["--Application.log_level=40"],  # no word about the transport between kernel and runner
        )
    except papermill.PapermillExecutionError as problem:
        error = f"cell {problem.exec_count}: {problem.ename}: {problem.evalue}\n{_indent(problem.source)}"
    except (CellTimeoutError, DeadKernelError) as problem:
        error = f"{type(problem).__name__}: {problem}"
    return Run(path.stem, time.monotonic() - start, error)


def _indent(text: str) -> str:
    return "\n".join("      " + line for line in text.splitlines()[:12])


def clean(notebook: NotebookNode) -> NotebookNode:
    """Returns an executed notebook without what changes from run to run: timings, paths of the run, kernel versions.

    Raises:
        NotebookError: A cell wrote to stderr, as warnings do; they are mended, not committed.
    """
    notebook = copy.deepcopy(notebook)
    own = notebook.metadata.get("pooling_lab", {})
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "pooling_lab": own,
        }
    )
    count = 0
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type != "code":
            continue
        count += bool(cell.source.strip())
        cell.execution_count = count
        CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, 0)  # how many pieces a print comes in depends on timing
        for one in cell.outputs:
            if one.get("name") == "stderr":
                raise NotebookError(f"cell {count} wrote a warning: {one.text.strip().splitlines()[-1]}")
            one.pop("metadata", None)
            if one.output_type != "stream":
                one["metadata"] = {}
            if "execution_count" in one:
                one.execution_count = count
    return notebook


def compare(fresh: NotebookNode, committed: NotebookNode) -> list[str]:
    """Lists where two runs of a notebook disagree: numbers beyond the tolerance, or any other text."""
    found = []
    pairs = zip(_code_cells(fresh), _code_cells(committed), strict=True)
    for number, (new, old) in enumerate(pairs, start=1):
        new_texts, old_texts = _texts(new), _texts(old)
        if new_texts.keys() != old_texts.keys():
            found.append(
                f"cell {number}: other kinds of output ({', '.join(new_texts)} against {', '.join(old_texts)})"
            )
            continue
        for key, text in new_texts.items():
            if problem := compare_text(text, old_texts[key]):
                found.append(f"cell {number}: {problem}")
    return found


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _texts(cell: NotebookNode) -> dict[str, str]:
    """Returns a cell's outputs by place and kind; a picture stands for itself by its kind alone."""
    texts = {}
    for place, one in enumerate(cell.outputs):
        data = {"stdout": one.text} if one.output_type == "stream" else one.get("data", {})
        for kind, text in data.items():
            texts[f"{place} {kind}"] = text if kind == "stdout" or kind.startswith("text/") else ""
    return texts


def compare_text(fresh: str, committed: str) -> str:
    """Compares two texts, numbers within a tolerance and the rest exactly.

    Whole numbers must be equal. Numbers with decimals may differ by two units of their last printed place or by 1e-4,
    absolute or relative, whichever is largest: more than float32 arithmetic differs between processors.

    Returns:
        The first disagreement in words, or an empty string.
    """
    new_words, old_words = NUMBER.split(fresh), NUMBER.split(committed)
    new_numbers, old_numbers = NUMBER.findall(fresh), NUMBER.findall(committed)
    for new, old in zip(new_numbers, old_numbers, strict=False):
        if not _close(new, old):
            return f"{new} against {old} in git"
    if new_words == old_words:
        return ""
    new_lines, old_lines = fresh.splitlines(), committed.splitlines()
    changed = next((pair for pair in zip(new_lines, old_lines, strict=False) if pair[0] != pair[1]), ("more lines", ""))
    return f"{changed[0]!r} against {changed[1]!r} in git"


def _close(new: str, old: str) -> bool:
    if new == old:
        return True
    if not any(mark in new + old for mark in ".e"):
        return False
    decimals = min(len(text.partition(".")[2].partition("e")[0]) for text in (new, old))
    first, second = float(new.replace("−", "-")), float(old.replace("−", "-"))
    allowed = max(TOLERANCE, TOLERANCE * abs(second), 0 if "e" in new + old else 2.001 * 10**-decimals)
    return abs(first - second) <= allowed


def changes(place: Path, paths: Iterable[Path], root: Path = ROOT) -> dict[Path, str]:
    """Says which committed files a run would change, and how.

    A file that agrees within the tolerances is not changed, so that another processor's rounding leaves git alone.

    Args:
        place: Where `run` put its results.
        paths: The notebooks that were run.
        root: The tree that holds the committed files.

    Returns:
        `{path relative to root: what differs}`, empty when everything agrees.
    """
    found = {}
    for path in paths:
        name = path.relative_to(path.parent.parent)
        fresh, committed = _read(place / name), nbformat.read(root / name, as_version=4)
        if problems := compare(fresh, committed):
            found[name] = "; ".join(problems)
        elif not _is_clean(committed):
            found[name] = "holds volatile metadata"
    for new in sorted([*place.glob("data/results/*"), *place.glob("figures/*")]):
        name = new.relative_to(place)
        if problem := _compare_files(new, root / name):
            found[name] = problem
    return found


def stale(place: Path, root: Path = ROOT) -> list[Path]:
    """Lists committed results and figures that a run of all notebooks did not write."""
    committed = [*root.glob("data/results/*"), *root.glob("figures/*")]
    return sorted(name for path in committed if not (place / (name := path.relative_to(root))).exists())


def _read(path: Path) -> NotebookNode:
    try:
        return clean(nbformat.read(path, as_version=4))
    except NotebookError as problem:
        raise NotebookError(f"{path.stem}, {problem}") from None


def _is_clean(notebook: NotebookNode) -> bool:
    try:
        return clean(notebook) == notebook
    except NotebookError:
        return False


def _compare_files(new: Path, old: Path) -> str:
    if not old.exists():
        return "is new"
    if new.suffix != ".png":
        return compare_text(new.read_text(encoding="utf-8"), old.read_text(encoding="utf-8"))
    from matplotlib.image import imread

    first, second = imread(new), imread(old)
    if first.shape != second.shape:
        return "has another size"
    return "looks different" if (abs(first - second) > VISIBLE).any(axis=-1).sum() > VISIBLE_PIXELS else ""


def publish(place: Path, paths: list[Path], root: Path = ROOT) -> list[Path]:
    """Copies what changed from a complete run into the tree, each file whole or not at all, and returns its names."""
    changed = list(changes(place, paths, root))
    for name in changed:
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        if target.suffix == ".ipynb":
            nbformat.write(_read(place / name), partial)
        else:
            shutil.copyfile(place / name, partial)
        partial.replace(target)
    for name in stale(place, root):
        (root / name).unlink()
        changed.append(name)
    return changed


def report(place: Path, target: Path) -> Path:
    """Renders the notebooks under `place` as HTML pages with an index, nothing loaded from elsewhere.

    Args:
        place: Folder with `notebooks/`, `data/results/` and `figures/`.
        target: Folder for the pages; replaced whole once they are all there.

    Returns:
        The index page.
    """
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url="")
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    entries = []
    for path in tqdm(notebooks(place), desc="Rendering", unit="page", leave=False, disable=None):
        page, _ = exporter.from_filename(str(path))
        page = re.sub(r'href="(\d\d_\w+)\.ipynb', r'href="\1.html', page)
        (partial / f"{path.stem}.html").write_text(page, encoding="utf-8")
        entries.append((path.stem, about(path)["question"]))
    for folder in ("data/results", "figures"):
        if (place / folder).is_dir():
            shutil.copytree(place / folder, partial / folder)
    (partial / "index.html").write_text(_index(partial, entries), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)
    return target / "index.html"


def _index(folder: Path, entries: list[tuple[str, str]]) -> str:
    def links(pattern: str) -> str:
        names = sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern))
        return "".join(f'<li><a href="{quote(name)}">{escape(Path(name).name)}</a></li>' for name in names)

    rows = "".join(
        f'<li><a href="{quote(name)}.html">{escape(name)}</a><br>{escape(question)}</li>' for name, question in entries
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Pooling Lab</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}"
        "li{margin:.4rem 0}</style><h1>Pooling Lab: which vector is the sentence?</h1>"
        f"<h2>Notebooks</h2><ul>{rows}</ul><h2>Results</h2><ul>{links('data/results/*')}</ul>"
        f"<h2>Figures</h2><ul>{links('figures/*')}</ul></html>\n"
    )


def reproduce(model: str, language: str, scenarios: str) -> None:
    """Runs everything and publishes it into the tree, or a study of the reader's own into `build/<model>/`."""
    parameters = {"MODEL": model, "LANGUAGE": language, "SCENARIOS": scenarios}
    if own := {name: value for name, value in parameters.items() if value}:
        _study(own)
        return
    for name in SOURCES:
        with suppress(NotOnThisPlatform):  # a notebook that needs it takes it from the hub, or says why it cannot
            unpack(name)
    paths, place = notebooks(), BUILD / "reproduce"
    done = _run_all(paths, place)
    readme.finding(place)  # before anything is published: does it still hold?
    published = publish(place, paths) + readme.update(ROOT)
    _table(done, place)
    page = report(ROOT, BUILD / "report")
    print(f"Published: {', '.join(map(str, published)) or 'nothing, all of it agrees with what is there'}")
    print(f"Report: {page.relative_to(ROOT)}")


def _study(own: dict[str, str]) -> None:
    """Checks the reader's own model, language and scenarios, then runs the study notebooks on them."""
    if path := own.get("SCENARIOS"):
        table = read(path)
        own["SCENARIOS"] = str(Path(path).resolve())
    else:
        table = read()
    if (language := own.get("LANGUAGE")) and language not in set(table["language"]):
        raise ScenarioError(
            f"No scenario is in language {language!r}; there are {', '.join(table['language'].unique())}."
        )
    if model := own.get("MODEL"):
        _try_to_load(model)
        if Path(model).is_dir():
            own["MODEL"] = str(Path(model).resolve())
    name = re.sub(
        r"[^\w.-]+", "--", model.strip("/.") if model else f"embedded-{Path(path).stem if path else language}"
    )
    target, place = BUILD / name, BUILD / f".{name}.partial"
    paths = [path for path in notebooks() if about(path).get("study")]
    done = _run_all(paths, place, own)
    page = report(place, place / "report")
    shutil.rmtree(target, ignore_errors=True)
    place.replace(target)
    _table(done, target)
    print(f"Report: {(target / page.relative_to(place)).relative_to(ROOT)}")


def _try_to_load(model: str) -> None:
    from helpers.models import ModelError, load  # imports torch, which only a study of one's own needs here

    try:
        load(model)
    except ModelError as problem:
        raise NotebookError(str(problem)) from None


def verify(root: Path = ROOT, long: bool = True) -> list[str]:
    """Runs the notebooks afresh and lists every committed file that does not agree with the run.

    Args:
        root: The tree that holds the committed files.
        long: Whether to run the notebooks marked as long, too.
    """
    paths = [path for path in notebooks(root) if long or not about(path).get("long")]
    place = BUILD / "verify"
    _run_all(paths, place)
    found = [f"{name}: {problem}" for name, problem in changes(place, paths, root).items()]
    if len(paths) == len(notebooks(root)):
        found += [f"{name}: no notebook writes it" for name in stale(place, root)]
    return found + readme.differences(root)


def _run_all(paths: list[Path], place: Path, parameters: dict[str, str] | None = None) -> list[Run]:
    done = run(paths, place, parameters)
    if failed := [one for one in done if one.error]:
        raise NotebookError("\n".join(f"notebooks/{one.name}.ipynb, {one.error}" for one in failed))
    return done


def _table(done: list[Run], place: Path) -> None:
    print(f"\n{'notebook':<28}{'seconds':>8}  {'verdict':<8}files written")
    for one in done:
        files = [
            path.name for folder in ("data/results", "figures") for path in (place / folder).glob(f"{one.name[:3]}*")
        ]
        print(f"{one.name:<28}{one.seconds:8.0f}  {'ok':<8}{', '.join(sorted(files))}")


def main() -> int:
    """Runs one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m helpers.notebooks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("reproduce")
    for name in ("model", "language", "scenarios"):
        command.add_argument(f"--{name}", default="")
    commands.add_parser("verify")
    commands.add_parser("report")
    arguments = vars(parser.parse_args())
    try:
        match arguments.pop("command"):
            case "reproduce":
                reproduce(**arguments)
            case "verify":
                if problems := verify():
                    raise NotebookError(
                        "These differ from a fresh run; `make reproduce` rewrites them:\n" + "\n".join(problems)
                    )
                print("Every committed output agrees with a fresh run.")
            case "report":
                print(f"Report: {report(ROOT, BUILD / 'report').relative_to(ROOT)}")
    except (NotebookError, ScenarioError, WeightsError, readme.FindingError) as problem:
        print(f"\n{problem}\nNothing in git was changed.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; nothing was published.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
