"""Tests of the radar's samples: which lines they hold, in which order, and with which query."""

import pytest

from helpers import lines, scenarios
from helpers.samples import MIXED, Sample, knowledge, samples
from helpers.scenarios import CANDIDATES


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], Sample]:
    return {(sample.name, sample.language): sample for sample in samples()}


def test_each_sample_is_there_in_both_languages_and_the_faq_in_both_at_once(
    found: dict[tuple[str, str], Sample],
) -> None:
    assert {key: len(sample.lines) for key, sample in found.items()} == {
        ("fruit", "zh"): 12,
        ("fruit", "en"): 12,
        ("scenarios", "zh"): 240,
        ("scenarios", "en"): 240,
        ("faq", "zh"): 200,
        ("faq", "en"): 200,
        ("faq", MIXED): 400,
    }
    assert len(samples()) == len(found)


def test_the_radar_takes_every_line_of_every_sample(found: dict[tuple[str, str], Sample]) -> None:
    for key, sample in found.items():
        assert tuple(lines.tidy(sample.lines).lines) == sample.lines, key


def test_a_query_is_none_of_the_lines(found: dict[tuple[str, str], Sample]) -> None:
    for sample in found.values():
        assert lines.says_something(sample.query)
        assert sample.query not in sample.lines


def test_fruit_starts_with_the_articles_sentences_and_query(found: dict[tuple[str, str], Sample]) -> None:
    sample = found["fruit", "zh"]
    assert sample.lines[:2] == ("苹果是一种很好吃的水果", "香蕉富含钾元素")
    assert sample.query == "我想吃点东西"
    assert found["fruit", "en"].query == "I would like to eat something"


@pytest.mark.parametrize("language", ["zh", "en"])
def test_scenarios_holds_the_candidates_of_the_articles_items_and_of_nine_more_each(
    found: dict[tuple[str, str], Sample], language: str
) -> None:
    items = scenarios.read().query("language == @language")
    items = items[items["item"].isin([str(number) for number in range(1, 41, 4)])]
    assert items["scenario"].value_counts().to_dict() == dict.fromkeys(scenarios.SCENARIOS, 10)
    expected = [getattr(row, kind) for row in items.itertuples() for kind in CANDIDATES]
    assert list(found["scenarios", language].lines) == expected


def test_scenarios_asks_the_articles_first_query(found: dict[tuple[str, str], Sample]) -> None:
    assert found["scenarios", "zh"].query == "我饿了"
    assert found["scenarios", "zh"].lines[0] == "肚子咕咕叫"


def test_faq_asks_the_first_question_and_mixed_holds_both_languages(found: dict[tuple[str, str], Sample]) -> None:
    faq = knowledge().query("set == 'faq'").set_index(["language", "entry"])
    for language in ("zh", "en"):
        assert found["faq", language].query == faq.loc[(language, "1"), "question"]
        assert list(found["faq", language].lines) == faq.loc[language, "text"].tolist()
    assert found["faq", MIXED].lines == found["faq", "zh"].lines + found["faq", "en"].lines
    assert found["faq", MIXED].query == found["faq", "zh"].query
