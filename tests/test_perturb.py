"""Texts change as `perturb` says, and in no other way."""

import pytest
from transformers import PreTrainedTokenizerBase

from helpers import perturb


@pytest.fixture(scope="module")
def tokenizer(embedded) -> PreTrainedTokenizerBase:
    return embedded("tiny-qwen3").tokenizer


def spans(text: str, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [text[start:end] for start, end in perturb.words(text, tokenizer)]


def test_passages_have_the_same_topics_in_both_languages() -> None:
    chinese, english = perturb.passages("zh"), perturb.passages("en")
    sizes = {topic: len(sentences) for topic, sentences in chinese.items()}
    assert sizes == {topic: len(sentences) for topic, sentences in english.items()}
    assert sizes.pop(perturb.NEUTRAL) == 40
    assert len(sizes) == 12
    assert set(sizes.values()) == {28}
    for shelves in (chinese, english):
        texts = [text for sentences in shelves.values() for text in sentences]
        assert len(set(texts)) == len(texts)
        assert all(text.endswith(perturb.SENTENCE_ENDS) for text in texts)


def test_passages_of_another_language_are_none() -> None:
    assert perturb.passages("fr") == {}


@pytest.mark.parametrize(
    ("sentences", "text"),
    [
        (["狗叫了", "猫跑了。"], "狗叫了。猫跑了。"),
        (["It rains", "Stay in!"], "It rains. Stay in!"),
        (["狗叫了", "It rains"], "狗叫了。 It rains."),
        ([], ""),
    ],
)
def test_join(sentences: list[str], text: str) -> None:
    assert perturb.join(sentences) == text


@pytest.mark.parametrize(
    ("place", "text"),
    [("start", "X. A. B. C."), ("middle", "A. X. B. C."), ("end", "A. B. C. X.")],
)
def test_pad(place: str, text: str) -> None:
    assert perturb.pad("X", ["A.", "B.", "C."], place) == text
    assert perturb.pad("X", [], place) == "X"


def test_pad_all_adds_to_what_it_added_before() -> None:
    fillers = ["A.", "B.", "C."]
    few, many = (perturb.pad_all(["X", "Y"], fillers, count, "end", seed=1) for count in (2, 4))
    assert [len(text) for text in few] == [8, 8]
    assert all(long.startswith(short[:5]) for short, long in zip(few, many, strict=True))
    assert many[0].split()[0] == many[0].split()[3]  # three fillers come round again
    assert few == perturb.pad_all(["X", "Y"], fillers, 2, "end", seed=1)


def test_words_of_both_scripts(tokenizer) -> None:
    assert spans("It isn't level-headed, is it?", tokenizer) == ["It", "isn't", "level-headed", ",", "is", "it", "?"]
    assert spans("用户投诉响应超时。", tokenizer) == ["用户", "投诉", "响应", "超", "时", "。"]
    assert spans("买了iPhone15", tokenizer) == ["买", "了", "iPhone15"]
    assert spans("", tokenizer) == []


@pytest.mark.parametrize("text", ["龘𪚥龘", "他的书在桌上，不是吗？", "The café's «menu» costs 5€.", "  two  spaces "])
def test_words_lie_in_order_and_leave_out_spaces_alone(text: str, tokenizer) -> None:
    found = perturb.words(text, tokenizer)
    assert all(start < end for start, end in found)
    assert all(before[1] <= after[0] for before, after in zip(found, found[1:], strict=False))
    assert "".join(spans(text, tokenizer)) == "".join(text.split())


@pytest.mark.parametrize(
    ("language", "text", "left"),
    [
        ("zh", "他在看书的时候睡着了", "他看书时候睡着"),
        ("zh", "现在的目的", "现在目的"),  # words that hold one stay whole
        ("zh", "的", "的"),  # nothing would be left
        ("en", "The cat of the house sat in there.", "cat house sat there."),
        ("en", "Weather often influences.", "Weather often influences."),
        ("en", "Come in, please.", "Come, please."),
        ("en", "State-of-the-art tools of the trade.", "State-of-the-art tools trade."),
        ("zh", "有的人走了", "有的人走"),
        ("zh", "所有的人没有的书", "所有人没有书"),
    ],
)
def test_without(language: str, text: str, left: str) -> None:
    assert perturb.without(text, perturb.STOP_WORDS[language]) == left


def test_without_others_takes_as_many_words_and_spares_the_stop_words(tokenizer) -> None:
    text = "The cat of the house sleeps on a warm chair."
    gone = perturb.STOP_WORDS["en"]
    (left,) = perturb.without_others([text], gone, tokenizer, seed=3)
    assert [word for word in left.lower().split() if word in gone] == ["the", "of", "the"]
    assert len(left.split()) == len(text.split()) - 3
    assert perturb.without_others(["the cat"], gone, tokenizer) == ["the cat"]  # one word stays
    assert perturb.without_others(["of the"], gone, tokenizer) == ["of the"]  # no other word to take
    assert perturb.without_others(["State-of-the-art tools"], gone, tokenizer) == ["State-of-the-art tools"]


def test_lists_take_each_step_alone(tokenizer) -> None:
    made = perturb.lists(["The cat is not in the house."], "en", tokenizer)
    assert made == {
        "sentence": ["The cat is not in the house."],
        "function words out": ["cat not house."],
        "commas in": ["The, cat, is, not, in, the, house"],
        "keyword list": ["cat, not, house"],
    }
    assert perturb.lists(["用户的投诉"], "zh", tokenizer)["keyword list"] == ["用户,投诉"]
    assert perturb.lists(["It is."], "en", tokenizer)["keyword list"] == ["It, is"]


@pytest.mark.parametrize(
    ("text", "place", "changed"),
    [
        ("It rains today.", "start", "# It rains today."),
        ("It rains today.", "middle", "It rains # today."),
        ("It rains today.", "end", "It rains today. #"),
        ("用户投诉", "middle", "用户#投诉"),
        ("用户投诉", "end", "用户投诉#"),
    ],
)
def test_inject(text: str, place: str, changed: str, tokenizer) -> None:
    assert perturb.inject(text, perturb.words(text, tokenizer), "#", place) == changed


@pytest.mark.parametrize(
    ("text", "place", "changed"),
    [
        ("It rains today", "start", "It rians today"),
        ("It rains today", "end", "It rains todya"),
        ("用户投诉", "start", "户用投诉"),
        ("用户投诉", "end", "用户诉投"),
        ("aaa", "middle", "aaa"),  # nothing to swap
    ],
)
def test_mistype(text: str, place: str, changed: str, tokenizer) -> None:
    assert perturb.mistype(text, perturb.words(text, tokenizer), place) == changed


def test_noisy_changes_every_text_in_every_way(tokenizer) -> None:
    texts = ["It rains today.", "用户投诉响应超时"]
    made = perturb.noisy(texts, "fr", tokenizer)
    assert len(made) == (len(perturb.ODD) + 1) * len(perturb.PLACES)
    assert all(len(some) == 2 and not {*some} & {*texts} for some in made.values())
    assert (
        made["ordinary word, start"][0] == "indeed It rains today."
    )  # English, where a language has no word of its own
