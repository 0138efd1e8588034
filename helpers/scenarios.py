"""Reads scenario files, the lab's and the reader's own, and says exactly what is wrong with a bad one."""

import csv
import difflib
import io
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from babel.core import Locale, get_global
from charset_normalizer import from_bytes

from helpers.paths import DATA

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
# What a CSV file that is not UTF-8 is most often written in, by the locale of its writer.
LEGACY = ["gb18030", "big5", "cp932", "cp949", "euc_jp", "cp1252", "cp1251"]

LINE_END = re.compile(r"\r\n|\r|\n")
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
    except _QuoteError as error:
        faults.append(error.args)
    if faults:
        lines = [f"{path}, row {row}, column {column}: {what}" for row, column, what in faults[:SHOWN]]
        more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise ScenarioError("\n".join(lines + more))
    return pd.DataFrame(items, columns=list(COLUMNS))


def _decode(path: Path) -> str:
    try:
        if path.is_dir():
            raise ScenarioError(f"{path} is a folder; give the path of a CSV file")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ScenarioError(f"{path} does not exist; check the path and the name") from None
    except OSError as error:
        raise ScenarioError(f"{path} cannot be read ({error.strerror}); check that you may open it") from None
    utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    if data.startswith(b"PK\3\4") or (b"\0" in data and not utf16):
        raise ScenarioError(f"{path} is not a text file; if it is a spreadsheet, open it and {SAVE_AS}")
    try:
        return data.decode("utf-16" if utf16 else "utf-8").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        row = len(LINE_END.findall(data[: error.start].decode("utf-16" if utf16 else "utf-8"))) + 1
    lossy = data.decode("utf-8", "replace")
    if utf16 or 5 * lossy.count("\ufffd") < sum(not char.isascii() for char in lossy):
        raise ScenarioError(f"{path}, row {row}: a character is damaged; mend it and {SAVE_AS}")
    guess = from_bytes(data, cp_isolation=LEGACY).best()
    encoding = guess.encoding if guess else "unknown"
    try:
        if encoding == "gb18030" or _is_short_chinese(data):
            return data.decode("gb18030").lstrip("\ufeff")
    except UnicodeDecodeError:
        pass
    raise ScenarioError(f"{path}, row {row}: neither UTF-8 nor GB18030 (encoding perhaps {encoding}); {SAVE_AS}")


def _is_short_chinese(data: bytes) -> bool:
    """Whether bytes that are too few for charset-normalizer can only be GB18030.

    Big5, Japanese and Korean also decode as GB18030, into hanzi without meaning. But Big5 and Japanese soon leave the
    rows of GB2312's punctuation (with the en dash, A843) and hanzi, and GB2312 sorts its common hanzi by pinyin: even a
    few Chinese words hold one from S to Z (row C9 on), where Korean has no syllable.
    """
    if not re.fullmatch(rb"(?:[\x00-\x7f]|\xa8\x43|[\xa1-\xa3\xb0-\xf7][\xa1-\xfe])*", data):
        return False
    hanzi = [pair[0] for pair in re.findall(rb"[\x80-\xff].", data) if pair[0] >= 0xB0]
    return max(hanzi, default=0xC9) >= 0xC9


class _QuoteError(Exception):
    """A quotation mark without its partner; `args` is a Fault."""


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yields row and stripped cells of each record that is not empty; the first is the header, lower-cased."""
    delimiter = max(",;\t", key=LINE_END.split(text.strip(), maxsplit=1)[0].count)
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a long cell is no fault
    lines = list(io.StringIO(text, newline=""))  # newline="" splits at CR too, and keeps line ends inside a cell
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    header: list[str] = []
    while True:
        row = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error:
            whole_cell = re.compile(rf' *(?:"(?:[^"]|"")*"|[^"{delimiter}\r\n][^{delimiter}\r\n]*)?{delimiter}')
            rest, start, place = "".join(lines[row - 1 :]), 0, 0
            while cell := whole_cell.match(rest, start):
                start, place = cell.end(), place + 1
            column = header[place] if place < len(header) else f"number {place + 1}"
            what = 'a quotation mark has no partner; write " at both ends of a cell, and "" for a mark inside it'
            raise _QuoteError(row + len(LINE_END.findall(rest, 0, start)), column, what) from None
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()  # a spreadsheet pads its rows with empty cells
        if any(cells):
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
