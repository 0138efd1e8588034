"""Bytes as text and text as records, as spreadsheets and editors write them; what is wrong is said by row."""

import csv
import io
import re
from collections.abc import Iterator

from charset_normalizer import from_bytes

LINE_END = re.compile(r"\r\n|\r|\n")
# How files begin that hold no text: zip (and with it xlsx and docx), PDF, PNG, JPEG, GIF, gzip
BINARY = (b"PK\3\4", b"%PDF-", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"\x1f\x8b")
# What a file that is not UTF-8 is most often written in, by the locale of its writer
LEGACY = ["gb18030", "big5", "cp932", "cp949", "euc_jp", "cp1252", "cp1251"]
SAMPLE = 2**20  # bytes that are enough to recognise an encoding
ACCIDENTS = 0.01  # the share of short lines in GB18030 that happen to be UTF-8, generously


class TextError(ValueError):
    """Bytes that are no text which can be read.

    Attributes:
        reason: "binary", "damaged" (a character is, or encodings are mixed) or "encoding" (neither UTF-8 nor GB18030).
        row: Where, as an editor counts lines; 1 for "binary".
        guess: What the encoding may be, for "encoding".
    """

    def __init__(self, reason: str, row: int = 1, guess: str = ""):
        super().__init__(f"{reason} in row {row}")
        self.reason, self.row, self.guess = reason, row, guess


class QuoteError(ValueError):
    """A quotation mark without its partner, in a row and a cell, both counted from 1."""

    def __init__(self, row: int, cell: int):
        super().__init__(f"a quotation mark has no partner in row {row}, cell {cell}")
        self.row, self.cell = row, cell


def decode(data: bytes) -> str:
    """Reads UTF-8 (with or without BOM), UTF-16 with BOM and GB18030.

    Raises:
        TextError: The bytes are something else; see there.
    """
    utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    if data.startswith(BINARY) or (b"\0" in data and not utf16):
        raise TextError("binary")
    try:
        text = data.decode("utf-16" if utf16 else "utf-8").lstrip("\ufeff")
        if "\0" in text:
            raise TextError("binary")
        return text
    except UnicodeDecodeError as error:
        row = len(LINE_END.findall(data[: error.start].decode("utf-16" if utf16 else "utf-8"))) + 1
    if utf16 or _is_mostly_utf8(data):
        raise TextError("damaged", row)
    sample = data if len(data) <= SAMPLE else data[:SAMPLE].rpartition(b"\n")[0]
    found = from_bytes(sample, cp_isolation=LEGACY).best()
    guess = found.encoding if found else "unknown"
    try:
        if guess == "gb18030" or _is_short_chinese(data):
            return data.decode("gb18030").lstrip("\ufeff")
    except UnicodeDecodeError:
        pass
    raise TextError("encoding", row, guess)


def _is_mostly_utf8(data: bytes) -> bool:
    """Whether bytes that are not UTF-8 were meant to be: few characters are broken, or some lines are not.

    A few Chinese characters in GB18030 can look like two-byte UTF-8, hardly ever like a longer sequence.
    """
    lossy = data.decode("utf-8", "replace")
    if 5 * lossy.count("\ufffd") < sum(not char.isascii() for char in lossy):
        return True
    lines = [line for line in LINE_END.split(lossy) if not line.isascii()]
    whole = sum("\ufffd" not in line and max(line) >= "\u0800" for line in lines)
    return whole > ACCIDENTS * len(lines)


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


def records(text: str, delimiters: str = ",;\t") -> Iterator[tuple[int, list[str]]]:
    """Yields row and stripped cells of each record that is not empty.

    Args:
        text: The text of a CSV file; LF, CRLF and CR end a line.
        delimiters: What may stand between cells: the one that the first line holds most often.

    Raises:
        QuoteError: A quotation mark has no partner.
    """
    delimiter = max(delimiters, key=LINE_END.split(text.strip(), maxsplit=1)[0].count)
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a long cell is no fault
    lines = list(io.StringIO(text, newline=""))  # newline="" splits at CR too, and keeps line ends inside a cell
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        row = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error:
            whole_cell = re.compile(rf' *+(?:"[^"]*(?:""[^"]*)*"|[^"{delimiter}\r\n][^{delimiter}\r\n]*)?{delimiter}')
            rest, start, cell = "".join(lines[row - 1 :]), 0, 1
            while found := whole_cell.match(rest, start):
                start, cell = found.end(), cell + 1
            raise QuoteError(row + len(LINE_END.findall(rest, 0, start)), cell) from None
        if any(cells):
            yield row, cells
