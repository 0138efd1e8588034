"""Scenario files: every encoding reads, every fault is named with file, row and column, the committed data is right."""

import csv
import hashlib
import io
import re
import string
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import scenarios
from helpers.paths import DATA

HEADER = "language,scenario,item,query,strong,weak,unrelated,source"
HUNGRY = "zh,synonym,1,我饿了,肚子咕咕叫,我刚吃完饭,天空是蓝色的,own"
LION = "zh,metaphor,1,他是一头狮子,他非常勇敢,他喜欢吃肉,动物园里有老虎,own"


def write(folder: Path, text: str | bytes, encoding: str = "utf-8") -> Path:
    path = folder / "mine.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def faults(folder: Path, text: str | bytes, encoding: str = "utf-8") -> list[str]:
    """The lines of the error that a file raises, each without the file's name, which every line must carry."""
    path = write(folder, text, encoding)
    before = path.read_bytes()
    with pytest.raises(scenarios.ScenarioError) as caught:
        scenarios.read(path)
    assert path.read_bytes() == before
    lines = str(caught.value).split("\n")
    assert all(line.startswith(f"{path}") or line.startswith("and ") for line in lines)
    return [line.removeprefix(str(path)).lstrip(",: ") for line in lines]


def one_fault(folder: Path, text: str | bytes, encoding: str = "utf-8") -> str:
    (line,) = faults(folder, text, encoding)
    return line


def table(*rows: str, header: str = HEADER, end: str = "\n") -> str:
    return "".join(line + end for line in (header, *rows))


# --- the committed data -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quoted() -> pd.DataFrame:
    """The article's rows and their translations; tests/test_data.py looks after the lab's own."""
    return scenarios.read().query("source in ('article', 'translation')")


def test_the_chinese_rows_are_the_articles_own(quoted):
    zh = quoted.query("language == 'zh'")
    assert list(zh.scenario) == list(scenarios.SCENARIOS)
    assert set(zh.source) == {"article"}
    sentences = zh[["query", "strong", "weak", "unrelated"]].to_numpy().ravel()
    assert len(set(sentences)) == 32
    # of the article's table, read row by row
    digest = hashlib.sha256("\n".join(sentences).encode()).hexdigest()
    assert digest == "cd77e76a77de2e803922cd3438647ba1d4a598556240eca6f1dbc468b414fcf1"


def test_the_translation_stands_beside_the_original(quoted):
    assert list(quoted.columns) == list(scenarios.COLUMNS)
    zh, en = (quoted[quoted.language == code].reset_index(drop=True) for code in ("zh", "en"))
    assert len(quoted) == len(zh) + len(en) == 16
    pd.testing.assert_frame_equal(zh[["scenario", "item"]], en[["scenario", "item"]])
    assert set(en.source) == {"translation"}
    assert len(set(en[["query", "strong", "weak", "unrelated"]].to_numpy().ravel())) == 32


def test_english_strong_candidates_share_no_content_word_with_their_query(quoted):
    function_words = {"the", "i", "my", "it", "he", "is", "are", "am", "has", "very", "this", "about", "of", "a", "and"}
    for row in quoted.query("language == 'en'").itertuples():
        shared = set(row.query.lower().split()) & set(row.strong.lower().split()) - function_words
        assert not shared, (row.scenario, shared)


def test_published_table_is_complete_and_its_differences_are_right():
    published = pd.read_csv(DATA / "published.csv")
    assert list(published.columns) == ["scenario", "pooling", "strong", "unrelated", "delta"]
    assert {(s, p) for s in scenarios.SCENARIOS for p in ("cls", "mean")} == set(
        zip(published.scenario, published.pooling, strict=True)
    )
    assert len(published) == 16
    assert (published.strong - published.unrelated - published.delta).abs().max() < 5e-5
    means = published.groupby("pooling").delta.mean()
    assert means["cls"] == pytest.approx(0.26495, abs=1e-6)
    assert means["mean"] == pytest.approx(0.42053, abs=1e-5)


def test_data_files_have_unix_line_ends_and_no_bom():
    for name in ("scenarios.csv", "published.csv"):
        data = (DATA / name).read_bytes()
        assert b"\r" not in data
        assert not data.startswith(b"\xef\xbb\xbf")


# --- encodings and line ends --------------------------------------------------------------------------------------

ENCODINGS = ("utf-8", "utf-8-sig", "gb18030", "utf-16")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_committed_file_reads_the_same_in_every_encoding(tmp_path, encoding, end):
    text = (DATA / "scenarios.csv").read_text(encoding="utf-8").replace("\n", end)
    pd.testing.assert_frame_equal(scenarios.read(write(tmp_path, text, encoding)), scenarios.read())


@pytest.mark.parametrize("row", re.findall("^.*,article$", (DATA / "scenarios.csv").read_text(encoding="utf-8"), re.M))
def test_a_gb18030_file_of_one_row_is_not_taken_for_another_encoding(tmp_path, row):
    read = scenarios.read(write(tmp_path, table(row), "gb18030"))
    assert ",".join(read.iloc[0]) == row


@pytest.mark.parametrize(
    "sentences",
    [
        "饿,吃,渴,天",
        "我饿,想吃,不饿,蓝天",
        "It isn’t here,He’s away – gone,“No”,Yes…",
        "我餓了,肚子咕咕叫,我剛吃完飯,天空是藍色的",
    ],
)
def test_very_short_mixed_and_traditional_gb18030(tmp_path, sentences):
    row = f"zh,s,1,{sentences},own"
    assert ",".join(scenarios.read(write(tmp_path, table(row), "gb18030")).iloc[0]) == row


def test_big_endian_utf16(tmp_path):
    assert scenarios.read(write(tmp_path, "\ufeff" + table(HUNGRY), "utf-16-be"))["query"][0] == "我饿了"


def test_a_gb18030_bom_is_no_text(tmp_path):
    assert scenarios.read(write(tmp_path, "\ufeff" + table(HUNGRY), "gb18030")).language[0] == "zh"


@pytest.mark.parametrize(
    ("encoding", "sentences"),
    [
        ("big5", "我餓了,肚子咕咕叫,我剛吃完飯,天空是藍色的"),
        ("cp932", "お腹が空いた,何か食べたい,もう食べた,空は青い"),
        ("euc_jp", "お腹が空いた,何か食べたい,もう食べた,空は青い"),
        ("cp949", "배가 고파요,뭔가 먹고 싶어요,방금 밥을 먹었어요,하늘은 파랗다"),
        ("cp1252", "Ich höre Musik,Er ist müde,Der Hund läuft,Der Löwe brüllt"),
        ("cp1251", "Я голоден,Хочу есть,Я только что поел,Небо голубое"),
    ],
)
def test_other_encodings_are_refused_not_read_as_nonsense(tmp_path, encoding, sentences):
    line = one_fault(tmp_path, table("en,s,1,one,two,three,four,own", f"zh,s,1,{sentences},own"), encoding)
    assert line.startswith("row 3: neither UTF-8 nor GB18030 (encoding perhaps ")
    if encoding != "euc_jp":  # which looks much like Korean
        assert line.endswith(f" {encoding}); save it as “CSV UTF-8”")


def test_bytes_of_no_encoding_are_refused(tmp_path):
    data = table(HUNGRY).encode() + bytes(range(128, 256)) * 3
    assert one_fault(tmp_path, data).startswith("row 3: ")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_damaged_character_is_not_read_as_another_encoding(tmp_path, encoding):
    whole = table(HUNGRY, LION).encode(encoding)
    # UTF-8 loses one byte of 狮; UTF-16 gets half a surrogate pair in its place
    broken = {"utf-8": ("狮".encode(), "狮".encode()[:2]), "utf-16": ("狮".encode("utf-16-le"), b"\x00\xd8")}[encoding]
    assert one_fault(tmp_path, whole.replace(*broken)).startswith("row 3: a character is damaged; mend it and save")


@pytest.mark.parametrize(
    "data", [b"PK\x03\x04rest of a workbook", b"language,\0\0\0", table(HUNGRY).encode("utf-16-le")]
)
def test_binary_files_are_refused(tmp_path, data):
    assert "is not a text file; if it is a spreadsheet" in one_fault(tmp_path, data)


# --- what else a good file may hold -------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [";", "\t"])
def test_semicolons_and_tabs_separate_too(tmp_path, mark):
    row = mark.join(["en", "s", "1", "Well, yes", "Yes, indeed", "No, never", "A, b, c, d, e, f, g, h, i", "own"])
    read = scenarios.read(write(tmp_path, table(row, header=HEADER.replace(",", mark))))
    assert list(read.iloc[0, 3:7]) == ["Well, yes", "Yes, indeed", "No, never", "A, b, c, d, e, f, g, h, i"]


def test_values_lose_outer_whitespace_and_nothing_else(tmp_path):
    row = 'ZH, s ,01,\u3000我 饿了。\u00a0, NA,null,"None, ""so"" \n nan" ,own '.replace('" ,own', '",own')
    read = scenarios.read(write(tmp_path, table(row)))
    assert list(read.iloc[0]) == ["zh", "s", "01", "我 饿了。", "NA", "null", 'None, "so" \n nan', "own"]


def test_a_space_before_a_quoted_cell_and_a_cell_of_any_length(tmp_path):
    long = "long " * 60_000 + "end"
    read = scenarios.read(write(tmp_path, table(f'en, s, 1, "Well, yes", {long}, c, d, own')))
    assert list(read.iloc[0, 3:5]) == ["Well, yes", long]


def test_columns_in_any_order_extra_ones_ignored_and_source_optional(tmp_path):
    header = "Notes,Unrelated, WEAK ,strong,query,item,scenario,language,,"
    row = "for me,天空是蓝色的,我刚吃完饭,肚子咕咕叫,我饿了,1,mine,zh,,"
    read = scenarios.read(write(tmp_path, table(row, "", ",,,,,,,,,", "  ", header=header)))
    assert list(read.columns) == list(scenarios.COLUMNS)
    assert list(read.iloc[0]) == ["zh", "mine", "1", "我饿了", "肚子咕咕叫", "我刚吃完饭", "天空是蓝色的", "own"]
    assert len(read) == 1


def test_the_same_item_number_serves_another_scenario_and_language(tmp_path):
    assert len(scenarios.read(write(tmp_path, table(HUNGRY, LION, HUNGRY.replace("zh", "en"))))) == 3


# --- faults -------------------------------------------------------------------------------------------------------


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(scenarios.ScenarioError, match=r"gone\.csv does not exist; check the path"):
        scenarios.read(tmp_path / "gone.csv")
    with pytest.raises(scenarios.ScenarioError, match="is a folder; give the path of a CSV file"):
        scenarios.read(tmp_path)
    with pytest.raises(scenarios.ScenarioError, match="cannot be read"):
        scenarios.read(tmp_path / ("long" * 100))


@pytest.mark.parametrize("text", ["", "\ufeff", "\n\n", ",,,\n,,,\n", " \r\n"])
def test_empty_file(tmp_path, text):
    assert one_fault(tmp_path, text) == (
        f"row 1, column language: the file is empty; the first line must name the columns, as in {HEADER}"
    )


@pytest.mark.parametrize("text", [HEADER, table(), table("", ",,,,,,,", " "), "\ufeff" + table()])
def test_header_only(tmp_path, text):
    assert one_fault(tmp_path, text) == "row 1, column language: no row follows the header; add at least one item"


@pytest.mark.parametrize("header", [HUNGRY, HEADER.replace(",", "，"), HEADER.replace(",", "|"), "sep=;"])
def test_no_header(tmp_path, header):
    line = one_fault(tmp_path, table(HUNGRY, header=header))
    assert line.startswith("row 1, column language: the header is '")
    assert line.endswith(HEADER)


@pytest.mark.parametrize("name", scenarios.REQUIRED)
def test_missing_column(tmp_path, name):
    place = HEADER.split(",").index(name)
    lines = [",".join(cell for i, cell in enumerate(line.split(",")) if i != place) for line in (HEADER, HUNGRY)]
    assert one_fault(tmp_path, "\n".join(lines)) == f"row 1, column {name}: the column is missing; add it"


def test_misspelt_and_duplicate_columns_below_an_empty_line(tmp_path):
    header = HEADER.replace("unrelated", "unrelatd").replace("source", "Weak")
    assert faults(tmp_path, "\n" + table(HUNGRY, header=header)) == [
        "row 2, column unrelated: the column is missing; rename 'unrelatd'",
        "row 2, column weak: 2 columns have this name; keep one",
    ]


@pytest.mark.parametrize("name", scenarios.COLUMNS)
@pytest.mark.parametrize("blank", ["", "  ", "\u3000", "\u00a0", "\u200b", '""', "\ufeff", " \u200b\u3000\u2060"])
def test_blank_cell(tmp_path, name, blank):
    cells = LION.split(",")
    cells[scenarios.COLUMNS.index(name)] = blank
    line = one_fault(tmp_path, table(HUNGRY, ",".join(cells)))
    assert line.startswith(f"row 3, column {name}: the cell is empty")
    assert line.endswith("; fill it in")


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        ("zh,s,1,a,b,c", "column unrelated: the row ends after 6 of 8 cells; fill in the others"),
        ("zh,s,1,a,b,c,d", "column source: the row ends after 7 of 8 cells; fill in the others"),
        (
            "en,s,1,Well, yes,b,c,d,own",
            "column source: 9 cells for 8 columns, the last 'own'; put \" around a sentence that holds a separator",
        ),
    ],
)
def test_ragged_row(tmp_path, cells, fault):
    assert one_fault(tmp_path, table(HUNGRY, cells, LION)) == f"row 3, {fault}"


def test_a_row_may_not_go_on_under_unnamed_columns(tmp_path):
    line = one_fault(tmp_path, table("en,s,1,Well, yes,b,c,d,own", header=HEADER + ",,"))
    assert line.startswith("row 2, column source: 9 cells for 8 columns")


def test_duplicate_item(tmp_path):
    other = "ZH,synonym, 1 ,下雨了,地面变得湿滑,天气预报不准,咖啡因让人清醒,own"
    assert one_fault(tmp_path, table(HUNGRY, LION, other)) == (
        "row 4, column item: '1' already stands in row 2 for zh, synonym; give each item its own number"
    )


@pytest.mark.parametrize("column", scenarios.CANDIDATES)
@pytest.mark.parametrize("value", ["I am OK", " i  AM ok", "Ｉ am ok", "I\u00a0am OK", "I am O\u200bK"])
def test_candidate_equal_to_its_query(tmp_path, column, value):
    item = {name: name for name in scenarios.COLUMNS} | {"language": "en", "query": "I am OK", column: value}
    line = one_fault(tmp_path, table(HUNGRY, ",".join(item.values())))
    assert line == f"row 3, column {column}: {value.strip()!r} is the same as query; write another sentence"


def test_empty_cells_are_not_also_duplicates(tmp_path):
    lines = faults(tmp_path, table("zh,s,,a,b,\u200b,\u200b,own", "zh,s,,a,b,c,d,own"))
    assert [line.split(":")[0] for line in lines] == [
        "row 2, column item",
        "row 2, column weak",
        "row 2, column unrelated",
        "row 3, column item",
    ]


def test_two_equal_candidates(tmp_path):
    line = one_fault(tmp_path, table("en,s,1,a,Twice,c,twice,own"))
    assert line == "row 2, column unrelated: 'twice' is the same as strong; write another sentence"


@pytest.mark.parametrize(
    ("language", "advice"),
    [
        ("zh-CN", "write 'zh' for Chinese"),
        ("zh_Hant", "write 'zh' for Chinese"),
        ("Chinese", "write 'zh' for Chinese"),
        ("eng", "write 'en' for English"),
        ("Englsh", "write 'en' for English"),
        ("xx", "write an ISO 639-1 code such as 'zh' or 'en' (helpers.scenarios.LANGUAGES lists them)"),
    ],
)
def test_unknown_language(tmp_path, language, advice):
    line = one_fault(tmp_path, table(HUNGRY, LION.replace("zh", language, 1)))
    assert line == f"row 3, column language: unknown language {language.lower()!r}; {advice}"


@pytest.mark.parametrize("char", ["\x07", "\x1b", "\x7f", "\x85", "\ufffd"])
def test_characters_that_are_no_text(tmp_path, char):
    line = one_fault(tmp_path, table(HUNGRY, LION.replace("狮", char)))
    assert line.startswith("row 3, column query: ")
    assert f"holds the character U+{ord(char):04X}, which is no text; delete or mend it" in line


@pytest.mark.parametrize(
    ("cells", "row", "column"),
    [
        ('zh,s,2,a,"b,c,d,own', 3, "strong"),
        ('zh,s,2,"a,b,c,d,own', 3, "query"),
        ('zh,s,2,a,b,"c" x,d,own', 3, "weak"),
        ('zh,s,2,a,"b ""x"",\n,y",c,"d,own', 4, "unrelated"),
    ],
)
def test_quotation_mark_without_partner(tmp_path, cells, row, column):
    line = one_fault(tmp_path, table(HUNGRY, cells, LION))
    assert line.startswith(f"row {row}, column {column}: a quotation mark has no partner; write ")


def test_an_open_quotation_mark_in_the_header_and_in_a_large_file(tmp_path):
    assert one_fault(tmp_path, '"' + table(HUNGRY)).startswith("row 1, column number 1: a quotation mark")
    large = table(HUNGRY, 'zh,s,2,"a,b,c,d,own', *[LION] * 5000)
    assert len(large) > 131072  # the csv module's own limit for a cell
    assert one_fault(tmp_path, large).startswith("row 3, column query: a quotation mark")


def test_rows_are_counted_as_an_editor_counts_lines(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        tall = f'zh,s,1,"a{end}{end}b",c,d,e,own'
        text = table("", tall, "zh,s,2,,b,c,d,own", end=end)
        assert one_fault(tmp_path, text) == "row 6, column query: the cell is empty; fill it in"


def test_all_faults_come_at_once_up_to_ten(tmp_path):
    lines = faults(tmp_path, table(HUNGRY, "xx,s,1,a,,a,d,own", "zh,s,2,a", HUNGRY, 'zh,s,3,"a,b,c,d,own'))
    assert [line.split(":")[0] for line in lines] == [
        "row 3, column language",
        "row 3, column strong",
        "row 3, column weak",
        "row 4, column strong",
        "row 5, column item",
        "row 6, column query",
    ]
    many = faults(tmp_path, table(*[f"zh,s,{i},a,b,c,," for i in range(11)]))
    assert len(many) == 11
    assert many[-1] == "and 12 more"


def test_long_values_are_shortened_in_messages(tmp_path):
    line = one_fault(tmp_path, table(f"en,s,1,{'a' * 500},{'a' * 500},c,d,own"))
    assert f"'{'a' * 39}…'" in line
    assert len(line) < 150


# --- any valid table survives the way through a file --------------------------------------------------------------

# No 一, 要, 时, …: their GB18030 bytes are UTF-8 too, so that a table of little else rightly counts as damaged UTF-8.
HANZI = "的是了我不在人有他这中大来上国个到们子和你地出道年得就那下以生会自着过家对可她里后多而能"
ANY = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cf", "Co", "Cn")) | st.sampled_from('",;\n'), max_size=30)
CHINESE = st.text(HANZI, min_size=8, max_size=30) | st.text(HANZI + string.ascii_letters + '，。“”,"\n', max_size=30)


def tables(sentences: st.SearchStrategy[str]) -> st.SearchStrategy[list[list[str]]]:
    """Valid tables: stripped cells, and four sentences that a prefix keeps apart."""
    label = sentences.map(str.strip)
    cells = st.tuples(st.sampled_from(sorted(scenarios.LANGUAGES)), *[label] * 6)
    prefixes = ("", "", "甲", "乙", "丙", "丁")
    return st.lists(cells, min_size=1, max_size=6).map(
        lambda rows: [
            [
                row[0],
                f"s{row[1]}",
                f"{i}",
                *(f"{mark}{cell}" for mark, cell in zip(prefixes[2:], row[3:], strict=True)),
                "own",
            ]
            for i, row in enumerate(rows)
        ]
    )


def round_trip(folder: Path, rows: list[list[str]], encoding: str, mark: str, end: str) -> None:
    text = io.StringIO(newline="")
    # Python's writer quotes a line end inside a cell only if it is also the file's
    quoting = csv.QUOTE_ALL if end == "\r" else csv.QUOTE_MINIMAL
    writer = csv.writer(text, delimiter=mark, lineterminator=end, quoting=quoting)
    writer.writerows([scenarios.COLUMNS, *rows])
    read = scenarios.read(write(folder, text.getvalue(), encoding))
    assert read.to_numpy().tolist() == rows


SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MARKS = st.sampled_from(",;\t")
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@SETTINGS
@given(rows=tables(ANY), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), mark=MARKS, end=ENDS)
def test_any_table_round_trips_in_unicode(tmp_path, rows, encoding, mark, end):
    round_trip(tmp_path, rows, encoding, mark, end)


@SETTINGS
@given(rows=tables(CHINESE), mark=MARKS, end=ENDS)
def test_any_chinese_table_round_trips_in_gb18030(tmp_path, rows, mark, end):
    round_trip(tmp_path, rows, "gb18030", mark, end)
