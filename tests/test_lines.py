"""Files and lines: every hostile one gets a clear message, every good one comes out whole."""

import json
import string
import zipfile
from io import BytesIO

import pytest

from helpers import lines
from helpers.lines import MESSAGES, SearchError, column, read_file, tidy
from helpers.perturb import SYMBOLS

LINES = ["我饿了", "肚子咕咕叫，我刚吃完饭", "The sky is blue"]


def refused(key: str, name: str, data: bytes, /, **values: object) -> None:
    """Checks that a file is refused with this message, whose placeholders are filled, and which JSON can carry."""
    with pytest.raises(SearchError) as caught:
        read_file(name, data)
    error = caught.value
    assert error.key == key
    assert {name: error.values[name] for name in values} == values
    assert str(error) == MESSAGES[key].format(**json.loads(json.dumps(error.values)))
    assert "\n" not in str(error)


def archive() -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("notes.txt", "hello")
    return file.getvalue()


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_a_text_is_a_line_a_row_in_every_encoding(encoding: str, end: str, last: bool) -> None:
    data = (end.join(LINES) + end * last).encode(encoding)
    assert read_file("notes.txt", data) == [[line] for line in LINES]


def test_blank_lines_of_a_text_stay_to_be_counted_and_its_commas_part_nothing() -> None:
    assert read_file("a,b.md", b'one, "two\n\n \nthree;four\n') == [['one, "two'], [""], [" "], ["three;four"]]


@pytest.mark.parametrize("name", ["notes.csv", "NOTES.CSV", "my.notes.Csv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_parted_by_what_its_first_line_holds(name: str, delimiter: str) -> None:
    text = 'id,note\n1,"a; b\r\nc\td, ""e"""\n\n2,我饿了\n'
    text = text if delimiter == "," else text.replace("id,", f"id{delimiter}").replace("\n1,", f"\n1{delimiter}")
    text = text.replace("2,", f"2{delimiter}")
    rows = read_file(name, text.encode())
    assert rows == [["id", "note"], ["1", 'a; b c\td, "e"'], ["2", "我饿了"]]
    assert column(rows, 1, header=True) == ['a; b c\td, "e"', "我饿了"]
    assert column(rows, 0, header=False) == ["id", "1", "2"]


def test_a_tsv_is_parted_by_tabs_alone() -> None:
    assert read_file("notes.tsv", b"a, b, c\td\n1\t2\n") == [["a, b, c", "d"], ["1", "2"]]


def test_a_table_of_one_column() -> None:
    assert read_file("notes.csv", '句子\n我饿了\n"one, two"\n'.encode()) == [["句子"], ["我饿了"], ["one, two"]]


def test_empty_cells_at_the_end_of_rows_may_be_too_many_or_too_few() -> None:
    """Spreadsheets pad some rows of a table and not others."""
    assert read_file("a.csv", b"a,b\n1,2,,\n3,4\n") == [["a", "b"], ["1", "2"], ["3", "4"]]
    assert read_file("a.csv", b"a,b,,\n1,2\n3,4,x\n") == [["a", "b", "", ""], ["1", "2", "", ""], ["3", "4", "x", ""]]


def test_short_chinese_files_in_gb18030_read() -> None:
    assert read_file("a.txt", "我饿了\n想吃".encode("gb18030")) == [["我饿了"], ["想吃"]]
    assert read_file("a.csv", "天,渴\n".encode("gb18030")) == [["天", "渴"]]


@pytest.mark.parametrize("name", ["notes.txt", "notes.csv"])
@pytest.mark.parametrize(
    "data",
    [b"\x89PNG\r\n\x1a\n\0", archive(), b"a\0b\n", "饿".encode("utf-32")],
    ids=["picture", "archive", "NUL", "UTF-32"],
)
def test_what_is_no_text_is_refused(name: str, data: bytes) -> None:
    refused("binary", name, data, name=name)


@pytest.mark.parametrize("name", ["notes.txt", "notes.csv"])
def test_encodings_are_refused_by_row(name: str) -> None:
    refused("damaged", name, "我饿了\n肚子咕咕叫\n".encode() + b"\xff\n", name=name, row=3)
    refused("damaged", name, ("我饿了，想吃\n" * 3).encode() + ("天空是蓝色的\n" * 3).encode("gb18030"), row=4)
    refused("encoding", name, "a\nOù êtes-vous à Noël ? Ça été déjà vu\n".encode("cp1252"), name=name, row=2)


@pytest.mark.parametrize("name", ["notes.txt", "notes.csv"])
@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n \r\n\t", "\ufeff".encode("utf-16")])
def test_an_empty_file_is_refused(name: str, data: bytes) -> None:
    refused("empty_file", name, data, name=name)


def test_a_table_of_separators_alone_is_empty() -> None:
    refused("empty_file", "a.csv", b",,\n\n,,\n", name="a.csv")


def test_a_table_that_is_none_is_refused_by_row_and_column() -> None:
    refused("ragged", "a.csv", b"a,b\n1,2\n\n1,2,3\n", name="a.csv", row=4, cells=3, expected=2)
    refused("ragged", "a.csv", b"a,b,c\n1,2\n", row=2, cells=2, expected=3)
    refused("ragged", "a.csv", b"text\nhello, world\n", row=2, cells=2, expected=1)
    refused("quote", "a.csv", b'a,b\n1,"two\n3,4\n', name="a.csv", row=2, column=2)


def test_a_long_row_of_spaces_before_a_stray_mark_is_read_in_one_go() -> None:
    refused("quote", "a.csv", b"a,b\n" + b" " * 1_000_000 + b'"x', row=2)


def test_sizes_are_refused() -> None:
    refused("too_large", "a.txt", b"x" * (33 * 2**20), name="a.txt", limit=32)
    refused("long_line", "a.txt", b"short\n" + b"word " * 2_000_000, row=2, characters=10_000_000, limit=20_000)
    refused("long_line", "a.csv", b'a,b\n1,"' + b"x\n" * 10_001 + b'"\n', row=2, limit=20_000)
    refused("many_columns", "a.csv", b"x," * 1000, name="a.csv", row=1, columns=1001, limit=200)


@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_the_most_lines_are_accepted_beside_a_header_and_one_more_is_not(name: str) -> None:
    data = "".join(f"line {row}\n" for row in range(lines.LINES + 1)).encode()
    rows = read_file(name, data)
    assert len(tidy(column(rows, 0, header=True)).lines) == lines.LINES
    with pytest.raises(SearchError) as caught:
        tidy(column(rows, 0, header=False))
    assert (caught.value.key, caught.value.values) == ("many_lines", {"limit": 100_000})
    refused("many_lines", name, data + b"one more\n", limit=100_000)


def test_a_file_of_line_ends_is_refused_at_once() -> None:
    refused("many_lines", "a.txt", b"\n" * 30_000_000 + b"x", limit=100_000)


def test_hostile_names_and_cells_stay_text() -> None:
    name = "{key}<script>{0}.csv"
    refused("binary", name, b"\0", name=name)
    assert read_file(name, b"{a},<b>\n=1+1,&amp;\n") == [["{a}", "<b>"], ["=1+1", "&amp;"]]


def test_every_message_has_plain_placeholders_and_an_end() -> None:
    for text in MESSAGES.values():
        for _, placeholder, form, conversion in string.Formatter().parse(text):
            assert placeholder is None or placeholder.isidentifier()
            assert not form
            assert conversion is None
        assert text.endswith(".")


# --- lines --------------------------------------------------------------------------------------------------------


def test_tidy_keeps_each_line_once_in_order_and_counts_the_rest() -> None:
    tidied = tidy([" b ", "", "---", "a", "b", "\t", "b", "A", "a", "……"])
    assert tidied.lines == ["b", "a", "A"]
    assert (tidied.blank, tidied.symbols) == (2, 2)
    assert tidied.repeats == [("b", 2), ("a", 1)]


@pytest.mark.parametrize(
    "line", ["", " ", "\t\r\n", "\u3000\xa0", "\ufeff", "\u200b\u200d ", "\0\x1b\x7f\x85", "\u2028"]
)
def test_a_line_in_which_nothing_can_be_seen_is_blank(line: str) -> None:
    tidied = tidy([line, "a"])
    assert (tidied.lines, tidied.blank, tidied.symbols) == (["a"], 1, 0)


@pytest.mark.parametrize(
    "line",
    [
        *filter(None, SYMBOLS),
        *("===", "？！", "！？。，", "「」", "＊＊＊", "～～～", "12.", "(3)", "（4）", "１．", "5、", "6)", "#"),
        *("🤖", "👍🏽", "👩‍👩‍👧", "🇨🇳", "❤️", "1️⃣", "\ud83e", "\ufffd"),
    ],
)
def test_a_line_without_letters_or_numbers_is_symbols(line: str) -> None:
    tidied = tidy([line, "a"])
    assert (tidied.lines, tidied.blank, tidied.symbols) == (["a"], 0, 1)


@pytest.mark.parametrize(
    "line",
    ["a", "我", "7", "2024", "42%", "3.14", "١٢", "Ω", "й", "한", "ＯＫ", "1. a", "🤖 ok", "é", "Ⅳ", "x²"],
)
def test_a_line_with_a_letter_or_a_number_stays(line: str) -> None:
    assert tidy([line]).lines == [line]


def test_a_line_loses_what_no_tokenizer_should_see() -> None:
    odd = ["\ufeffa"[1:] + "\0b\x1b", "one\r\n  two\u2028three", "half \ud83e of it", "full　width", "nb\xa0sp"]
    assert tidy(odd).lines == ["a b", "one two three", "half \ufffd of it", "full width", "nb sp"]
    assert tidy(["a b", "a\tb", " a  b\n"]).repeats == [("a b", 2)]


def test_nothing_left_is_an_error_that_says_what_there_was() -> None:
    with pytest.raises(SearchError) as caught:
        tidy(["", "---", "🤖", " "])
    assert (caught.value.key, caught.value.values) == ("empty", {"blank": 2, "symbols": 2})
    with pytest.raises(SearchError, match="0 are blank"):
        tidy([])


def test_a_line_that_is_too_long_is_told_by_its_place() -> None:
    tidy(["x" * lines.LINE_CHARACTERS])
    with pytest.raises(SearchError) as caught:
        tidy(["a", "x" * (lines.LINE_CHARACTERS + 1)])
    assert (caught.value.key, caught.value.values["row"]) == ("long_line", 2)
