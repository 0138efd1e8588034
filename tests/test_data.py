"""Guards of the lab's items: enough of them, aligned, unlike each other, and not to be solved by their surface.

The last part guards the lines of the radar's samples in the same way.
"""

import re
import unicodedata
from collections.abc import Callable
from itertools import combinations
from pydoc_data.topics import topics

import pandas as pd
import pytest
from sentence_transformers import SentenceTransformer
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

from helpers import audit, baselines, lines, samples, scenarios, scores
from helpers.paths import DATA
from helpers.scenarios import CANDIDATES

ROLES = ["query", *CANDIDATES]
LANGUAGES = ["zh", "en"]
SOURCES = {"zh": "article", "en": "translation"}
SMALL_NUMBERS = (
    "two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty seventy eighty"
)
NUMBER = {
    "zh": r"\d+|[〇零一二两三四五六七八九十百千万亿]{2,}",
    "en": rf"\d+|\b(?:{'|'.join(SMALL_NUMBERS.split())}|ninety|hundred|thousand|million|billion|dozen)\b",
}

each_language = pytest.mark.parametrize("language", LANGUAGES)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return scenarios.read()


@pytest.fixture(scope="module")
def items(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each language, counted from 0."""
    return {language: rows.reset_index(drop=True) for language, rows in table.groupby("language", sort=False)}


@pytest.fixture(scope="module")
def bare(table: pd.DataFrame, embedded: Callable[[str], SentenceTransformer]) -> pd.DataFrame:
    return baselines.score(table, embedded("e5-small").tokenizer.tokenize)


@pytest.fixture(scope="module")
def without_model(bare: pd.DataFrame) -> pd.DataFrame:
    return scores.summary(bare).set_index(["language", "pooling"])


def runs(text: str) -> set[str]:
    """Returns the runs of three letters or digits, without case."""
    spelled = "".join(char for char in text.casefold() if char.isalnum())
    return {spelled[start : start + 3] for start in range(len(spelled) - 2)}


def ends(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the punctuation at the end of each sentence, full-width marks as their ASCII counterparts."""
    return rows[ROLES].map(lambda text: unicodedata.normalize("NFKC", re.search(r"\W*$", text)[0]).replace("。", "."))


# --- how many, and whose ------------------------------------------------------------------------------------------


def test_each_scenario_has_enough_items_in_both_languages(table: pd.DataFrame) -> None:
    assert set(table["language"]) == set(LANGUAGES)
    counts = table.groupby(["language", "scenario"]).size()
    assert set(counts.index) == {(language, scenario) for language in LANGUAGES for scenario in scenarios.SCENARIOS}
    assert counts.min() >= 36


def test_chinese_and_english_stand_item_by_item_in_the_same_order(items: dict[str, pd.DataFrame]) -> None:
    pd.testing.assert_frame_equal(items["zh"][["scenario", "item"]], items["en"][["scenario", "item"]])
    same_source = items["zh"]["source"].eq("lab") == items["en"]["source"].eq("lab")
    assert same_source.all()


@each_language
def test_the_article_gave_the_first_item_of_each_scenario_and_no_other(
    items: dict[str, pd.DataFrame], language: str
) -> None:
    rows = items[language]
    assert set(rows["source"]) == {SOURCES[language], "lab"}
    quoted = rows[rows["source"] != "lab"]
    assert quoted["scenario"].tolist() == list(scenarios.SCENARIOS)
    assert set(quoted["item"]) == {"1"}


def test_items_are_numbered_without_a_gap(table: pd.DataFrame) -> None:
    for key, rows in table.groupby(["language", "scenario"]):
        assert rows["item"].tolist() == [str(number) for number in range(1, len(rows) + 1)], key


# --- no sentence twice --------------------------------------------------------------------------------------------


@each_language
def test_no_sentence_stands_twice(items: dict[str, pd.DataFrame], language: str) -> None:
    sentences = items[language][ROLES].stack()
    assert sentences[sentences.duplicated(keep=False)].empty


def test_sentences_of_different_items_are_not_nearly_the_same(table: pd.DataFrame) -> None:
    assert table["language"].value_counts().max() * len(ROLES) <= audit.COMPARED  # or the search would skip some
    assert audit.near_duplicates(table).to_dict("records") == []


@each_language
def test_within_an_item_only_query_and_weak_are_nearly_the_same_and_seldom(
    items: dict[str, pd.DataFrame], language: str
) -> None:
    near = []
    for row in items[language].itertuples():
        for first, second in combinations(ROLES, 2):
            left, right = runs(getattr(row, first)), runs(getattr(row, second))
            if len(left & right) > audit.NEAR * len(left | right):
                near.append((row.scenario, row.item, first, second))
    assert all((first, second) == ("query", "weak") for _, _, first, second in near), near
    assert len(near) <= len(items[language]) / 25, near


# --- the surface gives nothing away -------------------------------------------------------------------------------


@each_language
@pytest.mark.parametrize(("first", "second"), list(combinations(CANDIDATES, 2)))
def test_length_does_not_tell_the_kinds_of_candidates_apart(
    items: dict[str, pd.DataFrame], language: str, first: str, second: str
) -> None:
    lengths = items[language][[first, second]].map(len)
    assert 0.4 <= scores.auc(lengths[first].to_numpy(), lengths[second].to_numpy()) <= 0.6


@each_language
def test_the_strong_candidate_is_nearest_to_its_query_in_length_about_as_often_as_the_others(
    items: dict[str, pd.DataFrame], language: str
) -> None:
    lengths = items[language][ROLES].map(len)
    away = lengths[list(CANDIDATES)].sub(lengths["query"], axis=0).abs()
    assert 0.25 <= away["strong"].eq(away.min(axis=1)).mean() <= 0.42


@each_language
@pytest.mark.parametrize("kind", [baselines.CHARACTERS, baselines.WORDS])
def test_shared_characters_and_words_do_not_tell_strong_from_weak(
    without_model: pd.DataFrame, language: str, kind: str
) -> None:
    assert without_model.loc[(language, kind), "auc_weak"] <= 0.5


def test_nor_do_shared_characters_in_any_scenario(bare: pd.DataFrame) -> None:
    for key, rows in bare[bare["pooling"] == baselines.CHARACTERS].groupby(["language", "scenario"]):
        each = rows.pivot(index="item", columns="candidate", values="cosine")
        assert scores.auc(each["strong"].to_numpy(), each["weak"].to_numpy()) <= 0.5, key


def test_strong_candidates_begin_like_their_query_no_more_often_than_weak_ones(
    table: pd.DataFrame, embedded: Callable[[str], SentenceTransformer]
) -> None:
    found = audit.profile(table, embedded("tiny-qwen3").tokenizer.tokenize)
    same = found.xs("begins with the query's first token", level="measure")
    assert same.index.tolist() == LANGUAGES
    assert (same["strong"] <= same["weak"]).all()


@each_language
def test_a_number_that_query_and_strong_share_is_in_weak_too(items: dict[str, pd.DataFrame], language: str) -> None:
    for row in items[language].itertuples():
        query, strong, weak = (
            set(re.findall(NUMBER[language], getattr(row, role).lower())) for role in ("query", "strong", "weak")
        )
        assert query & strong <= weak, (row.scenario, row.item)


# --- form ---------------------------------------------------------------------------------------------------------


@each_language
def test_the_sentences_of_an_item_end_alike(items: dict[str, pd.DataFrame], language: str) -> None:
    rows = items[language].query("source == 'lab'")
    found = ends(rows)
    assert set(found["query"]) == {"", ".", "?", "!"}
    unlike = found.nunique(axis=1) > 1
    assert rows.loc[unlike, ["scenario", "item"]].to_numpy().tolist() == []


def test_an_item_ends_alike_in_both_languages(items: dict[str, pd.DataFrame]) -> None:
    zh, en = (ends(items[language].query("source == 'lab'"))["query"] for language in LANGUAGES)
    pd.testing.assert_series_equal(zh, en)


@each_language
def test_lengths_vary(items: dict[str, pd.DataFrame], language: str) -> None:
    lengths = items[language]["query"].map(len)
    assert lengths.quantile(0.9) >= 3 * lengths.median()


def assert_chinese(text: str) -> None:
    """Requires simplified characters and full-width punctuation."""
    text.replace("蹚", "").encode("gb2312")  # 蹚, to wade, is simplified but younger than GB2312
    assert not re.search(r"[^\W\d]", text, re.ASCII), text
    assert not re.search(r"[!-/:-@\[-`{-~]", text), text
    assert re.search("[\u4e00-\u9fff]", text), text


def assert_english(text: str) -> None:
    """Requires Latin script and ASCII punctuation."""
    letters = [char for char in text if char.isalpha()]
    assert letters, text
    assert all(unicodedata.name(char).startswith("LATIN ") for char in letters), text
    assert all(char.isascii() for char in text if not char.isalpha()), text


def test_chinese_is_simplified_with_full_width_punctuation(items: dict[str, pd.DataFrame]) -> None:
    for text in items["zh"][ROLES].to_numpy().ravel():
        assert_chinese(text)


def test_english_is_in_latin_script_with_ascii_punctuation(items: dict[str, pd.DataFrame]) -> None:
    for text in items["en"][ROLES].to_numpy().ravel():
        assert_english(text)


# --- the radar's samples ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known() -> pd.DataFrame:
    return samples.knowledge()


@pytest.fixture(scope="module")
def answers(known: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each language of the set `faq`, counted from 0."""
    faq = known[known["set"] == "faq"]
    return {language: rows.reset_index(drop=True) for language, rows in faq.groupby("language", sort=False)}


@pytest.fixture(scope="module")
def fruit(known: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each language of the set `fruit`, by their entry."""
    rows = known[known["set"] == "fruit"]
    return {language: some.set_index("entry") for language, some in rows.groupby("language", sort=False)}


def said(pattern: str) -> int:
    """Returns the one number that data/DATA.md says about data/knowledge.csv in these words."""
    section = (DATA / "DATA.md").read_text(encoding="utf-8").split("### `knowledge.csv`")[1].split("\n### ")[0]
    (found,) = re.findall(pattern, " ".join(section.split()))
    return int(found)


def test_knowledge_has_its_columns_and_sets_in_both_languages(known: pd.DataFrame) -> None:
    assert known.columns.tolist() == ["set", "entry", "language", "text", "question", "source"]
    counts = known.groupby(["set", "language"], sort=False).size()
    assert counts.to_dict() == {("fruit", "zh"): 12, ("fruit", "en"): 12, ("faq", "zh"): 200, ("faq", "en"): 200}
    for key, rows in known.groupby(["set", "language"]):
        assert rows["entry"].tolist() == [str(number) for number in range(1, len(rows) + 1)], key


def test_knowledge_is_written_with_lf_and_without_a_mark() -> None:
    data = (DATA / "knowledge.csv").read_bytes()
    assert not data.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in data
    assert data.endswith(b"\n")
    data.decode("utf-8")


def test_no_cell_of_knowledge_holds_a_control_character_or_space_at_an_end(known: pd.DataFrame) -> None:
    for cell in known.to_numpy().ravel():
        assert cell == cell.strip()
        assert not any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") for char in cell), cell


def test_knowledge_is_written_in_the_script_of_its_language(known: pd.DataFrame) -> None:
    require = {"zh": assert_chinese, "en": assert_english}
    for row in known.itertuples():
        for text in filter(None, (row.text, row.question)):
            require[row.language](text)


@each_language
def test_texts_and_questions_are_distinct(answers: dict[str, pd.DataFrame], language: str) -> None:
    rows = answers[language]
    everything = [*rows["text"], *rows["question"]]
    assert len({text.casefold() for text in everything}) == 2 * len(rows)


@each_language
@pytest.mark.parametrize("column", ["text", "question"])
def test_no_two_entries_are_nearly_the_same(answers: dict[str, pd.DataFrame], language: str, column: str) -> None:
    apart = combinations([(text, runs(text)) for text in answers[language][column]], 2)
    near = [(first, second) for (first, one), (second, two) in apart if len(one & two) > audit.NEAR * len(one | two)]
    assert near == []


def test_an_answer_is_a_statement_of_some_length_and_a_question_asks(answers: dict[str, pd.DataFrame]) -> None:
    zh, en = answers["zh"], answers["en"]
    assert zh["text"].str.fullmatch(r"[^。！？]{14,49}。").all()
    assert en["text"].str.fullmatch(r"[^.!?]+\.").all()
    assert en["text"].str.split().map(len).between(8, 30).all()
    assert zh["question"].str.fullmatch("[^。！？]+？").all()
    assert en["question"].str.fullmatch(r"[^.!?]+\?").all()


@each_language
def test_every_entry_of_the_faq_is_ours_and_answers(answers: dict[str, pd.DataFrame], language: str) -> None:
    assert set(answers[language]["source"]) == {"lab"}
    assert (answers[language]["question"] != "").all()


@each_language
def test_the_fruit_begins_with_the_article_and_its_query_stands_where_it_is_answered(
    fruit: dict[str, pd.DataFrame], language: str
) -> None:
    rows, query = fruit[language], {"zh": "我想吃点东西", "en": "I would like to eat something"}[language]
    assert rows["source"].tolist() == [SOURCES[language]] * 2 + ["lab"] * 10
    assert set(rows["question"]) == {query, ""}
    assert rows.index[rows["question"] == query].tolist() == fruit["zh"].index[fruit["zh"]["question"] != ""].tolist()
    assert not rows["text"].eq(query).any()
    assert rows["text"].is_unique


def test_the_articles_fruit_is_quoted_word_for_word(fruit: dict[str, pd.DataFrame]) -> None:
    assert fruit["zh"]["text"].head(2).tolist() == ["苹果是一种很好吃的水果", "香蕉富含钾元素"]


@each_language
def test_words_shared_with_the_query_or_its_answers_mislead(fruit: dict[str, pd.DataFrame], language: str) -> None:
    """The example would prove nothing if each line with a word of the query or of an answer were one itself."""
    shared = {"zh": "我想 东西 苹果 香蕉 钾元素", "en": "like something apple banana"}[language]
    misses = fruit[language].query("question == ''")["text"].str.casefold()
    for word in shared.split():
        assert misses.str.contains(word).any(), word


def test_the_radar_leaves_no_line_of_its_samples_out(known: pd.DataFrame) -> None:
    for _, rows in known.groupby(["set", "language"]):
        tidied = lines.tidy(rows["text"])
        assert tidied.lines == rows["text"].tolist()
        assert (tidied.blank, tidied.symbols, tidied.repeats) == (0, 0, [])


def test_data_md_counts_the_rows_and_what_questions_share_with_answers(
    known: pd.DataFrame, answers: dict[str, pd.DataFrame]
) -> None:
    def english(text: str) -> set[str]:
        return set(re.findall(r"[a-z]+", text.lower())) - ENGLISH_STOP_WORDS

    def chinese(text: str) -> set[str]:
        spelled = "".join(char for char in text if char.isalnum())
        return {spelled[at : at + 2] for at in range(len(spelled) - 1)}

    def apart(language: str, pieces: Callable[[str], set[str]]) -> int:
        rows = answers[language]
        return sum(pieces(text).isdisjoint(pieces(asked)) for text, asked in rows[["text", "question"]].to_numpy())

    assert said(r"(\d+) rows") == len(known)
    assert said(r"(\d+) of the English questions") == apart("en", english)
    assert said(r"(\d+) of the Chinese ones") == apart("zh", chinese)


@pytest.fixture(scope="module")
def unlabelled() -> pd.DataFrame:
    return pd.read_csv(DATA / "sentences.csv", dtype=str, keep_default_na=False)


def test_sentences_to_learn_from_are_enough_distinct_and_counted_in_data_md(unlabelled: pd.DataFrame) -> None:
    section = (DATA / "DATA.md").read_text(encoding="utf-8").split("### `sentences.csv`")[1].split("\n### ")[0]
    uses = unlabelled["use"].value_counts()
    assert list(unlabelled) == ["use", "text"]
    assert f"{len(unlabelled):,} rows" in section
    assert f"`training`: {uses['training']} to learn" in section
    assert f"`held out`: {uses['held out']} on which" in section
    assert uses.sum() == len(unlabelled)
    assert unlabelled["text"].str.lower().str.findall(r"\w+").str.join(" ").is_unique
    assert unlabelled["text"].str.split().str.len().between(5, 20).all()


def test_sentences_to_learn_from_share_no_run_of_four_words_with_an_item(
    unlabelled: pd.DataFrame, items: dict[str, pd.DataFrame]
) -> None:
    def runs(texts: pd.Series, length: int) -> set[str]:
        return set(CountVectorizer(ngram_range=(length, length), token_pattern=r"\w+").fit(texts).vocabulary_)

    asked = items["en"][ROLES].melt()["value"]
    assert not runs(unlabelled["text"], 4) & runs(asked, 4)
    assert runs(unlabelled["text"], 2) & runs(asked, 2)  # so it would have been found


def test_sentences_to_learn_from_are_pythons_own(unlabelled: pd.DataFrame) -> None:
    manual = " ".join(" ".join(topics.values()).split())
    found = [text in manual for text in unlabelled["text"]]
    assert sum(found) > 0.8 * len(found)  # other versions of Python have changed some
