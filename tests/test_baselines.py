"""Baselines without a model against scikit-learn, a count by hand, and what they must not depend on."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from helpers import baselines, scores
from helpers.scenarios import CANDIDATES, COLUMNS, read


def table(*items: tuple[str, str, str, str], language: str = "en") -> pd.DataFrame:
    rows = [(language, "s", str(number), *texts, "own") for number, texts in enumerate(items, 1)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


# "it rains" stands three times, but weights are those of each text once
SMALL = table(
    ("The cat sat", "a cat sat down", "the dog ran", "it rains"),
    ("it rains", "rain falls on the cat", "the cat sat still", "dogs"),
    ("a dog ran", "the dog ran off", "it rains", "cats sat"),
)


def similarities(found: pd.DataFrame, kind: str, candidate: str) -> np.ndarray:
    return found.query("pooling == @kind and candidate == @candidate")["cosine"].to_numpy()


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    return baselines.score(SMALL, str.split)


def test_the_table_is_one_of_scores(found: pd.DataFrame) -> None:
    assert found.columns.tolist() == scores.COLUMNS
    assert len(found) == 4 * 3 * 3
    assert not found.duplicated(["pooling", "scenario", "item", "candidate"]).any()
    assert set(found["model"]) == {baselines.NO_MODEL}
    kinds = [baselines.CHARACTERS, baselines.WORDS, baselines.LENGTH, baselines.RANDOM]
    summary = scores.summary(found)
    assert summary["pooling"].tolist() == kinds
    assert summary["items"].tolist() == [3] * 4
    assert summary["auc"].between(0, 1).all()


@pytest.mark.parametrize(
    ("kind", "vectorizer"),
    [
        (baselines.CHARACTERS, TfidfVectorizer(analyzer="char", ngram_range=(1, 3))),
        (baselines.WORDS, TfidfVectorizer(token_pattern=r"\S+")),
    ],
)
@pytest.mark.parametrize("language", ["zh", "en"])
def test_tfidf_is_that_of_scikit_learn(kind: str, vectorizer: TfidfVectorizer, language: str) -> None:
    rows = SMALL if language == "en" else read().query("language == 'zh' and source == 'article'")
    texts = sorted({*rows["query"], *rows["strong"], *rows["weak"], *rows["unrelated"]})
    vectorizer.fit(texts)
    found = baselines.score(rows, str.split)
    for candidate in CANDIDATES:
        pairs = cosine_similarity(vectorizer.transform(rows["query"]), vectorizer.transform(rows[candidate]))
        np.testing.assert_allclose(similarities(found, kind, candidate), pairs.diagonal(), atol=1e-6)


def test_shared_words_by_hand(found: pd.DataFrame) -> None:
    texts = [text.lower().split() for text in scores.texts_of(SMALL)]
    assert len(texts) == 10  # of twelve
    weight = {
        word: np.log(11 / (1 + times)) + 1 for word, times in Counter(sum(map(sorted, map(set, texts)), [])).items()
    }

    def cosine(first: str, second: str) -> float:
        left, right = ({word: weight[word] for word in text.lower().split()} for text in (first, second))
        lengths = [sum(value**2 for value in side.values()) ** 0.5 for side in (left, right)]
        return sum(left[word] * right[word] for word in left.keys() & right.keys()) / np.prod(lengths)

    assert weight["cat"] != weight["it"]
    for candidate in CANDIDATES:
        expected = [cosine(*pair) for pair in zip(SMALL["query"], SMALL[candidate], strict=True)]
        np.testing.assert_allclose(similarities(found, baselines.WORDS, candidate), expected, atol=1e-6)


def test_words_are_those_of_the_callers_tokenizer() -> None:
    rows = table(("我饿了", "我饱了", "他睡了", "天很蓝"), language="zh")
    assert similarities(baselines.score(rows, str.split), baselines.WORDS, "strong").tolist() == [0]
    assert similarities(baselines.score(rows, list), baselines.WORDS, "strong")[0] > 0.3


def test_length_by_hand() -> None:
    rows = table(("four", "five", "eight888", "by"), ("seven77", "one", "seven78", "seven77, twice"))
    found = baselines.score(rows, list)
    assert similarities(found, baselines.LENGTH, "strong") == pytest.approx([0, -np.log(7 / 3)], abs=1e-6)
    assert similarities(found, baselines.LENGTH, "weak") == pytest.approx([-np.log(2), 0], abs=1e-6)
    assert similarities(found, baselines.LENGTH, "unrelated") == pytest.approx([-np.log(2), -np.log(2)], abs=1e-6)


def test_random_is_seeded_and_knows_no_text(found: pd.DataFrame) -> None:
    others = SMALL.assign(query=["x", "yy", "zzz"], strong=["1", "2", "3"])

    def drawn(rows: pd.DataFrame, seed: int) -> list[float]:
        return baselines.score(rows, str.split, seed).query("pooling == @baselines.RANDOM")["cosine"].tolist()

    assert drawn(others, 0) == drawn(SMALL, 0) == found.query("pooling == @baselines.RANDOM")["cosine"].tolist()
    assert drawn(SMALL, 1) != drawn(SMALL, 0)
    assert len(set(drawn(SMALL, 0))) == 9


def test_random_is_at_chance() -> None:
    many = pd.concat([SMALL] * 300, ignore_index=True)
    many["item"] = many.index.astype(str)
    random = baselines.score(many, str.split).query("pooling == @baselines.RANDOM")
    strong, weak, unrelated = (random.loc[random["candidate"] == candidate, "cosine"] for candidate in CANDIDATES)
    for negative in (weak, unrelated):  # 900 pairs: an AUC is seldom off by three times 0.014
        assert scores.auc(strong.to_numpy(), negative.to_numpy()) == pytest.approx(0.5, abs=0.045)


def test_languages_do_not_share_their_weights() -> None:
    french = table(
        ("la pluie", "il pleut", "the cat", "le chat sat"), ("it sat", "a cat", "la mer", "the sat"), language="fr"
    )
    both = baselines.score(pd.concat([french, SMALL]), str.split)
    for rows in (SMALL, french):
        alone = baselines.score(rows, str.split)
        kept = both[both["language"].isin(rows["language"])].reset_index(drop=True)
        fixed = alone["pooling"] != baselines.RANDOM
        pd.testing.assert_frame_equal(kept[fixed], alone[fixed])
    together = baselines.score(pd.concat([french.assign(language="en", scenario="t"), SMALL]), str.split)
    kept = together.query("scenario == 's' and pooling == @baselines.WORDS and candidate == 'strong'")["cosine"]
    alone = similarities(baselines.score(SMALL, str.split), baselines.WORDS, "strong")
    assert np.abs(kept.to_numpy() - alone).max() > 0.01  # in one language they would
