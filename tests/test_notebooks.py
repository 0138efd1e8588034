"""The notebooks keep the house style, and what is committed is what a fresh run shows."""

import ast
import re
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest
from nbformat import NotebookNode

from helpers import readme
from helpers.compare import clean
from helpers.notebooks import alone, changes, run, stale
from helpers.paths import BUILD, ROOT
from helpers.series import SKIPPED, about, notebooks

PATHS = notebooks()
SHORT = [path for path in PATHS if not about(path).get("long")]
FORBIDDEN = r"sys\.path|os\.chdir|^\s*%|^\s*!|import \*|except:|trust_remote_code|/home/|/Users/|[A-Z]:\\\\"


def by_name(path: Path) -> str:
    return path.stem


@pytest.fixture(params=PATHS, ids=by_name)
def notebook(request: pytest.FixtureRequest) -> NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_trial(cell: NotebookNode) -> bool:
    """Whether a cell settles claims: such cells come on top of what a notebook teaches, with limits of their own."""
    return "claims" in cell.metadata.get("tags", [])


def number(file: Path) -> str:
    """Returns the number of the notebook that writes a committed file; the ledger alone goes by no number."""
    return "11" if file.name == "claims.csv" else file.name[:2]


@pytest.fixture(scope="session")
def fresh() -> dict[str, list[str]]:
    """Runs the short notebooks once and says, by notebook number, what differs from git."""
    place = BUILD / "test"
    found: dict[str, list[str]] = {}
    with alone():
        failed = {one.name: [one.error] for one in run(SHORT, place) if one.error}
        assert not failed, failed
        for name, problem in changes(place, SHORT).items():
            found.setdefault(number(name), []).append(f"{name}: {problem}")
        for name in stale(place):
            found.setdefault(number(name), []).append(f"{name}: no notebook writes it")
    return found


@pytest.mark.parametrize("path", SHORT, ids=by_name)
def test_committed_outputs_agree_with_a_fresh_run(path: Path, fresh: dict[str, list[str]]) -> None:
    assert fresh.get(number(path), []) == []


def test_every_committed_result_belongs_to_a_notebook() -> None:
    numbers = {number(path) for path in PATHS}
    files = [*ROOT.glob("data/results/[!.]*"), *ROOT.glob("figures/[!.]*")]
    benchmark = {ROOT / readme.BENCHMARK, ROOT / readme.BENCHMARK_FIGURE}
    assert files
    assert [path.name for path in files if number(path) not in numbers and path not in benchmark] == []


def test_readme_agrees_with_the_results() -> None:
    assert readme.differences(ROOT) == []


def test_what_notebook_04_says_in_words_is_what_it_counts() -> None:
    found = pd.read_csv(ROOT / readme.DECODERS).set_index(["what", "case"])["value"]
    for count in ("must be 1", "is 1"):  # "one cell", "fifteen cells", "item by item (four)"
        assert found[f"{count}, sees nothing"].tolist() == [1, 1, 15, 4, 0, 0, 0]
        assert found[f"{count}, sees every slot"].tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert found["must agree, sees nothing"].tolist() == [0, 0, 0, 0, 0, 0, 14]  # "fourteen cells"
    assert found["must agree, sees every slot"].tolist() == [0] * 7


def test_first_cells(notebook: NotebookNode) -> None:
    opening, parameters = notebook.cells[:2]
    assert re.match(r"# \d\d · ", opening.source)
    assert "You will be able to" in opening.source
    assert parameters.metadata.get("tags") == ["parameters"]
    for statement in ast.parse(parameters.source).body:
        assert isinstance(statement, ast.Assign), "the parameters cell holds assignments only"
        ast.literal_eval(statement.value)


@pytest.mark.parametrize("path", PATHS, ids=by_name)
def test_parameters_reach_the_notebook(path: Path) -> None:
    """The runner passes what papermill finds in the cell, and papermill leaves out a line that it cannot parse."""
    statements = ast.parse(nbformat.read(path, as_version=4).cells[1].source).body
    assert set(papermill.inspect_notebook(str(path))) == {statement.targets[0].id for statement in statements}


def test_last_cells(notebook: NotebookNode) -> None:
    closing = "\n".join(cell.source for cell in notebook.cells[-6:]).lower()
    for part in ("takeaways", "limits", "exercises", ".ipynb)"):
        assert part in closing


def test_size(notebook: NotebookNode) -> None:
    lengths: dict[bool, list[int]] = {True: [], False: []}
    for cell in code_cells(notebook):
        lengths[is_trial(cell)].append(len(cell.source.splitlines()))
    assert 20 <= len(notebook.cells) - len(lengths[True]) <= 45
    assert max(lengths[True] + lengths[False]) <= 25
    assert sum(lengths[False]) <= 150
    assert sum(lengths[True]) <= 140


def test_code_is_introduced(notebook: NotebookNode) -> None:
    cells = notebook.cells
    introduced = [
        before.cell_type == "markdown"
        for before, cell in zip(cells, cells[1:], strict=False)
        if cell.cell_type == "code" and not is_trial(cell)
    ]
    assert sum(introduced) >= 0.85 * len(introduced)


def test_headline_numbers_are_asserted(notebook: NotebookNode) -> None:
    assert sum("assert " in cell.source for cell in code_cells(notebook)) >= 3


def test_nothing_forbidden(notebook: NotebookNode) -> None:
    for cell in code_cells(notebook):
        assert not re.search(FORBIDDEN, cell.source, re.MULTILINE), cell.source


def test_links_lead_somewhere(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        for target in re.findall(r"\]\(([^)#\s]+\.(?:ipynb|png|csv|md|py))\)", cell.source):
            assert target.startswith("http") or (ROOT / "notebooks" / target).exists(), target


def test_committed_notebook_is_clean(notebook: NotebookNode) -> None:
    assert clean(notebook) == notebook
    text = nbformat.writes(notebook)
    assert str(ROOT) not in text
    assert str(Path.home()) + "/" not in text
    assert len(text) < 900_000


def test_committed_notebook_was_run(notebook: NotebookNode) -> None:
    for cell in code_cells(notebook):
        skipped = SKIPPED in cell.metadata.get("tags", [])
        assert bool(cell.execution_count) != skipped, cell.source
        assert not (skipped and cell.outputs), "widgets have no place in git"
    assert not [one for cell in code_cells(notebook) for one in cell.outputs if one.output_type == "error"]
    assert sum(bool(cell.outputs) for cell in code_cells(notebook)) >= 10
