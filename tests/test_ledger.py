"""The ledger joins claims with their evidence, and no claim slips through."""

from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from helpers import claims, ledger
from helpers.claims import ClaimError
from helpers.compare import compare_files
from helpers.paths import DATA, ROOT
from helpers.series import NotebookError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with one notebook, 04, that checks B1 and B3 in one cell and C1 in another."""
    sources = ['trial.check("B1", True, because="x.")\ntrial.check("B3", 1, because="x.")', "2 + 2"]
    sources += ['if True:\n    found = trial.check(\n        "C1", True, because="y."\n    )\nother.check(name)']
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"04-{number}"
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks/04_some.ipynb")
    return tmp_path


@pytest.fixture
def few() -> pd.DataFrame:
    table = claims.read()
    return table[table["id"].isin(["B1", "B3", "C1"])]


def rows(**verdicts: str) -> pd.DataFrame:
    """Evidence from notebook 04: two settings for each claim."""
    common = {"notebook": "04", "claimed": "4096", "because": "It is `so`.", "source": "a card", "model": "minilm"}
    return pd.DataFrame(
        common
        | {"id": id, "verdict": verdict, "setting": name, "measured": value, "low": low, "high": high, "holds": holds}
        for id, verdict in verdicts.items()
        for name, value, low, high, holds in (
            ("<cls>", "0.500", "0.400", "0.600", "no"),
            ("mean", "yes", "", "", "yes"),
        )
    )


def test_cells_are_found_by_the_claims_that_they_name(tree: Path) -> None:
    found = claims.cells(tree / "notebooks/04_some.ipynb")
    assert {id: cell.id for id, cell in found.items()} == {"B1": "04-0", "B3": "04-0", "C1": "04-2"}
    assert found["B3"].call == 'trial.check("B3", 1, because="x.")'
    assert found["C1"].call.splitlines()[0] == "trial.check("


def test_a_cell_that_is_no_python_is_named(tree: Path) -> None:
    path = tree / "notebooks/04_some.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].source = "trial.check( ="
    nbformat.write(notebook, path)
    with pytest.raises(NotebookError, match=r"04_some\.ipynb, cell 04-2"):
        claims.cells(path)


def test_each_claim_gets_its_verdict_evidence_and_cell(few: pd.DataFrame, tree: Path) -> None:
    found = ledger.collect(few, rows(B1="confirmed", B3="wrong", C1="partly"), tree)
    assert list(found.columns) == ledger.COLUMNS
    assert found["verdict"].tolist() == ["confirmed", "wrong", "partly"]
    assert found["cell"].tolist() == ["04-0", "04-0", "04-2"]
    assert set(found["notebook"]) == {"04_some"}
    assert found["measured"][0] == "<cls>: 0.500 (0.400 to 0.600) [no]; mean: yes [yes]"


def test_a_claim_without_a_verdict_is_named(few: pd.DataFrame, tree: Path) -> None:
    with pytest.raises(ClaimError, match="No notebook settles B3, C1:"):
        ledger.collect(few, rows(B1="confirmed"), tree)


def test_evidence_for_no_claim_is_named(few: pd.DataFrame, tree: Path) -> None:
    with pytest.raises(ClaimError, match="evidence for Z9"):
        ledger.collect(few, rows(B1="confirmed", B3="wrong", C1="partly", Z9="wrong"), tree)


def test_a_claim_settled_elsewhere_is_named(few: pd.DataFrame, tree: Path) -> None:
    moved = rows(B1="confirmed", B3="wrong", C1="partly").assign(notebook="05")
    with pytest.raises(ClaimError, match="B1 was settled in 05, but is notebook 04's"):
        ledger.collect(few, moved, tree)


def test_a_verdict_without_a_cell_is_named(few: pd.DataFrame, tree: Path) -> None:
    path = tree / "notebooks/04_some.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].source = "3 + 3"
    nbformat.write(notebook, path)
    with pytest.raises(ClaimError, match="C1 has a verdict, but no cell of 04_some"):
        ledger.collect(few, rows(B1="confirmed", B3="wrong", C1="partly"), tree)


def test_a_study_changes_what_it_measures_and_no_more(tmp_path: Path) -> None:
    for folder, verdicts in (("fresh", {"B3": "confirmed"}), ("committed", {"B1": "partly", "B3": "wrong"})):
        (tmp_path / folder).mkdir()
        rows(**verdicts).drop(columns="notebook").to_csv(tmp_path / folder / "04_claims.csv", index=False)
    found = ledger.evidence([tmp_path / "fresh", tmp_path / "committed"])
    assert dict(zip(found["id"], found["verdict"], strict=True)) == {"B1": "partly", "B3": "confirmed"}
    assert found.groupby("id").size().to_dict() == {"B1": 2, "B3": 2}
    assert set(found["notebook"]) == {"04"}


def test_verdicts_are_counted_by_article(few: pd.DataFrame, tree: Path) -> None:
    table = ledger.counts(ledger.collect(few, rows(B1="wrong", B3="wrong", C1="partly"), tree))
    assert table.loc["wrong"].tolist() == [0, 2, 2]
    assert table.loc["partly", "second article"] == 1
    assert table.to_numpy().sum() == 6
    assert list(table.index) == list(claims.VERDICTS)


def test_numbers_are_for_drawing() -> None:
    table = rows(B3="wrong")
    with pytest.raises(ClaimError, match="not settled by numbers alone"):
        ledger.numbers(table, "B3")
    found = ledger.numbers(table.head(1), "B3")
    assert found.loc[0, ["measured", "low", "high"]].tolist() == [0.5, 0.4, 0.6]


class Page(HTMLParser):
    """Collects the rows of a page, the choices of its menus, and its links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows, self.choices, self.links = [], [], []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "tr" and "data-verdict" in given:
            self.rows.append(given)
        if tag == "option" and given["value"]:
            self.choices.append(given["value"])
        if tag == "a":
            self.links.append(given["href"])


def test_page_shows_filters_and_links_and_escapes(few: pd.DataFrame, tree: Path) -> None:
    found = rows(B1="wrong", B3="wrong", C1="partly")
    html = ledger.to_html(ledger.collect(few.assign(section='<i> "x"'), found, tree), found)
    page = Page(html)
    assert [row["data-verdict"] for row in page.rows] == ["1", "1", "0"]
    assert {row["data-section"] for row in page.rows} == {"0"}
    assert page.choices == ["article0", "article1", "section0", "verdict0", "verdict1"]
    assert '.ledger:has(option[value="verdict1"]:checked) tbody tr:not([data-verdict="1"]){display:none}' in html
    assert '<option value="verdict1">wrong</option>' in html
    assert page.links == ["04_some.ipynb#cell-id=04-0"] * 2 + ["04_some.ipynb#cell-id=04-2"]
    assert "<i>" not in html
    assert "&lt;cls&gt;: 0.500 (0.400 to 0.600)\N{NO-BREAK SPACE}✗" in html
    assert "<script" not in html


# What is committed


def test_every_claim_has_a_verdict_and_evidence() -> None:
    found = ledger.evidence([DATA / "results"])
    table = ledger.collect(claims.read(), found)
    assert len(table) >= 81
    assert set(table["verdict"]) <= set(claims.VERDICTS)
    assert table["because"].str.len().min() > 15
    bare = table[table["measured"].eq("") & ~table["verdict"].isin(["needs Qwen3 weights", "not checkable"])]
    assert bare["id"].tolist() == []


def test_committed_verdicts_follow_from_the_committed_evidence() -> None:
    """So that nobody can type one: what is said to hold in each setting decides it."""
    outcomes = {word: outcome for outcome, word in claims.OUTCOMES.items()}
    for id, rows in ledger.evidence([DATA / "results"]).groupby("id"):
        verdict = rows["verdict"].iloc[0]
        if verdict in ("needs Qwen3 weights", "not checkable"):
            continue
        holds = [outcomes[word] for word in rows["holds"]]
        modes = [{}, {"transfers": True}, {"held": True}]
        assert verdict in [claims.judge(holds, **mode) for mode in modes], id


def test_every_difference_from_the_provisional_verdict_is_explained() -> None:
    table = ledger.collect(claims.read(), ledger.evidence([DATA / "results"]))
    differs = table["provisional"].ne("") & table["provisional"].ne(table["verdict"])
    assert table.loc[differs & table["difference"].eq(""), "id"].tolist() == []
    assert table.loc[~differs & table["difference"].ne(""), "id"].tolist() == []


def test_the_committed_ledger_is_that_of_the_evidence(tmp_path: Path) -> None:
    table = ledger.collect(claims.read(), ledger.evidence([DATA / "results"]))
    table.to_csv(tmp_path / "claims.csv", index=False, lineterminator="\n")
    assert compare_files(tmp_path / "claims.csv", DATA / "results/claims.csv") == ""


def test_every_deciding_cell_is_one_of_trials() -> None:
    table = ledger.collect(claims.read(), ledger.evidence([DATA / "results"]))
    for name, rows in table.groupby("notebook"):
        cells = {cell.id: cell for cell in nbformat.read(ROOT / f"notebooks/{name}.ipynb", as_version=4).cells}
        for cell in rows["cell"]:
            assert "claims" in cells[cell].metadata.get("tags", []), (name, cell)
