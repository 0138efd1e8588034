"""The audit of scenario files: profiles by hand, near duplicates by a double loop, and doubts that are due or not."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from helpers import audit, baselines, scores
from helpers.scenarios import CANDIDATES, COLUMNS, read

ROLES = ["query", *CANDIDATES]


def table(*items: tuple[str, str, str, str], language: str = "en") -> pd.DataFrame:
    rows = [(language, "s", str(number), *texts, "own") for number, texts in enumerate(items, 1)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def apart(first: str, second: str) -> pd.DataFrame:
    """Puts two texts into two items that have nothing else in common."""
    return table((first, "KKKK", "LLLL", "MMMM"), ("PPPP", second, "RRRR", "TTTT"))


def sentence(words: np.ndarray) -> str:
    return " ".join(words)


def neutral(items: int, seed: int) -> pd.DataFrame:
    """Makes items of eight random syllables a sentence: no candidate is more like its query than another."""
    generator = np.random.default_rng(seed)
    syllables = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in "bdfgklmnprst"]
    return table(*[tuple(sentence(generator.choice(syllables, 8)) for _ in ROLES) for _ in range(items)])


def bare(**changes: dict[str, float]) -> pd.DataFrame:
    """Makes a summary of the four baselines at chance, but for the numbers that are changed."""
    chance = {"auc": 0.5, "auc_low": 0.4, "auc_weak": 0.5, "auc_weak_low": 0.4}
    kinds = {"chars": baselines.CHARACTERS, "words": baselines.WORDS, "length": baselines.LENGTH}
    kinds["random"] = baselines.RANDOM
    rows = [{"language": "en", "pooling": kind} | chance | changes.get(key, {}) for key, kind in kinds.items()]
    return pd.DataFrame(rows)


def doubts(scenarios: pd.DataFrame) -> list[str]:
    found = audit.doubts(scenarios, scores.summary(baselines.score(scenarios, str.split)))
    assert list(found) == ["en"]
    return found["en"]


# --- profile ------------------------------------------------------------------------------------------------------


def test_profile_by_hand() -> None:
    english = table(("a cat", "a tom", "a dog", "it rains"), ("no dogs here", "dogs stay out", "no cats", "so"))
    found = audit.profile(pd.concat([table(("我 饿", "我 想 吃", "他 饱", "天"), language="zh"), english]), str.split)
    assert found.columns.tolist() == ROLES
    measures = [f"characters, {share}% quantile" for share in (10, 50, 90)] + ["begins with the query's first token"]
    assert found.index.tolist() == [(language, measure) for language in ("zh", "en") for measure in measures]
    # query 5 and 12 characters, strong 5 and 13, weak 5 and 7, unrelated 8 and 2: a tenth of the way, half, nine tenths
    assert found.loc["en"].iloc[0].tolist() == pytest.approx([5.7, 5.8, 5.2, 2.6])
    assert found.loc["en"].iloc[1].tolist() == pytest.approx([8.5, 9, 6, 5])
    assert found.loc["en"].iloc[2].tolist() == pytest.approx([11.3, 12.2, 6.8, 7.4])
    assert np.isnan(found.loc["en", "query"].iloc[3])
    assert found.loc["en", list(CANDIDATES)].iloc[3].tolist() == [0.5, 1, 0]
    assert found.loc["zh"].iloc[1].tolist() == [3, 5, 3, 1]
    assert found.loc["zh", list(CANDIDATES)].iloc[3].tolist() == [1, 0, 0]


def test_the_first_token_is_the_tokenizers() -> None:
    scenarios = table(("Hungry cat", "hungry dog", "Hungrily eats", "Hungry"))
    last = "begins with the query's first token"
    assert audit.profile(scenarios, str.split).loc[("en", last), list(CANDIDATES)].tolist() == [0, 0, 1]
    assert audit.profile(scenarios, list).loc[("en", last), list(CANDIDATES)].tolist() == [0, 1, 1]
    uncased = audit.profile(scenarios, lambda text: text.lower().split()).loc[("en", last), list(CANDIDATES)]
    assert uncased.tolist() == [1, 0, 1]


# --- near duplicates ----------------------------------------------------------------------------------------------


def test_one_changed_character_is_found() -> None:
    first, second = "the librarian closed early", "the libraryan closed early"
    found = audit.near_duplicates(apart(first, second))
    # 23 letters make 21 runs; the changed one is in three of them: 18 are shared, 18 + 3 + 3 are there
    expected = {"language": "en", "first": first, "second": second, "shared": pytest.approx(18 / 24)}
    assert found.to_dict("records") == [expected]


def test_case_spaces_and_punctuation_do_not_count() -> None:
    assert audit.near_duplicates(apart("The cat, sat on_the MAT!", "the cats at on the mat"))["shared"].tolist() == [1]
    assert audit.near_duplicates(apart("下雨了，地很滑。", "下雨了 地很滑"))["shared"].tolist() == [1]


def test_more_than_half_must_be_shared() -> None:
    assert audit.near_duplicates(apart("abcde", "abcdx")).empty  # abc and bcd of abc, bcd, cde, cdx
    assert audit.near_duplicates(apart("abcdef", "abcdex"))["shared"].tolist() == [0.6]  # three of five


def test_very_short_texts_are_compared_whole() -> None:
    assert audit.near_duplicates(apart("饿", "饿！"))["shared"].tolist() == [1]
    assert audit.near_duplicates(apart("ab", "Ab."))["shared"].tolist() == [1]
    assert audit.near_duplicates(apart("ab", "abc")).empty
    assert audit.near_duplicates(apart("a", "b")).empty
    assert audit.near_duplicates(apart("?!", "abc")).empty


def test_sentences_of_one_item_may_be_alike() -> None:
    assert audit.near_duplicates(table(("she will marry him", "KKKK", "she'll marry him", "she will marry him."))).empty


def test_languages_are_not_compared() -> None:
    one = table(("the same sentence", "KKKK", "LLLL", "MMMM"))
    assert audit.near_duplicates(pd.concat([one, one.assign(language="fr")])).empty
    found = audit.near_duplicates(pd.concat([one, one.assign(item="2")]))
    assert found["shared"].tolist() == [1] * 4


def test_only_the_first_texts_of_a_language_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [(f"the same sentence {number * 'x'}", "KKKK", "LLLL", "MMMM") for number in range(3)]
    scenarios = pd.concat([table(*items), table(*items, language="fr")])
    monkeypatch.setattr(audit, "COMPARED", 8)
    assert audit.near_duplicates(scenarios)["language"].tolist() == ["en"] * 4 + ["fr"] * 4


def test_near_duplicates_are_those_of_a_double_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "NEAR", 0.1)
    scenarios = read().query("language == 'en' and scenario == 'negation'")
    texts = [
        (item, text, {spelled[at : at + 3] for at in range(len(spelled) - 2)})
        for item, *row in scenarios[["item", *ROLES]].itertuples(index=False)
        for text in row
        for spelled in ["".join(filter(str.isalnum, text.lower()))]
    ]
    expected = {
        (first, second): len(left & right) / len(left | right)
        for (one, first, left), (other, second, right) in combinations(texts, 2)
        if one != other and len(left & right) > 0.1 * len(left | right)
    }
    found = audit.near_duplicates(scenarios).set_index(["first", "second"])["shared"]
    assert len(expected) > 20
    assert found.to_dict() == pytest.approx(expected)


# --- doubts -------------------------------------------------------------------------------------------------------


def test_nothing_is_said_of_neutral_items() -> None:
    for seed in range(3):
        assert doubts(neutral(40, seed)) == []


def test_few_items_are_said() -> None:
    scenarios = neutral(30, 1)
    assert audit.doubts(scenarios, bare()) == {"en": []}
    (said,) = audit.doubts(scenarios.head(29), bare())["en"]
    assert said.startswith("29 items are few")


def test_duplicates_are_said_with_their_number_and_an_example() -> None:
    scenarios = neutral(40, 2)
    scenarios.loc[7, "unrelated"] = scenarios.loc[3, "unrelated"] + "!"
    scenarios.loc[9, "unrelated"] = scenarios.loc[3, "unrelated"].upper()
    (said,) = audit.doubts(scenarios, bare())["en"]
    assert "(3 pairs, such as" in said
    alike = [repr(text) for text in scenarios.loc[[3, 7, 9], "unrelated"]]
    assert sum(text in said for text in alike) == 2


def test_a_strong_candidate_that_copies_its_query_is_said_of_both_kinds_of_negatives() -> None:
    scenarios = neutral(40, 3)
    generator = np.random.default_rng(3)
    scenarios["strong"] = [sentence(generator.permutation(query.split())) for query in scenarios["query"]]
    said = doubts(scenarios)
    kinds = [(kind, against) for kind in (baselines.CHARACTERS, baselines.WORDS) for against in ("unrelated", "weak")]
    assert len(said) == len(kinds)
    for sentence_said, (kind, against) in zip(said, kinds, strict=True):
        assert f"{kind} tells strong from {against} candidates (AUC 1.00)" in sentence_said


def test_candidates_of_their_querys_length_are_said() -> None:
    scenarios = neutral(40, 4)
    scenarios["unrelated"] += " " + scenarios["unrelated"].str[::-1]
    (said,) = doubts(scenarios)
    assert said.startswith("Without any model, length tells strong from unrelated candidates (AUC 1.00)")


def test_a_leak_must_be_sure() -> None:
    scenarios = neutral(40, 5)
    assert audit.doubts(scenarios, bare(words={"auc": 0.8, "auc_low": 0.6})) == {"en": []}
    (said,) = audit.doubts(scenarios, bare(words={"auc": 0.8, "auc_low": 0.61}))["en"]
    assert f"{baselines.WORDS} tells strong from unrelated candidates (AUC 0.80)" in said
    assert audit.doubts(scenarios, bare(words={"auc": 0.9, "auc_low": np.nan})) == {"en": []}


def test_random_luck_is_no_leak() -> None:
    lucky = {"auc": 0.9, "auc_low": 0.8, "auc_weak": 0.9, "auc_weak_low": 0.8}
    assert audit.doubts(neutral(40, 6), bare(random=lucky)) == {"en": []}


def test_each_language_has_its_own_doubts() -> None:
    english = neutral(40, 7)
    french = english.head(5).assign(language="fr")
    copied = pd.concat([french, french.head(1).assign(item="99")])
    found = audit.doubts(pd.concat([english, copied]), bare(length={"auc_weak": 0.7, "auc_weak_low": 0.65}))
    assert list(found) == ["en", "fr"]
    assert [said.split(" tells ")[0] for said in found["en"]] == ["Without any model, length"]
    assert [said.split(" ")[0] for said in found["fr"]] == ["6", "Sentences"]
