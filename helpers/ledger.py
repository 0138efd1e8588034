"""The ledger of all claims: their verdicts with the evidence of every notebook, as a table and as a page."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import pandas as pd

from helpers.claims import ARTICLES, EVIDENCE, VERDICTS, ClaimError, cells, described, explanation, page, row
from helpers.markup import inline
from helpers.paths import DATA, ROOT, output
from helpers.series import notebooks

COLUMNS = [
    *("id", "article", "section", "where", "claim", "verdict", "claimed", "measured", "because", "source", "model"),
    *("notebook", "cell", "provisional", "difference"),
]
STYLE = ".ledger label{margin-right:1rem}.ledger select{max-width:16rem;font:inherit}"


def evidence(folders: Sequence[Path] | None = None) -> pd.DataFrame:
    """Collects what the notebooks wrote by `Trial.save`.

    Args:
        folders: Where results may lie, the first that settles a claim counting; by default those of the run that is
            going on, then the committed ones, so that a study of another model changes what it measures and no more.

    Returns:
        All columns text: `notebook`, its number, and those of `claims.EVIDENCE`, one row for each setting of each
        claim.
    """
    folders = [output() / "data/results", DATA / "results"] if folders is None else folders
    tables, settled = [pd.DataFrame(columns=["notebook", *EVIDENCE])], set()
    for folder in folders:
        for path in sorted(folder.glob("[0-9][0-9]_claims.csv")):
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
            tables.append(table[~table["id"].isin(settled)].assign(notebook=path.name[:2]))
        settled = {id for table in tables for id in table["id"]}
    return pd.concat(tables, ignore_index=True)


def collect(claims: pd.DataFrame, evidence: pd.DataFrame, root: Path = ROOT) -> pd.DataFrame:
    """Joins each claim with its verdict and the evidence for it.

    Args:
        claims: From `claims.read`.
        evidence: From `evidence`.
        root: The tree with the notebooks, in which the deciding cells are looked up.

    Returns:
        One row for each claim with the columns `COLUMNS`, all text: `measured` lists the settings, each with whether
        the claim holds there, separated by semicolons; `notebook` and `cell` say where it was decided.

    Raises:
        ClaimError: A claim has no verdict, was settled by another notebook than data/claims.csv says, or is checked in
            no cell of it; or evidence is for a claim that there is none of.
    """
    found = dict(list(evidence.groupby("id", sort=False)))
    if unknown := [id for id in found if id not in set(claims["id"])]:
        raise ClaimError(f"There is evidence for {', '.join(unknown)}, which data/claims.csv does not hold.")
    if left := [id for id in claims["id"] if id not in found]:
        raise ClaimError(f"No notebook settles {', '.join(left)}: run all of them, or mend the one that should.")
    names = {path.stem[:2]: path.stem for path in notebooks(root)}
    decided = {number: cells(root / "notebooks" / f"{name}.ipynb") for number, name in names.items()}
    rows = []
    for claim in claims.to_dict("records"):
        own = found[claim["id"]]
        if set(own["notebook"]) != {claim["notebook"]}:
            where = ", ".join(sorted(set(own["notebook"])))
            raise ClaimError(f"Claim {claim['id']} was settled in {where}, but is notebook {claim['notebook']}'s.")
        first = own.iloc[0]
        cell = decided[claim["notebook"]].get(claim["id"])
        if not cell:
            raise ClaimError(f"Claim {claim['id']} has a verdict, but no cell of {names[claim['notebook']]} checks it.")
        kept = {key: first[key] for key in ("verdict", "claimed", "because", "source", "model")}
        measured = "; ".join(f"{shown} [{holds}]" for shown, holds in _settings(own))
        rows.append(claim | kept | {"measured": measured, "notebook": names[claim["notebook"]], "cell": cell.id})
    return pd.DataFrame(rows, columns=COLUMNS)


def counts(ledger: pd.DataFrame) -> pd.DataFrame:
    """Counts the verdicts of each article and of both: one row for each verdict, in the order of `VERDICTS`."""
    table = pd.crosstab(ledger["verdict"], ledger["article"]).reindex(index=list(VERDICTS), columns=list(ARTICLES))
    table = table.fillna(0).astype(int).rename(columns={key: f"{name} article" for key, name in ARTICLES.items()})
    return table.assign(both=table.sum(axis=1)).rename_axis(index=None, columns=None)


def numbers(evidence: pd.DataFrame, id: str) -> pd.DataFrame:
    """Returns the settings of a claim as numbers, for drawing: `setting`, `measured`, `low`, `high` and `holds`.

    Raises:
        ClaimError: A setting's value is no number.
    """
    rows = evidence.loc[evidence["id"] == id, ["setting", "measured", "low", "high", "holds"]].reset_index(drop=True)
    values = rows[["measured", "low", "high"]].apply(pd.to_numeric, errors="coerce")
    if values["measured"].isna().any():
        raise ClaimError(f"Claim {id} was not settled by numbers alone, so it cannot be drawn.")
    return rows.assign(**values)


def to_html(ledger: pd.DataFrame, evidence: pd.DataFrame) -> str:
    """Returns the ledger as HTML with menus for article, section and verdict, which need no script.

    Each claim links to the cell that decided it, relative to the folder of the notebooks or of the HTML report.

    Args:
        ledger: From `collect`.
        evidence: What it was collected from.
    """
    options = {
        "article": {key: f"the {name} article" for key, name in ARTICLES.items()},
        "section": {section: section for section in ledger["section"].drop_duplicates()},
        "verdict": {verdict: verdict for verdict in VERDICTS if verdict in set(ledger["verdict"])},
    }
    menus, rules = "", ""
    for name, values in options.items():
        choices = f'<option value="">every {name}</option>'
        for number, shown in enumerate(values.values()):
            choices += f'<option value="{name}{number}">{escape(shown)}</option>'
            chosen = f'.ledger:has(option[value="{name}{number}"]:checked)'
            rules += f'{chosen} tbody tr:not([data-{name}="{number}"]){{display:none}}'
        menus += f"<label>{name} <select>{choices}</select></label> "
    places = {name: [*values] for name, values in options.items()}
    found = dict(list(evidence.groupby("id", sort=False)))
    rows = "".join(_row(claim, _settings(found[claim["id"]]), places) for claim in ledger.to_dict("records"))
    return f'<style>{STYLE}{rules}</style><div class="ledger"><p>{menus}</p>{page(rows)}</div>'


def _settings(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Returns what was measured in each setting of a claim, in words, and whether the claim holds there."""
    settings = rows[rows["holds"] != ""].itertuples()
    return [(described(one.setting, one.measured, one.low, one.high), one.holds) for one in settings]


def _row(claim: dict[str, str], settings: list[tuple[str, str]], places: dict[str, list[str]]) -> str:
    place = f"{ARTICLES[claim['article']]} article, {claim['section']}, {claim['where']}"
    link = f'<a href="{claim["notebook"]}.ipynb#cell-id={claim["cell"]}">notebook {claim["notebook"][:2]}</a>'
    said = f"{inline(claim['claim'])}<br><small>{inline(place)}</small>"
    why = f"{inline(explanation(claim['because'], claim['source']))} {link}"
    data = {name: str(values.index(claim[name])) for name, values in places.items()}
    return row(claim["id"], said, claim["claimed"], settings, claim["verdict"], why, data)
