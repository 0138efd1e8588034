"""Runs the notebooks in fresh kernels, compares what they show with what is in git, and publishes it.

`python -m helpers.notebooks reproduce | verify | report`; the Makefile calls it.
"""

import argparse
import functools
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
from filelock import FileLock, Timeout
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from tqdm.auto import tqdm

from helpers import known, readme
from helpers.compare import clean, compare_files, compare_notebooks, is_clean
from helpers.models import EMBEDDED, ModelError, choose_device, load, memory
from helpers.paths import BUILD, EMBEDDINGS, ROOT, TRAINING
from helpers.scenarios import ScenarioError, read
from helpers.series import NotebookError, about, notebooks
from helpers.weights import SOURCES, NotOnThisPlatform, WeightsError, unpack

WORKERS = 2
SECONDS_A_CELL = 1800
STARTS = 3  # of a kernel, before a notebook counts as failed
BENCHMARK_FILES = {Path(readme.BENCHMARK), Path(readme.BENCHMARK_FIGURE)}
REPORT = "report"
RESERVED = {"bench", "explore", REPORT, "reproduce", "test", "verify"}  # folders of build/ that no study may take
KERNEL_ENVIRONMENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}


@dataclass(frozen=True)
class Run:
    """What became of one notebook: its name, how long it took, and what went wrong, if anything did."""

    name: str
    seconds: float
    error: str = ""


@contextmanager
def alone() -> Iterator[None]:
    """Keeps two runs from sharing the folders in `build/`.

    Raises:
        NotebookError: Another run is going on.
    """
    BUILD.mkdir(exist_ok=True)
    try:
        with FileLock(BUILD / ".run.lock", timeout=0):
            yield
    except Timeout:
        raise NotebookError("Another run of this lab is going on: wait for its end, or stop it.") from None


def run(
    paths: list[Path],
    place: Path,
    parameters: dict[str, str | int] | None = None,
    device: str = "cpu",
    workers: int = WORKERS,
) -> list[Run]:
    """Executes notebooks in fresh kernels, several at a time where none needs another.

    Args:
        paths: The notebooks.
        place: Folder that receives `notebooks/`, `data/results/` and `figures/`; emptied first, but for the trainings
            of a run with parameters that was cut off: this one goes on with them.
        parameters: Values for the parameters cell; without any, the notebooks run as they stand.
        device: The device that models are loaded on; empty for the best that is there. Committed numbers are the CPU's.
        workers: How many run at a time at most.

    Returns:
        One `Run` for each notebook that was started; the first failure keeps the remaining ones from starting.
    """
    for folder in place.glob("*"):
        if not (parameters and folder.name == TRAINING):
            shutil.rmtree(folder, ignore_errors=True)
    (place / "notebooks").mkdir(parents=True)
    os.environ.update(KERNEL_ENVIRONMENT, POOLING_LAB_OUTPUT=str(place), POOLING_LAB_DEVICE=device)
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))
    limit = None if "STEPS" in (parameters or {}) else SECONDS_A_CELL  # a longer training takes as long as it takes
    names = {path.stem for path in paths}
    needs = {path.stem: set(about(path).get("needs", [])) & names for path in paths}
    waiting, running, done = sorted(paths, key=_minutes, reverse=True), {}, []  # so that no long one runs last, alone
    with ProcessPoolExecutor(workers) as pool:
        while (waiting and not any(one.error for one in done)) or running:
            finished = {one.name for one in done}
            for path in [path for path in waiting if needs[path.stem] <= finished]:
                if len(running) < workers and not any(one.error for one in done):
                    print(f"  {path.stem} …", flush=True)
                    waiting.remove(path)
                    target = place / "notebooks" / path.name
                    running[pool.submit(_execute, path, target, parameters, limit)] = path
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                done.append(future.result())
                print(f"  {done[-1].name} {'failed' if done[-1].error else 'done'}", flush=True)
    if not parameters or not any(one.error for one in done):
        shutil.rmtree(place / TRAINING, ignore_errors=True)
    shutil.rmtree(place / EMBEDDINGS, ignore_errors=True)  # the next run trusts none but its own
    return sorted(done, key=lambda one: one.name)


def _minutes(path: Path) -> int:
    return about(path).get("minutes", 1)


def _execute(path: Path, target: Path, parameters: dict[str, str | int] | None, seconds_a_cell: int | None) -> Run:
    import papermill

    start, error = time.monotonic(), ""
    takes = _takes(path) if parameters else set()
    for starts_left in reversed(range(STARTS)):
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
                shutdown_kernel="immediate",  # nothing is left to do, and taking libraries down takes seconds
                extra_arguments=["--Application.log_level=50"],  # no word about transport or interrupts
            )
        except papermill.PapermillExecutionError as problem:
            error = f"cell {problem.exec_count}: {problem.ename}: {problem.evalue}\n{_indent(problem.source)}"
        except (CellTimeoutError, DeadKernelError) as problem:
            cells = [cell for cell in nbformat.read(target, as_version=4).cells if cell.cell_type == "code"]
            count = next((n for n, cell in enumerate(cells, 1) if cell.execution_count is None), len(cells))
            reason = "took too long" if isinstance(problem, CellTimeoutError) else "killed its kernel: out of memory?"
            error = f"cell {count} {reason} ({type(problem).__name__})\n{_indent(cells[count - 1].source)}"
        except RuntimeError as problem:  # the kernel never answered: two that start at once can pick the same port
            if starts_left:
                continue
            error = f"its kernel did not start: {problem}"
        break
    return Run(path.stem, time.monotonic() - start, error)


def _takes(path: Path) -> set[str]:
    """Returns the names in a notebook's parameters cell."""
    import papermill

    return set(papermill.inspect_notebook(str(path)))


def _indent(text: str) -> str:
    return "\n".join("      " + line for line in text.splitlines()[:12])


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
        if problems := compare_notebooks(fresh, committed):
            found[name] = "; ".join(problems)
        elif not is_clean(committed):
            found[name] = "holds what changes from run to run"
    for new in sorted([*place.glob("data/results/*"), *place.glob("figures/*")]):
        name = new.relative_to(place)
        if problem := compare_files(new, root / name):
            found[name] = problem
    return found


def stale(place: Path, root: Path = ROOT) -> list[Path]:
    """Lists committed results and figures that a run of all notebooks did not write.

    Hidden files do not count, nor do those that `make bench` writes.
    """
    committed = [*root.glob("data/results/[!.]*"), *root.glob("figures/[!.]*")]
    names = {path.relative_to(root) for path in committed} - BENCHMARK_FILES
    return sorted(name for name in names if not (place / name).exists())


def _read(path: Path) -> NotebookNode:
    try:
        return clean(nbformat.read(path, as_version=4))
    except NotebookError as problem:
        raise NotebookError(f"notebooks/{path.name}, {problem}") from None


def publish(place: Path, paths: list[Path], root: Path = ROOT) -> list[Path]:
    """Copies what changed from a complete run into the tree, each file whole or not at all, and returns its names."""
    changed = list(changes(place, paths, root))
    for name in changed:
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = place / "partial"  # outside git, should the run be killed right here
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
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    paths = notebooks(place)
    with ProcessPoolExecutor(WORKERS) as pool:
        pages = pool.map(functools.partial(_render, partial, {path.stem for path in paths}), paths)
        list(tqdm(pages, desc="Rendering", unit="page", total=len(paths), leave=False, disable=None))
    entries = [(path.stem, about(path)["question"]) for path in paths]
    for folder in ("data/results", "figures"):
        if (place / folder).is_dir():
            shutil.copytree(place / folder, partial / folder)
    (partial / "index.html").write_text(_index(partial, entries), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)
    return target / "index.html"


def _render(folder: Path, names: set[str], path: Path) -> None:
    """Writes a notebook as an HTML page into `folder`, with links to the pages of the notebooks in `names`."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url="")
    page, _ = exporter.from_filename(str(path))
    page = re.sub(r'href="(\d\d_\w+)\.ipynb', lambda link: f'href="{_page(link[1], names)}', page)
    (folder / f"{path.stem}.html").write_text(page, encoding="utf-8")


def _page(name: str, own: set[str]) -> str:
    """Returns where a notebook's page lies: in this report or, where a study left it out, in that of all notebooks."""
    return f"{name}.html" if name in own else f"../../{REPORT}/{name}.html"


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


def reproduce(model: str, language: str, scenarios: str, device: str, steps: str) -> None:
    """Runs everything and publishes it into the tree, or a study of the reader's own into `build/<model>/`."""
    parameters = {"MODEL": model, "LANGUAGE": language, "SCENARIOS": scenarios, "DEVICE": device, "STEPS": steps}
    if own := {name: value for name, value in parameters.items() if value}:
        _study(own)
        return
    paths, place = notebooks(), BUILD / "reproduce"
    done = _run_all(paths, place)
    readme.check(place)  # before anything is published: does it still hold?
    published = publish(place, paths) + readme.update(ROOT)
    _table(done, place)
    page = report(ROOT, BUILD / REPORT)
    print(f"Published: {', '.join(map(str, published)) or 'nothing, all of it agrees with what is there'}")
    print(f"Report: {page.relative_to(ROOT)}")


def _study(own: dict[str, str | int]) -> None:
    """Checks what the reader gave, the model above all, then runs the study notebooks that take it."""
    scenarios = Path(own["SCENARIOS"]).expanduser() if "SCENARIOS" in own else None
    table = read(scenarios) if scenarios else read()
    if scenarios:
        own["SCENARIOS"] = str(scenarios.resolve())
    if "LANGUAGE" in own:
        own["LANGUAGE"] = language = own["LANGUAGE"].lower()
        if language not in set(table["language"]):
            there = ", ".join(table["language"].unique())
            raise ScenarioError(f"No scenario is in language {language!r}; there are {there}.")
    if "STEPS" in own:
        if not own["STEPS"].isdecimal() or not int(own["STEPS"]):
            raise NotebookError(f"STEPS={own['STEPS']} is no number of training steps; give a whole number from 1 on.")
        own["STEPS"] = int(own["STEPS"])
    device, workers = "", WORKERS
    if own.keys() & {"MODEL", "DEVICE"}:
        device, workers = _check_model(own.get("MODEL"), own.get("DEVICE"))
    folder = Path(own.get("MODEL", "")).expanduser()
    if "MODEL" in own and own["MODEL"] not in EMBEDDED and folder.is_dir():
        own["MODEL"] = str(folder.resolve())
    target = BUILD / _study_name(own)
    place = BUILD / f".{target.name}.partial"
    given = own.keys() - {"DEVICE"}
    paths = [path for path in notebooks() if about(path).get("study") and (not given or given & _takes(path))]
    done = _run_all(paths, place, own, device, workers)
    page = report(place, place / REPORT)
    shutil.rmtree(target, ignore_errors=True)
    place.replace(target)
    _table(done, target)
    for warning in _warnings(target):
        print(f"Note: {warning}")
    print(f"Report: {(target / page.relative_to(place)).relative_to(ROOT)}")
    for found in sorted(target.glob("data/results/*_recipe_card.html")):
        print(f"Recipe card: {found.relative_to(ROOT)}")


def _check_model(model: str | None, device: str | None) -> tuple[str, int]:
    """Says what memory a model needs, loads it and compares its known answers.

    All of it happens in a process of its own, so that the notebooks find its memory free again.

    Returns:
        The device that is used, and how many notebooks may load the model at the same time: as many as it fits in for.
    """
    answers, workers = None, WORKERS
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            device = pool.submit(choose_device, device).result()
            if model:
                need = pool.submit(memory, model, device).result()
                print(need, flush=True)
                workers = WORKERS if need.fits(copies=WORKERS) else 1
                answers = pool.submit(_known_answers, model, device).result()
        except BrokenProcessPool:
            raise NotebookError(
                f"The process that loaded {model} was stopped, as happens when memory runs out; choose a smaller model."
            ) from None
    if answers and not answers.agree:
        raise NotebookError(
            f"{answers}, so no notebook was run: download {model} again or, if it is another model, put it into a "
            "folder of another name."
        )
    if model:
        print(answers or f"{model}: no published numbers are known to check it by", flush=True)
    return device, workers


def _known_answers(model: str, device: str) -> known.Answers | None:
    return known.check(load(model, device), model)


def _study_name(own: dict[str, str | int]) -> str:
    """Returns the folder in `build/` for a study: the model's name, or what stands in for it."""
    stem = Path(own.get("SCENARIOS", "")).stem
    full = (
        own.get("MODEL")
        or f"embedded-{stem or own.get('LANGUAGE') or own.get('DEVICE') or '{STEPS}-steps'.format(**own)}"
    )
    name = re.sub(r"[^\w.-]+", "--", Path(full).name if Path(full).is_absolute() else full).strip(".")
    if Path(full).is_absolute() or name in RESERVED or len(name.encode()) > 100:  # tell folders of one name apart
        name = f"{name.encode()[:100].decode(errors='ignore')}-{sha256(full.encode()).hexdigest()[:6]}"
    return name


def _warnings(place: Path) -> Iterator[str]:
    """Yields the warnings that the notebooks of a study wrote, such as that of truncated texts."""
    for path in notebooks(place):
        for cell in nbformat.read(path, as_version=4).cells:
            for one in cell.get("outputs", []):
                if one.get("name") == "stderr":
                    yield from re.findall(r"Warning: (.+)", one.text)


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


def _run_all(paths: list[Path], place: Path, *options: Any) -> list[Run]:
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(_check_weights, SOURCES))
    done = run(paths, place, *options)
    if failed := [one for one in done if one.error]:
        where = f"What ran is in {(place / 'notebooks').relative_to(ROOT)}."
        raise NotebookError("\n".join([*(f"notebooks/{one.name}.ipynb, {one.error}" for one in failed), where]))
    return done


def _check_weights(name: str) -> None:
    """Compares every checksum of a model: numbers from damaged weights would look like any others."""
    with suppress(NotOnThisPlatform):  # a notebook that needs it takes it from the hub, or says why it cannot
        unpack(name)


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
    for name in ("model", "language", "scenarios", "device", "steps"):
        command.add_argument(f"--{name}", default="")
    commands.add_parser("verify")
    commands.add_parser("report")
    arguments = vars(parser.parse_args())
    command = arguments.pop("command")
    try:
        with alone():
            if command == "reproduce":
                reproduce(**arguments)
            elif command == "report":
                print(f"Report: {report(ROOT, BUILD / 'report').relative_to(ROOT)}")
            elif problems := verify():
                raise NotebookError(
                    "\n".join(["These differ from a fresh run; `make reproduce` rewrites them:", *problems])
                )
            else:
                print("Every committed output agrees with a fresh run.")
    except (ModelError, NotebookError, ScenarioError, WeightsError, readme.FindingError) as problem:
        print(f"\n{problem}\nNothing in git was changed.", file=sys.stderr)
        return 1
    except OSError as problem:
        print(f"\n{problem.filename or BUILD} cannot be used: {problem.strerror or problem}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; run the same command again.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
