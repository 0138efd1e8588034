"""Files and pasted text as the lines of a knowledge base: read, tidied, and refused with one clear message.

Nothing here needs a model, so that a page that shows these messages starts at once.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from helpers.texts import LINE_END, QuoteError, TextError, decode, records

LINES = 100_000  # of a knowledge base
FILE_BYTES = 32 * 2**20
LINE_CHARACTERS = 20_000  # a longer line is no sentence
COLUMNS = 200  # of a table, to choose from
ARTICLE_THRESHOLD = 0.4  # above it the article's page paints a result green
DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}  # a file with another name has one column

MESSAGES = {
    "too_large": "{name} is larger than {limit} MB; split it.",
    "binary": "{name} is not a text file; save a spreadsheet as “CSV UTF-8”, any other document as plain text.",
    "encoding": "{name}, row {row}: this is neither UTF-8 nor GB18030; save the file as UTF-8.",
    "damaged": "{name}, row {row}: a character is damaged, or encodings are mixed; mend it and save the file as UTF-8.",
    "quote": '{name}, row {row}, column {column}: a quotation mark has no partner; write " at both ends of a cell, and '
    '"" for a mark inside it.',
    "ragged": '{name}, row {row}: {cells} cells, where the first row has {expected}; put " around a sentence that '
    "holds a separator, or save sentences, one a line, as a .txt file.",
    "many_columns": "{name}, row {row}: {columns} cells; {limit} are the most. Save the column of sentences alone.",
    "long_line": "Row {row} has {characters} characters; {limit} are the most. Write one sentence a line.",
    "many_lines": "There are more than {limit} lines, the most that a knowledge base holds; leave some out.",
    "empty_file": "{name} is empty; choose a file that holds sentences.",
    "empty": "No line is left to search: {blank} are blank, {symbols} hold only symbols. Add a sentence.",
    "no_base": "There is no knowledge base yet; choose a sample, type sentences or open a file.",
    "query": "There is nothing to search for; write a word or a sentence.",
    "query_long": "The query has {characters} characters; {limit} are the most. Ask in a sentence or two.",
    "query_cut": "The query has {tokens} tokens, but this model reads {limit}; shorten it.",
    "no_tokens": "This model can read nothing in line {row}, “{line}”; leave it out or choose another model.",
    "memory": "The vectors of these lines need {needed}, but {free} are free; take fewer lines or a smaller model.",
}

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
SURROGATE = re.compile("[\ud800-\udfff]")
LIST_MARK = re.compile(r"[(（\[【]?\d{1,3}[.)）．、:：\]】\ufe0f\u20e3]+")  # "1.", "（2）", also the keycap of an emoji


class SearchError(ValueError):
    """Something that a reader can mend: `str()` says in English what was wrong, where, and what to do.

    Attributes:
        key: One of `MESSAGES`, by which another language finds its own sentence.
        values: What stands in the sentence's placeholders.
    """

    def __init__(self, key: str, **values: Any):
        super().__init__(MESSAGES[key].format(**values))
        self.key, self.values = key, values


@dataclass(frozen=True)
class Tidied:
    """Lines fit to be embedded, and what was left out.

    Attributes:
        lines: The lines, each once, in their order.
        blank: How many held nothing that can be seen.
        symbols: How many held neither a letter nor a number, or only the mark of a list, such as "1.".
        repeats: Lines that came more than once, and how often more.
    """

    lines: list[str]
    blank: int
    symbols: int
    repeats: list[tuple[str, int]]


def read_file(name: str, data: bytes) -> list[list[str]]:
    """Reads a file's bytes as rows of cells, all equally long.

    A name that ends in .csv or .tsv makes it a table, separated by commas, semicolons or tabs; of anything else each
    line is a row of one cell. UTF-8 (with or without BOM), UTF-16 with BOM and GB18030 are read, and LF, CRLF and CR
    end a line. Line ends within a cell become spaces. Empty records of a table are left out, blank lines of a text are
    not.

    Args:
        name: What messages call the file; its end tells a table from a text.
        data: The bytes.

    Raises:
        SearchError: The file is too large, binary, damaged, empty, in another encoding or no table with equally long
            rows, or it has too many lines, columns or characters in a line. Rows are counted as an editor counts them.
    """
    if len(data) > FILE_BYTES:
        raise SearchError("too_large", name=name, limit=FILE_BYTES // 2**20)
    try:
        text = decode(data)
        delimiters = DELIMITERS.get(PurePath(name).suffix.lower())
        numbered = records(text, delimiters) if delimiters else _lines(text)
        rows = _equally_long(name, _bounded(name, numbered)) if text.strip() else []
    except TextError as error:
        values = {} if error.reason == "binary" else {"row": error.row}
        raise SearchError(error.reason, name=name, **values) from None
    except QuoteError as error:
        raise SearchError("quote", name=name, row=error.row, column=error.cell) from None
    if not rows:
        raise SearchError("empty_file", name=name)
    return rows


def column(rows: list[list[str]], index: int, header: bool) -> list[str]:
    """Returns one column of the rows, without the first of them where that is a header."""
    return [cells[index] for cells in rows[header:]]


def tidy(lines: Iterable[str]) -> Tidied:
    """Makes lines fit to be embedded, and counts what it leaves out.

    White space and control characters become single spaces and vanish at both ends; half a surrogate pair becomes
    U+FFFD. Left out are lines in which nothing can be seen, lines that say nothing (see `says_something`), and all but
    the first of equal lines.

    Raises:
        SearchError: A line is too long, too many lines are left, or none.
    """
    counts: Counter[str] = Counter()
    blank = symbols = 0
    for row, line in enumerate(lines, start=1):
        text = clean(line)
        if len(text) > LINE_CHARACTERS:
            raise SearchError("long_line", row=row, characters=len(text), limit=LINE_CHARACTERS)
        if says_something(text):
            counts[text] += 1
            if len(counts) > LINES:
                raise SearchError("many_lines", limit=LINES)
        elif all(unicodedata.category(char) in ("Zs", "Cf") for char in text):  # zero-width characters are Cf
            blank += 1
        else:
            symbols += 1
    if not counts:
        raise SearchError("empty", blank=blank, symbols=symbols)
    return Tidied(list(counts), blank, symbols, [(text, count - 1) for text, count in counts.items() if count > 1])


def clean(text: str) -> str:
    """Makes white space and control characters single spaces, none at the ends, and half a surrogate pair U+FFFD."""
    return SURROGATE.sub("\ufffd", " ".join(CONTROL.sub(" ", text).split()))


def says_something(text: str) -> bool:
    """Whether a text holds a letter or a digit of any script and is not only the mark of a list, such as "1."."""
    return not LIST_MARK.fullmatch(text) and any(unicodedata.category(char)[0] in "LN" for char in text)


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yields row and line, as a record of one cell; what ends the last line begins no other."""
    start, row = 0, 1
    for end in LINE_END.finditer(text):
        yield row, [text[start : end.start()]]
        start, row = end.end(), row + 1
    if start < len(text):
        yield row, [text[start:]]


def _bounded(name: str, numbered: Iterable[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    """Passes records on that are not too long, nor too many."""
    for count, (row, cells) in enumerate(numbered):
        if count > LINES:  # the first may be a header
            raise SearchError("many_lines", limit=LINES)
        if len(cells) > COLUMNS:
            raise SearchError("many_columns", name=name, row=row, columns=len(cells), limit=COLUMNS)
        longest = max(map(len, cells))
        if longest > LINE_CHARACTERS:
            raise SearchError("long_line", row=row, characters=longest, limit=LINE_CHARACTERS)
        yield row, cells


def _equally_long(name: str, numbered: Iterable[tuple[int, list[str]]]) -> list[list[str]]:
    """Checks that rows are as long as the first; spreadsheets may leave out empty cells at the end, or add some."""
    rows: list[list[str]] = []
    for row, cells in numbered:
        if not rows:
            most = least = len(cells)
            while least > 1 and not cells[least - 1]:
                least -= 1
        while len(cells) > most and not cells[-1]:
            cells.pop()
        if not least <= len(cells) <= most:
            raise SearchError("ragged", name=name, row=row, cells=len(cells), expected=most)
        rows.append([LINE_END.sub(" ", cell) for cell in cells] + [""] * (most - len(cells)))
    return rows
