"""Reads scenario files, the lab's and the reader's own, and says exactly what is wrong with a bad one."""

import difflib
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from babel.core import Locale, get_global

from helpers.paths import DATA
from helpers.texts import QuoteError, TextError, decode, records

CANDIDATES = ("strong", "weak", "unrelated")
REQUIRED = ("language", "scenario", "item", "query", *CANDIDATES)
COLUMNS = (*REQUIRED, "source")

# The eight scenarios' titles for figures, Chinese and English; a reader's file may use any other key.
SCENARIOS = {
    "synonym": ("同义替换", "Synonym"),
    "hypernym": ("上位概念", "Hypernym"),
    "cause": ("因果关系", "Cause and effect"),
    "metaphor": ("隐喻表达", "Metaphor"),
    "quantity": ("数字泛化", "Generalised number"),
    "negation": ("否定语义", "Negated meaning"),
    "implied_time": ("时间隐含", "Implied time"),
    "domain": ("领域迁移", "Domain transfer"),
}

LANGUAGES = {code: name for code, name in Locale("en").languages.items() if len(code) == 2}  # by ISO 639-1 code

SHOWN = 10  # faults listed before "and 12 more"
SAVE_AS = "save it as “CSV UTF-8”"

NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")  # control characters; traces of damage

Fault = tuple[int, str, str]  # row (a line of the file), column, what is wrong and what to do


class ScenarioError(ValueError):
    """A scenario file that cannot be used: one line for each fault, naming file, row and column."""


def read(path: str | Path = DATA / "scenarios.csv") -> pd.DataFrame:
    """Reads and validates a scenario file; the file itself is never changed.

    UTF-8 (with or without BOM), GB18030 and UTF-16 with BOM are read; LF, CRLF and CR end a line; cells are separated
    by commas, semicolons or tabs, as spreadsheets write them. Columns stand in any order; those not in `COLUMNS` are
    ignored, and so are empty lines. Without a `source` column, every source is "own".

    Args:
        path: The file.

    Returns:
        One row for each item, in the file's order, with the columns `COLUMNS`, all text (`item` too: "1"). Values lose
        their surrounding whitespace and languages are lower-cased; nothing else is changed.

    Raises:
        ScenarioError: The file cannot be read, or holds faults; rows are counted as an editor counts lines.
    """
    path = Path(path).expanduser()
    rows = _rows(_decode(path))
    header: list[str] = []
    items: list[dict[str, str]] = []
    faults: list[Fault] = []
    seen: dict[tuple[str, str, str], int] = {}
    try:
        first, header = next(rows, (1, []))
        faults += _header_faults(first, header)
        for row, cells in rows if not faults else ():
            if len(cells) != len(header):
                faults.append((row, *_ragged(header, cells)))
                continue
            item = {"source": "own"} | dict(zip(header, cells, strict=True))
            item["language"] = item["language"].lower()
            items.append(item)
            faults += [(row, *fault) for fault in (*_cell_faults(item), *_repeats(item))]
            key = (item["language"], item["scenario"], item["item"])
            if seen.setdefault(key, row) != row and all(key):
                same = f"{_show(key[2])} already stands in row {seen[key]} for {key[0]}, {key[1]}"
                faults.append((row, "item", f"{same}; give each item its own number"))
        if not items and not faults:
            faults.append((first, header[0], "no row follows the header; add at least one item"))
    except QuoteError as error:
        column = header[error.cell - 1] if error.cell <= len(header) else f"number {error.cell}"
        what = 'a quotation mark has no partner; write " at both ends of a cell, and "" for a mark inside it'
        faults.append((error.row, column, what))
    if faults:
        lines = [f"{path}, row {row}, column {column}: {what}" for row, column, what in faults[:SHOWN]]
        more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise ScenarioError("\n".join(lines + more))
    return pd.DataFrame(items, columns=list(COLUMNS))


def _decode(path: Path) -> str:
    try:
        if path.is_dir():
            raise ScenarioError(f"{path} is a folder; give the path of a CSV file")
        return decode(path.read_bytes())
    except FileNotFoundError:
        raise ScenarioError(f"{path} does not exist; check the path and the name") from None
    except OSError as error:
        raise ScenarioError(f"{path} cannot be read ({error.strerror}); check that you may open it") from None
    except TextError as error:
        faults = {
            "binary": f" is not a text file; if it is a spreadsheet, open it and {SAVE_AS}",
            "damaged": f", row {error.row}: a character is damaged; mend it and {SAVE_AS}",
            "encoding": f", row {error.row}: neither UTF-8 nor GB18030 (encoding perhaps {error.guess}); {SAVE_AS}",
        }
        raise ScenarioError(f"{path}{faults[error.reason]}") from None


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yields row and cells of each record; the first is the header, lower-cased."""
    header: list[str] = []
    for row, cells in records(text):
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()  # a spreadsheet pads its rows with empty cells
        if not header:
            header = cells = [cell.lower() for cell in cells]
        yield row, cells


def _header_faults(row: int, header: list[str]) -> Iterator[Fault]:
    missing = [name for name in REQUIRED if name not in header]
    if len(missing) == len(REQUIRED):
        found = f"the header is {_show(header[0])}" if header else "the file is empty"
        yield row, "language", f"{found}; the first line must name the columns, as in {','.join(COLUMNS)}"
        return
    for name in missing:
        close = difflib.get_close_matches(name, set(header) - set(COLUMNS), 1, 0.75)
        yield row, name, f"the column is missing; {f'rename {_show(close[0])}' if close else 'add it'}"
    for name in COLUMNS:
        if header.count(name) > 1:
            yield row, name, f"{header.count(name)} columns have this name; keep one"


def _ragged(header: list[str], cells: list[str]) -> tuple[str, str]:
    if len(cells) < len(header):
        return header[len(cells)], f"the row ends after {len(cells)} of {len(header)} cells; fill in the others"
    extra = f"{len(cells)} cells for {len(header)} columns, the last {_show(cells[-1])}"
    return header[-1], f'{extra}; put " around a sentence that holds a separator'


def _cell_faults(item: dict[str, str]) -> Iterator[tuple[str, str]]:
    for column in COLUMNS:
        value = item[column]
        if not _visible(value):
            yield column, f"the cell is empty{f' ({_show(value)})' if value else ''}; fill it in"
        elif bad := NO_TEXT.search(value):
            yield column, f"{_show(value)} holds the character U+{ord(bad[0]):04X}, which is no text; delete or mend it"
        elif column == "language" and value not in LANGUAGES:
            yield column, f"unknown language {_show(value)}; {_language_advice(value)}"


def _language_advice(value: str) -> str:
    codes = {name.lower(): code for code, name in LANGUAGES.items()} | {code: code for code in LANGUAGES}
    word = re.split("[-_ ]", value)[0]
    word = get_global("language_aliases").get(word, word)  # "eng" is "en"
    close = difflib.get_close_matches(word, codes, 1, 0.75)
    if close:
        return f"write {codes[close[0]]!r} for {LANGUAGES[codes[close[0]]]}"
    return "write an ISO 639-1 code such as 'zh' or 'en' (helpers.scenarios.LANGUAGES lists them)"


def _repeats(item: dict[str, str]) -> Iterator[tuple[str, str]]:
    first: dict[str, str] = {}
    for column in ("query", *CANDIDATES):
        sentence = " ".join(unicodedata.normalize("NFKC", _visible(item[column])).casefold().split())
        if sentence and first.setdefault(sentence, column) != column:
            yield column, f"{_show(item[column])} is the same as {first[sentence]}; write another sentence"


def _visible(value: str) -> str:
    return "".join(char for char in value if unicodedata.category(char) != "Cf").strip()  # Cf: zero-width characters


def _show(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:39] + "…")
