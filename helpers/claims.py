"""The articles' claims on trial: a verdict is computed from what a notebook measured, and kept with its evidence."""

import ast
import difflib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd

from helpers.markup import inline
from helpers.paths import DATA, save_table
from helpers.series import NotebookError

VERDICTS = {  # with the mark that stands beside its colour
    "confirmed": ("✓", "#1b6e3c"),
    "partly": ("◐", "#8a5a00"),
    "wrong": ("✗", "#a61c1c"),
    "outdated": ("↺", "#5b4a8a"),
    "not transferable": ("≠", "#8a2f6b"),
    "unsupported": ("?", "#4a5560"),
    "needs Qwen3 weights": ("…", "#1f5f8b"),
    "not checkable": ("–", "#4a5560"),
}
ARTICLES = {"cls_vs_normalized": "first", "pooling_tutorial": "second"}
COLUMNS = ["id", "article", "section", "where", "claim", "notebook", "provisional", "difference"]
EVIDENCE = ["id", "verdict", "claimed", "setting", "measured", "low", "high", "holds", "because", "source", "model"]
OUTCOMES = {True: "yes", False: "no", None: "undecided"}
MARKS = {"yes": "✓", "no": "✗", "undecided": "?"}
HEAD = ("", "claim", "measured here", "verdict", "why")
NOTHING = "Nothing that can be settled with this model."
QWEN3 = re.compile(r"qwen3-embedding-\d", re.IGNORECASE)

Value = bool | int | float | str
Measured = Value | tuple[float, float, float]


class ClaimError(ValueError):
    """A claim is unknown, was checked in a way that decides nothing, or was not settled where it should have been."""


@dataclass(frozen=True)
class Setting:
    """What was measured in one setting of a claim, and what follows.

    Attributes:
        name: The model, pooling or part of the claim; empty where there is one alone.
        value: What was measured.
        low: Lower end of its 95 % interval; NaN without one.
        high: Upper end.
        holds: Whether the claim holds here; None where the interval leaves it open.
    """

    name: str
    value: Value
    low: float
    high: float
    holds: bool | None

    def __str__(self) -> str:
        return described(self.name, text(self.value), _end(self.low), _end(self.high))


@dataclass(frozen=True)
class Finding:
    """A claim with its verdict and the evidence for it."""

    id: str
    claim: str
    verdict: str
    claimed: str
    settings: tuple[Setting, ...]
    because: str
    source: str


class Trial:
    """What one notebook finds out about the claims.

    Args:
        notebook: The notebook's name, such as "02_cls_vs_normalized".
        model: The model under study, as its `MODEL` names it. Only a Qwen3-Embedding can settle what is said of it.
    """

    def __init__(self, notebook: str, model: str) -> None:
        self.notebook = notebook
        self.model = model
        self.claims = read().set_index("id")
        self.findings: dict[str, Finding] = {}
        self._shown: set[str] = set()

    def check(
        self,
        id: str,
        measured: Measured | Mapping[str, Measured] | None = None,
        *,
        claimed: Value = "",
        tolerance: float = 0,
        holds: Callable[[Value], bool] | None = None,
        because: str,
        transfers: bool = False,
        held: str = "",
        needs_qwen3: bool = False,
        missing: str = "",
        source: str = "",
    ) -> Finding:
        """Settles a claim by what was measured; a second check of the same claim replaces the first.

        A setting is judged by `holds`; without it by whether it equals `claimed`; without that, a bool says itself
        whether its part of the claim holds. A value with an interval meets `holds` if it and both ends do, fails if
        none of them does, and is undecided otherwise; a `claimed` number must lie in the interval.

        Args:
            id: The claim's id in data/claims.csv.
            measured: A value, a value with its 95 % interval as (value, low, high), or several of them by setting.
            claimed: What the article says, as a value to compare with or as a few words for the reader.
            tolerance: By how much a number may differ from `claimed`.
            holds: Whether a value bears the claim out.
            because: One sentence that explains the verdict.
            transfers: The article says it of Qwen3-Embedding-4B, and the question is whether it carries over.
            held: With which older version it was true, and where that is written.
            needs_qwen3: Only the weights of a Qwen3-Embedding can settle it.
            missing: What would have to be known to settle it, where nobody can.
            source: The document that the measured value was read from, where it was not measured here.

        Returns:
            The finding, with its verdict:

            - confirmed: it holds in all settings;
            - partly: it holds in some of them, and fails or stays open in others;
            - wrong: it holds in none; or outdated, if `held` says that it once did;
            - not transferable: it fails in any of them, where `transfers` asks whether it carries over;
            - unsupported: every interval leaves it open;
            - needs Qwen3 weights: with `needs_qwen3`, unless the model under study is one;
            - not checkable: with `missing`.

        Raises:
            ClaimError: The id is unknown or belongs to another notebook, or nothing here could have decided it.
        """
        self._check_id(id)
        settings = _settings(id, measured, claimed, tolerance, holds)
        waits = needs_qwen3 and not QWEN3.match(Path(self.model).name)
        if not because.strip().endswith("."):
            raise ClaimError(f"Claim {id}: because={because!r} must be a sentence, with its full stop.")
        if not settings and not waits and not missing:
            raise ClaimError(f"Claim {id}: nothing was measured; pass a value, needs_qwen3=True or missing=…")
        if settings and missing:
            raise ClaimError(f"Claim {id} has a measurement, so nothing can be missing; leave one of them out.")
        if waits:
            verdict = "needs Qwen3 weights"
        elif missing:
            verdict, because = "not checkable", f"{because} Missing: {missing}"
        else:
            said_of_it = transfers and not QWEN3.match(Path(self.model).name)
            verdict = judge([one.holds for one in settings], transfers=said_of_it, held=bool(held))
        if verdict == "outdated":
            because = f"{because} It held with {held}."
        said = self.claims.at[id, "claim"]
        self.findings[id] = Finding(id, said, verdict, text(claimed), settings, because, source)
        self._shown.discard(id)
        return self.findings[id]

    def show(self) -> "Table":
        """Returns a table of what was checked since the last one; let it be the last expression of a cell."""
        new = [finding for id, finding in self.findings.items() if id not in self._shown]
        self._shown |= {finding.id for finding in new}
        return Table(new)

    def save(self, complete: bool = True) -> str:
        """Writes the evidence as `data/results/<number>_claims.csv` below `paths.output()`, one row for each setting.

        Args:
            complete: Whether every claim that data/claims.csv gives to this notebook must have been settled; a study
                of another model may leave some out.

        Returns:
            That relative name.

        Raises:
            ClaimError: A claim of this notebook's was not settled.
        """
        number = self.notebook[:2]
        left = [id for id, own in self.claims["notebook"].items() if own == number and id not in self.findings]
        if complete and left:
            raise ClaimError(
                f"Notebook {number} settles {', '.join(left)} no longer; check them, or move them in data."
            )
        rows = [row | {"model": self.model} for finding in self.findings.values() for row in _rows(finding)]
        return save_table(pd.DataFrame(rows, columns=EVIDENCE), f"{number}_claims")

    def _check_id(self, id: str) -> None:
        if id not in self.claims.index:
            close = difflib.get_close_matches(id, self.claims.index, 3)
            raise ClaimError(f"There is no claim {id!r} in data/claims.csv; close to it: {', '.join(close) or 'none'}.")
        own = self.claims.at[id, "notebook"]
        if own != self.notebook[:2]:
            raise ClaimError(f"Claim {id} is notebook {own}'s, not {self.notebook}'s; data/claims.csv says so.")


@dataclass(frozen=True)
class Table:
    """Findings, as a notebook shows them."""

    findings: Sequence[Finding]

    def __repr__(self) -> str:
        lines = [] if self.findings else [NOTHING]
        for one in self.findings:
            lines.append(f"{one.id}  {one.verdict}: {one.claim}")
            lines += [f"    {setting} → {OUTCOMES[setting.holds]}" for setting in one.settings]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = ""
        for one in self.findings:
            settings = [(str(setting), OUTCOMES[setting.holds]) for setting in one.settings]
            why = inline(explanation(one.because, one.source))
            rows += row(one.id, inline(one.claim), one.claimed, settings, one.verdict, why)
        return page(rows) if rows else f"<p>{NOTHING}</p>"


STYLE = (  # JupyterLab gives all columns of a table the same width, and aligns them to the right
    "<style>table.claims{width:100%;table-layout:fixed;border-collapse:collapse;font-size:13px}"
    "table.claims :is(th,td){text-align:left!important;vertical-align:top;white-space:normal;overflow-wrap:anywhere;"
    "padding:.4rem .5rem}table.claims ul{margin:0;padding-left:1rem}.verdict{font-weight:bold}"
    "table.claims small{color:#555}table.claims th:nth-child(1){width:2.4rem}table.claims th:nth-child(2){width:27%}"
    "table.claims th:nth-child(3){width:26%}table.claims th:nth-child(4){width:6rem}</style>"
)


def badge(verdict: str) -> str:
    """Returns a verdict as HTML: its mark, its colour and its name."""
    mark, colour = VERDICTS[verdict]
    return f'<span class="verdict" style="color:{colour}">{mark} {verdict}</span>'


def row(
    id: str,
    claim: str,
    claimed: str,
    settings: Sequence[tuple[str, str]],
    verdict: str,
    why: str,
    data: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Returns a claim as a row of an HTML table under `HEAD`.

    Args:
        id: The claim's id.
        claim: The claim, as HTML.
        claimed: What the article says.
        settings: What was measured in each setting, and whether the claim holds there, of `MARKS`.
        verdict: One of `VERDICTS`.
        why: The explanation, as HTML.
        data: The row's data attributes.
    """
    lines = [f"{inline(measured)}\N{NO-BREAK SPACE}{MARKS[holds]}" for measured, holds in settings]
    shown = lines[0] if len(lines) == 1 else "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"
    attributes = "".join(f' data-{name}="{escape(value)}"' for name, value in data.items())
    said = f"<br><small>claimed: {inline(claimed)}</small>" if claimed else ""
    columns = (f"<strong>{escape(id)}</strong>", claim + said, shown if lines else "", badge(verdict), why)
    return f"<tr{attributes}>" + "".join(f"<td>{column}</td>" for column in columns) + "</tr>"


def page(rows: str) -> str:
    """Returns rows of HTML as a table with its style."""
    head = "".join(f"<th>{name}</th>" for name in HEAD)
    return f'{STYLE}<table class="claims"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def described(setting: str, measured: str, low: str, high: str) -> str:
    """Returns what was measured in a setting as a phrase; the ends of the interval are empty where there is none."""
    interval = f" ({low} to {high})" if low else ""
    return f"{setting}: {measured}{interval}" if setting else f"{measured}{interval}"


def explanation(because: str, source: str) -> str:
    """Returns why a verdict is what it is, with its source where it has one."""
    return f"{because} Source: {source}." if source else because


def judge(outcomes: Sequence[bool | None], *, transfers: bool = False, held: bool = False) -> str:
    """Returns the verdict that follows from whether a claim holds in each of its settings.

    Args:
        outcomes: True, False, or None where that is open; one or more.
        transfers: Whether the question is if the claim carries over from the model that it was made for.
        held: Whether the claim once held with an older version.
    """
    if all(outcomes):
        return "confirmed"
    if not any(outcomes) and False not in outcomes:
        return "unsupported"
    if transfers and False in outcomes:
        return "not transferable"
    if any(outcomes):
        return "partly"
    return "outdated" if held else "wrong"


def read(path: Path = DATA / "claims.csv") -> pd.DataFrame:
    """Reads the claims.

    Returns:
        One row for each, all columns text: `id`; `article`, of `ARTICLES`; `section` and `where` to find it there; the
        `claim` in the lab's words; `notebook`, the number of the one that settles it; the `provisional` verdict, empty
        for a claim that was added later; and why the verdict is another now, `difference`, empty where it is not.

    Raises:
        ClaimError: A column is missing, an id is double, or a cell holds what it must not.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if list(table.columns) != COLUMNS:
        raise ClaimError(f"{path.name} has the columns {', '.join(table.columns)}; it must have {', '.join(COLUMNS)}.")
    allowed = {"article": {*ARTICLES}, "provisional": {"", *VERDICTS}}
    for row, claim in table.iterrows():
        for column, values in allowed.items():
            if claim[column] not in values:
                known = ", ".join(sorted(values - {""}))
                raise ClaimError(f"{path.name}, row {row + 2}, {column}: {claim[column]!r} is none of {known}.")
        for column in ("id", "section", "where", "claim", "notebook"):
            if not claim[column].strip():
                raise ClaimError(f"{path.name}, row {row + 2}, {column}: it is empty; every claim needs one.")
    if double := list(table.loc[table["id"].duplicated(), "id"]):
        raise ClaimError(f"{path.name}: {', '.join(double)} stands there twice; give each claim an id of its own.")
    return table


class Cell(NamedTuple):
    """Where a claim is checked: the cell's id, and the source of the call."""

    id: str
    call: str


def cells(notebook: Path) -> dict[str, Cell]:
    """Returns where a notebook checks which claim, by the claim's id, which must stand there in so many letters.

    Raises:
        NotebookError: A cell is not Python.
    """
    found = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or ".check(" not in source:
            continue
        try:
            calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
        except SyntaxError as problem:
            raise NotebookError(f"{notebook.name}, cell {cell['id']}: {problem}") from None
        for call in calls:
            name = call.args[0] if call.args else None
            if getattr(call.func, "attr", "") == "check" and isinstance(name, ast.Constant):
                found[name.value] = Cell(cell["id"], ast.get_source_segment(source, call))
    return found


def text(value: Value) -> str:
    """Returns a value as it is shown: yes or no, a whole number as it is, another with at most three decimals."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:z.3f}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def _settings(
    id: str,
    measured: Measured | Mapping[str, Measured] | None,
    claimed: Value,
    tolerance: float,
    holds: Callable[[Value], bool] | None,
) -> tuple[Setting, ...]:
    if measured is None:
        return ()
    by_setting = measured if isinstance(measured, Mapping) else {"": measured}
    settings = []
    for name, one in by_setting.items():
        if isinstance(one, tuple) and (len(one) != 3 or one[1] > one[2]):
            raise ClaimError(f"Claim {id}, {name or 'its value'}: {one} must be (value, low, high).")
        value, low, high = map(_plain, one) if isinstance(one, tuple) else (_plain(one), math.nan, math.nan)
        numbers = [number for number in (value, low, high) if isinstance(number, float)]
        if isinstance(one, tuple) and any(map(math.isnan, numbers)) or isinstance(value, float) and math.isnan(value):
            raise ClaimError(f"Claim {id}, {name or 'its value'}: {one} is no measurement; leave that setting out.")
        settings.append(Setting(name, value, low, high, _holds(id, value, low, high, claimed, tolerance, holds)))
    return tuple(settings)


def _holds(
    id: str,
    value: Value,
    low: float,
    high: float,
    claimed: Value,
    tolerance: float,
    holds: Callable[[Value], bool] | None,
) -> bool | None:
    if holds is not None:
        ends = {bool(holds(one)) for one in (low, value, high) if isinstance(one, str) or not math.isnan(one)}
        return ends.pop() if len(ends) == 1 else None
    if isinstance(value, bool) and isinstance(claimed, str):
        return value
    if isinstance(value, str) or isinstance(claimed, str | bool):
        if claimed == "" or isinstance(value, str) != isinstance(claimed, str):
            raise ClaimError(f"Claim {id}: {value!r} cannot be compared with {claimed!r}; pass holds=…")
        return value == claimed
    low, high = (value, value) if math.isnan(low) else (low, high)
    return bool(low - tolerance <= claimed <= high + tolerance)


def _plain(value: object) -> Value:
    """Turns a NumPy, pandas or torch scalar into Python's own."""
    return value.item() if hasattr(value, "item") else value


def _rows(finding: Finding) -> list[dict[str, object]]:
    common = {key: getattr(finding, key) for key in ("id", "verdict", "claimed", "because", "source")}
    settings = finding.settings or (Setting("", "", math.nan, math.nan, None),)
    return [
        common
        | {"setting": one.name, "measured": text(one.value), "low": _end(one.low), "high": _end(one.high)}
        | {"holds": OUTCOMES[one.holds] if finding.settings else ""}
        for one in settings
    ]


def _end(value: float) -> str:
    return "" if math.isnan(value) else text(value)
