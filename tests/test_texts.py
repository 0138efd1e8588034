"""Bytes as text: what reads, what does not, and where it goes wrong; tests/test_scenarios.py tries many more files."""

import codecs

import pytest

from helpers.texts import QuoteError, TextError, decode, records

CHINESE = "训练集准确率高，但测试集差。\n肚子咕咕叫，我刚吃完饭。\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
@pytest.mark.parametrize("text", [CHINESE, "我饿了\n", "plain\r\nASCII\r", "龘靐齉 and 🙂: " + CHINESE, "", "\n"])
def test_four_encodings_read(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


def test_utf_16_reads_in_either_order() -> None:
    for bom, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        assert decode(bom + CHINESE.encode(encoding)) == CHINESE


@pytest.mark.parametrize(
    "data",
    [
        b"a\0b",
        b"\x89PNG\r\n\x1a\n",
        b"PK\3\4 a spreadsheet",
        b"%PDF-1.7 text",
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"\x1f\x8b\x08",
        CHINESE.encode("utf-32"),
        CHINESE.encode("utf-16-le"),  # without its BOM, ASCII line ends hold a NUL
    ],
)
def test_what_is_no_text_is_binary(data: bytes) -> None:
    with pytest.raises(TextError) as caught:
        decode(data)
    assert caught.value.reason == "binary"


@pytest.mark.parametrize(
    ("data", "row"),
    [
        (CHINESE.encode() + b"\xff" + CHINESE.encode(), 3),
        ("我饿了\r想吃\r\n".encode() + b"\xe5\xe5\n" + CHINESE.encode(), 3),
        (CHINESE.encode("utf-16")[:-1], 2),
        (codecs.BOM_UTF16_LE + "a\n".encode("utf-16-le") + b"\x00\xdc\x41\x00", 2),
    ],
)
def test_a_damaged_character_is_told_by_its_row(data: bytes, row: int) -> None:
    with pytest.raises(TextError) as caught:
        decode(data)
    assert (caught.value.reason, caught.value.row) == ("damaged", row)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("first", ["utf-8", "gb18030"])
def test_mixed_encodings_are_told_and_not_guessed_at(first: str, share: float) -> None:
    other = {"utf-8": "gb18030", "gb18030": "utf-8"}[first]
    line, count = "训练集准确率高，但测试集差。\n", int(500 * share)
    with pytest.raises(TextError) as caught:
        decode((line * count).encode(first) + (line * (500 - count)).encode(other))
    assert caught.value.reason == "damaged"
    assert caught.value.row == (count + 1 if first == "utf-8" else 1)


def test_names_in_gb18030_that_look_like_utf_8_are_no_mixture() -> None:
    """联通 in GB18030 is the famous pair of bytes that are UTF-8, too."""
    text = "张三\n李四\n联通\n王五\n" * 50
    assert decode(text.encode("gb18030")) == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Où êtes-vous à Noël ? Ça été déjà vu, n’est-ce pas ?\n" * 5, "cp1252"),
        ("吾輩は猫である。名前はまだ無い。\n" * 5, "cp932"),
        ("나는 배가 고프다. 하늘은 푸르다.\n" * 5, "cp949"),
        ("Привет, как дела? Я голоден.\n" * 5, "cp1251"),
    ],
)
def test_other_encodings_are_refused_rather_than_misread(text: str, encoding: str) -> None:
    with pytest.raises(TextError) as caught:
        decode(text.encode(encoding))
    assert (caught.value.reason, caught.value.row) == ("encoding", 1)


def test_an_encoding_is_recognised_by_the_beginning_of_a_large_file() -> None:
    text = CHINESE * 40_000  # 2 MB
    assert decode(text.encode("gb18030")) == text
    with pytest.raises(TextError) as caught:
        decode(text.encode("gb18030") + b"\xff\xff")
    assert caught.value.reason == "encoding"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_records_come_with_their_rows(delimiter: str, end: str) -> None:
    lines = ["a,b", "", "1, two ", '"x""y","two', 'rows"', ",", "3,4"]
    text = end.join(line.replace(",", delimiter) for line in lines)
    found = list(records(text))
    assert [row for row, _ in found] == [1, 3, 4, 7]
    assert [cells for _, cells in found] == [["a", "b"], ["1", "two"], ['x"y', f"two{end}rows"], ["3", "4"]]


def test_only_the_delimiters_that_are_given_part_cells() -> None:
    assert list(records("one, two\tthree\n", "\t")) == [(1, ["one, two", "three"])]


@pytest.mark.parametrize(
    ("text", "row", "cell"),
    [
        ('a,b\n1,"two\n3,4\n', 2, 2),
        ('a,b\n1,"two" or three\n3,4\n', 2, 2),
        ('"a,b', 1, 1),
        ('a,b\n"x""y",2\n\n5,"""', 4, 2),
    ],
)
def test_a_stray_quotation_mark_is_told_by_row_and_cell(text: str, row: int, cell: int) -> None:
    with pytest.raises(QuoteError) as caught:
        list(records(text))
    assert (caught.value.row, caught.value.cell) == (row, cell)
