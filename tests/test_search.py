"""Search by meaning: the vectors and hits are sentence-transformers' own, what is shown beside them adds up."""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import semantic_search

from helpers import encode, models, search, thresholds
from helpers.calibration import calibrator
from helpers.lines import SearchError
from helpers.pooling import POOLINGS
from helpers.search import KnowledgeBase, Plane, build, explain, is_mixed, language_of, meaning

Embedded = Callable[[str], SentenceTransformer]

LINES = [
    "Fruit is good for your health, and so is a long walk in the evening air by the river.",
    "肚子咕咕叫",
    "I want to eat something.",
    "苹果是一种常见的水果，营养丰富，深受人们的喜爱。",
    "x",
    "The stock market fell sharply.",
    "我今天买了香蕉和橘子",
    "🙂 ＡＢＣ 42",
]
QUERY = "我饿了, hungry"


@pytest.fixture(scope="module")
def bases(embedded: Embedded) -> dict[str, KnowledgeBase]:
    """A base of the lines under each of two encoders, one with prompts for queries and one without."""
    return {name: build(embedded(name), LINES) for name in ("e5-small", "minilm")}


def by_hand(vectors: np.ndarray) -> KnowledgeBase:
    """A base with these vectors `(N, dim)` as those of one pooling."""
    base = object.__new__(KnowledgeBase)
    base.lines = [f"line {row}" for row in range(len(vectors))]
    norms = np.linalg.norm(vectors, axis=1)
    base.unit, base.norms = {"mean": vectors / norms[:, None]}, {"mean": norms}
    return base


# --- the knowledge base -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["e5-small", "minilm"])
def test_hits_are_those_of_sentence_transformers_for_the_models_own_pooling(
    embedded: Embedded, bases: dict[str, KnowledgeBase], name: str
) -> None:
    model, base = embedded(name), bases[name]
    query = base.embed_query(QUERY)["mean"]
    theirs = semantic_search(model.encode_query(QUERY), model.encode_document(LINES), top_k=5)[0]
    ours = base.search(query, "mean", 5)
    assert [hit.row for hit in ours] == [hit["corpus_id"] for hit in theirs]
    assert [hit.line for hit in ours] == [LINES[hit.row] for hit in ours]
    np.testing.assert_allclose([hit.cosine for hit in ours], [hit["score"] for hit in theirs], atol=1e-5)
    np.testing.assert_allclose(query / np.linalg.norm(query), model.encode_query(QUERY), atol=1e-5)
    np.testing.assert_allclose(base.unit["mean"], model.encode_document(LINES), atol=1e-5)


def test_a_document_prompt_stands_before_the_lines_alone(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    model = embedded("e5-small")
    monkeypatch.setattr(model, "prompts", {"query": "ask: ", "document": "tell: "})
    base = build(model, LINES[:3], ("cls",))
    told = encode.embed(model, [f"tell: {line}" for line in LINES[:3]], ("cls",))["cls"]
    np.testing.assert_allclose(base.unit["cls"], told, atol=1e-5)
    asked = encode.embed(model, ["ask: food"], ("cls",), normalize=False)["cls"][0]
    np.testing.assert_allclose(base.embed_query("food")["cls"], asked, atol=1e-4)


@pytest.mark.parametrize("pooling", list(POOLINGS))
@pytest.mark.parametrize("normalize", [True, False])
def test_every_pooling_is_searched_as_a_loop_would(
    embedded: Embedded, bases: dict[str, KnowledgeBase], pooling: str, normalize: bool
) -> None:
    model, base = embedded("minilm"), bases["minilm"]
    asked = encode.embed(model, [QUERY], (pooling,), normalize=False)[pooling][0].astype(float)
    found = []
    for row, line in enumerate(LINES):
        vector = encode.embed(model, [line], (pooling,), normalize=False)[pooling][0].astype(float)
        dot = sum(a * b for a, b in zip(asked, vector, strict=True))
        cosine = dot / (sum(asked**2) ** 0.5 * sum(vector**2) ** 0.5)
        found.append((cosine if normalize else dot, cosine, row))
    found.sort(reverse=True)
    hits = base.search(base.embed_query(QUERY)[pooling], pooling, len(LINES), normalize)
    assert [hit.row for hit in hits] == [row for _, _, row in found]
    np.testing.assert_allclose([hit.score for hit in hits], [score for score, _, _ in found], rtol=1e-4)
    np.testing.assert_allclose([hit.cosine for hit in hits], [cosine for _, cosine, _ in found], atol=1e-5)


def test_rows_stay_in_order_though_pieces_are_sorted_by_length(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, pieces = embedded("minilm"), []
    lines = [f"{'word ' * (7 * row % 60)}{row}" for row in range(200)]
    embed = encode.embed
    monkeypatch.setattr(
        encode, "embed", lambda model, some, *more, **how: pieces.append(some) or embed(model, some, *more, **how)
    )
    base = KnowledgeBase(model, lines, ("mean", "max"))
    steps = list(base.embed())
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert steps[-1] == 200
    assert sorted(line for piece in pieces for line in piece) == sorted(lines)
    sizes = [[len(ids) for ids in model.tokenizer(piece)["input_ids"]] for piece in pieces]
    assert all(len(some) * max(some) <= search.PIECE_TOKENS for some in sizes)
    assert len(pieces) < 20
    expected = embed(model, lines, ("mean", "max"))
    for pooling, array in expected.items():
        np.testing.assert_allclose(base.unit[pooling], array, atol=1e-5)
        raw = embed(model, lines[:5], (pooling,), normalize=False)[pooling]
        np.testing.assert_allclose(base.norms[pooling][:5], np.linalg.norm(raw, axis=1), rtol=1e-5)


def test_what_is_stopped_half_way_cannot_be_searched(embedded: Embedded) -> None:
    base = KnowledgeBase(embedded("minilm"), [f"{'word ' * 50}{row}" for row in range(50)], ("mean",))
    query = base.embed_query("word")["mean"]
    with pytest.raises(RuntimeError, match="embed"):
        base.search(query, "mean", 3)
    steps = base.embed()
    assert [next(steps) for _ in range(2)][0] == 0
    steps.close()
    assert (base.unit, base.norms, base.lost) == ({}, {}, {})
    with pytest.raises(RuntimeError, match="embed"):
        base.search(query, "mean", 3)
    assert list(base.embed())[-1] == 50  # it starts anew
    assert len(base.search(query, "mean", 3)) == 3
    with pytest.raises(RuntimeError, match="cls"):
        base.search(query, "cls", 3)


@pytest.mark.parametrize(("name", "limit"), [("minilm", 256), ("e5-small", 512)])
def test_lost_tokens_are_those_beyond_the_limit(embedded: Embedded, name: str, limit: int) -> None:
    model = embedded(name)
    assert model.max_seq_length == limit
    prompt = model.prompts["document"]
    room = limit - len(model.tokenizer(f"{prompt}word")["input_ids"]) + 1
    lines = ["short", "饿" * 900, *(" ".join(["word"] * count) for count in (room, room + 1, 1000))]
    base = build(model, lines, ("cls",))
    whole = [len(model.tokenizer(prompt + line, verbose=False)["input_ids"]) for line in lines]
    assert whole[2] == limit
    assert base.lost == {row: count - limit for row, count in enumerate(whole) if count > limit}
    assert set(base.lost) == {1, 3, 4}
    assert base.lost[3] == 1


def test_the_prompt_takes_its_share_of_the_limit(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    model = embedded("minilm")
    monkeypatch.setattr(model, "prompts", {"query": "", "document": "one two three "})
    assert build(model, ["word " * 254], ("cls",)).lost == {0: 3}


def test_more_hits_than_lines_are_all_lines(bases: dict[str, KnowledgeBase]) -> None:
    base = bases["minilm"]
    hits = base.search(base.embed_query("fruit")["mean"], "mean", 50)
    assert sorted(hit.row for hit in hits) == list(range(len(LINES)))
    assert all(isinstance(value, float) for hit in hits for value in (hit.cosine, hit.score))


def test_without_normalizing_long_vectors_come_first_and_the_cosine_stays() -> None:
    base = by_hand(np.array([[1, 0], [6, 6], [0, 2]], np.float32))
    query = np.array([2, 0], np.float32)
    near = base.search(query, "mean", 3)
    assert [(hit.row, round(hit.score, 4)) for hit in near] == [(0, 1.0), (1, 0.7071), (2, 0.0)]
    large = base.search(query, "mean", 3, normalize=False)
    assert [(hit.row, round(hit.score, 4)) for hit in large] == [(1, 12.0), (0, 2.0), (2, 0.0)]
    assert {hit.row: round(hit.cosine, 4) for hit in large} == {hit.row: round(hit.cosine, 4) for hit in near}


@pytest.mark.parametrize("normalize", [True, False])
def test_a_hundred_thousand_lines_are_searched_in_less_than_a_tenth_of_a_second(normalize: bool) -> None:
    vectors = np.random.default_rng(0).normal(size=(100_000, 384)).astype(np.float32)
    base, seconds = by_hand(vectors), []
    for _ in range(5):
        start = time.perf_counter()
        hits = base.search(3 * vectors[77_777], "mean", 50, normalize)
        seconds.append(time.perf_counter() - start)
    assert hits[0].row == 77_777
    assert hits[0].cosine == pytest.approx(1, abs=1e-5)
    assert len(hits) == 50
    assert min(seconds) < 0.1


@pytest.mark.parametrize("query", ["", "   ", "\t\n", "\u3000", "？！", "---", "1.", "🤖", "\0", "\ud83e"])
def test_a_query_that_says_nothing_is_refused(bases: dict[str, KnowledgeBase], query: str) -> None:
    with pytest.raises(SearchError) as caught:
        bases["minilm"].embed_query(query)
    assert caught.value.key == "query"


def test_a_query_that_would_be_cut_is_refused(bases: dict[str, KnowledgeBase]) -> None:
    base = bases["minilm"]
    base.embed_query("word " * 254)
    with pytest.raises(SearchError) as caught:
        base.embed_query("word " * 255)
    assert (caught.value.key, caught.value.values) == ("query_cut", {"tokens": 257, "limit": 256})
    with pytest.raises(SearchError) as caught:
        base.embed_query("x" * 20_001)
    assert (caught.value.key, caught.value.values["limit"]) == ("query_long", 20_000)


def test_odd_characters_in_a_query_do_no_harm(bases: dict[str, KnowledgeBase]) -> None:
    base = bases["e5-small"]
    np.testing.assert_array_equal(base.embed_query(" a\0b\x1b ")["cls"], base.embed_query("a b")["cls"])
    assert np.isfinite(base.embed_query("half \ud83e of it")["mean"]).all()


def test_what_does_not_fit_into_memory_is_refused(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "free_memory", lambda device: 10_000_000)
    KnowledgeBase(embedded("minilm"), ["a"] * 100)
    with pytest.raises(SearchError) as caught:
        KnowledgeBase(embedded("minilm"), ["a"] * 1000)
    assert caught.value.values == {"needed": "17 MB", "free": "10 MB"}  # 9 arrays of 1000 × 384 × 4 bytes, and room
    KnowledgeBase(embedded("minilm"), ["a"] * 1000, ("mean",))


def test_a_line_in_which_the_model_finds_no_token_is_told(embedded: Embedded) -> None:
    with pytest.raises(SearchError) as caught:
        build(embedded("minilm"), ["fine", "\u200b" * 100])
    assert caught.value.key == "no_tokens"
    assert (caught.value.values["row"], len(caught.value.values["line"])) == (2, search.SHOWN)


def test_an_unknown_pooling_is_refused_at_once(embedded: Embedded) -> None:
    with pytest.raises(ValueError, match="median"):
        KnowledgeBase(embedded("minilm"), ["a"], ("median",))


# --- why ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["e5-small", "minilm"])
@pytest.mark.parametrize("row", [0, 1, 3, 7])
def test_contributions_add_up_to_the_cosine_for_both_texts(
    embedded: Embedded, bases: dict[str, KnowledgeBase], name: str, row: int
) -> None:
    base = bases[name]
    hits = base.search(base.embed_query(QUERY)["mean"], "mean", len(LINES))
    cosine = next(hit.cosine for hit in hits if hit.row == row)
    table = explain(embedded(name), QUERY, LINES[row])
    assert list(table.columns) == ["text", "token", "contribution"]
    sums = table.groupby("text", sort=False)["contribution"].sum()
    assert list(sums.index) == ["query", "line"]
    np.testing.assert_allclose(sums, cosine, atol=1e-5)


def test_beyond_the_average_line_adds_up_to_what_the_cosine_has_more(
    embedded: Embedded, bases: dict[str, KnowledgeBase]
) -> None:
    base = bases["e5-small"]
    asked = base.embed_query(QUERY)["mean"]
    cosines = base.unit["mean"] @ asked / np.linalg.norm(asked)
    table = explain(embedded("e5-small"), QUERY, LINES[3], base.unit["mean"].mean(axis=0))
    sums = table.groupby("text")[["contribution", "beyond"]].sum()
    assert sums.at["query", "contribution"] == pytest.approx(cosines[3], abs=1e-5)
    assert sums.at["query", "beyond"] == pytest.approx(cosines[3] - cosines.mean(), abs=1e-5)
    to_others = base.unit["mean"] @ base.unit["mean"][3]
    assert sums.at["line", "beyond"] == pytest.approx(cosines[3] - to_others.mean(), abs=1e-5)


def tokens(table: pd.DataFrame, text: str) -> list[str]:
    return list(table.loc[table["text"] == text, "token"])


def test_tokens_can_be_read_and_special_ones_have_their_names(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = explain(embedded("minilm"), "Is it raining?", "肚子 unbelievably")
    assert tokens(table, "query") == ["[CLS]", "Is", "it", "raining", "?", "[SEP]"]
    assert tokens(table, "line")[0] == "[CLS]"
    assert tokens(table, "line")[1:3] == ["肚", "子"]
    table = explain(embedded("e5-small"), "我饿了", "肚子咕咕叫龘")
    assert tokens(table, "query") == ["<s>", "que", "ry", ":", "我", "饿", "了", "</s>"]
    assert tokens(table, "line") == ["<s>", "passage", ":", "␣", "肚子", "咕", "咕", "叫", "龘", "</s>"]
    monkeypatch.setattr(embedded("e5-small"), "prompts", {})
    table = explain(embedded("e5-small"), "我饿了", "肚子咕咕叫龘")
    assert tokens(table, "line") == ["<s>", "␣", "肚子", "咕", "咕", "叫", "龘", "</s>"]


def test_the_bytes_of_one_character_are_numbered(embedded: Embedded) -> None:
    table = explain(embedded("tiny-qwen3"), "龘", "咕咕 ok 龘")
    assert tokens(table, "line") == ["咕", "咕", "ok", "龘 1/3", "龘 2/3", "龘 3/3", "<|endoftext|>"]
    assert not set("ĠĊé") & set("".join(table["token"]))


def test_a_token_that_does_not_point_to_the_other_text_contributes_less_than_one_that_does(embedded: Embedded) -> None:
    table = explain(embedded("minilm"), "banana", "stock market banana").set_index(["text", "token"])["contribution"]
    assert table["line", "banana"] > table["line", "stock"]


def test_a_line_beyond_the_limit_is_explained_as_it_is_read(embedded: Embedded) -> None:
    model = embedded("minilm")
    table = explain(model, "word", "word " * 1000)
    assert len(tokens(table, "line")) == model.max_seq_length


def test_a_prompt_that_is_not_pooled_is_not_explained(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    model = embedded("e5-small")
    monkeypatch.setattr(model[1], "include_prompt", False)
    table = explain(model, "我饿了", "肚子")
    assert "que" not in tokens(table, "query")
    assert tokens(table, "query")[-3:] == ["饿", "了", "</s>"]
    base = build(model, ["肚子"], ("mean",))
    cosine = base.search(base.embed_query("我饿了")["mean"], "mean", 1)[0].cosine
    np.testing.assert_allclose(table.groupby("text")["contribution"].sum(), cosine, atol=1e-5)


# --- the map ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 300])
def test_a_map_has_a_point_for_each_line_and_the_query(count: int) -> None:
    generator = np.random.default_rng(0)
    vectors, query = generator.normal(size=(count, 384)).astype(np.float32), generator.normal(size=384)
    plane = Plane(vectors)
    asked = plane.place(query[None])
    assert plane.points.shape == (count, 2)
    assert asked.shape == (1, 2)
    assert np.isfinite(plane.points).all()
    assert np.isfinite(asked).all()
    assert plane.explained == pytest.approx(1) if count <= 3 else 0 < plane.explained < 0.1
    np.testing.assert_allclose(plane.points.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_array_equal(plane.points, Plane(vectors).points)


def test_a_map_shows_the_plane_and_puts_the_query_onto_it() -> None:
    grid = np.array([[x, y] for x in (-4.0, 0, 4) for y in (-1.0, 0, 1)])
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0][:2]
    plane = Plane(grid @ turn + 7)
    assert plane.explained == pytest.approx(1)
    np.testing.assert_allclose(abs(plane.points), abs(grid), atol=1e-6)
    np.testing.assert_allclose(plane.place((np.array([4.0, 1]) @ turn + 7)[None])[0], plane.points[-1], atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 50])
def test_a_map_of_equal_vectors_shows_how_far_the_query_is(count: int) -> None:
    plane = Plane(np.full((count, 4), 0.5, np.float32))
    np.testing.assert_array_equal(plane.points, np.zeros((count, 2)))
    assert plane.place(np.array([[0.5, 0.5, 0.5, 2.5]])).tolist() == [[2.0, 0.0]]
    assert plane.explained == 1


# --- the language, and what a cosine means ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "language"),
    [
        (["我饿了", "肚子咕咕叫"], "zh"),
        (["I am hungry", "The sky is blue"], "en"),
        (["请用 Python 写 API 文档", "把 README 更新一下"], "zh"),
        (["The word 饿 means hungry", "Fruit"], "en"),
        (["Où êtes-vous ?", "42", "🙂"], "en"),
        (["42", "---"], "en"),
        ([], "en"),
        (["我饿了"] * 50_000 + ["I am hungry"], "zh"),
    ],
)
def test_the_language_is_told_by_its_characters(lines: list[str], language: str) -> None:
    assert language_of(lines) == language


@pytest.mark.parametrize(
    ("lines", "mixed"),
    [
        (["我饿了", "I am hungry"], True),
        (["我饿了"] * 4 + ["I am hungry"], True),
        (["我饿了"] * 9 + ["I am hungry"], False),
        (["我饿了"], False),
        (["I am hungry", "42"], False),
        ([], False),
        (["我饿了"] * 50_000 + ["I am hungry"] * 50_000, True),
    ],
)
def test_two_languages_are_seen_where_each_has_a_good_share(lines: list[str], mixed: bool) -> None:
    assert is_mixed(lines) == mixed


@pytest.fixture(scope="module")
def table(embedded: Embedded) -> pd.DataFrame:
    """The scores of 80 items."""
    items = search.labelled("en").groupby("scenario").head(10)
    return search.score(embedded("minilm"), "minilm", items)


def test_items_come_in_one_language() -> None:
    for language in ("zh", "en"):
        items = search.labelled(language)
        assert set(items["language"]) == {language}
        assert len(items) >= 300


def test_scores_hold_every_pooling(table: pd.DataFrame) -> None:
    assert list(table["pooling"].unique()) == list(POOLINGS)


@pytest.mark.parametrize("pooling", ["mean", "mean_content"])
def test_a_threshold_is_the_one_that_thresholds_choose(table: pd.DataFrame, pooling: str) -> None:
    found = meaning(table, pooling)
    pairs = thresholds.pairs(table[table["pooling"] == pooling])
    assert found.threshold == thresholds.choose(pairs["cosine"], pairs["positive"], precision=0.9)
    assert found.low <= found.threshold <= found.high
    assert found.low < found.high
    assert (found.pooling, found.language, found.items, found.note) == (pooling, "en", 80, "")
    assert found.precision(2) == pytest.approx(found.strong / (found.strong + found.unrelated))
    odds = found.strong / (99 * found.unrelated)
    assert found.precision(100) == pytest.approx(odds / (1 + odds))
    cosines = np.linspace(-1, 1, 101)
    shares = found.probability(cosines)
    assert (np.diff(shares) >= 0).all()
    assert ((shares > 0) & (shares < 1)).all()
    assert shares[0] < 0.1
    assert shares[-1] > 0.9
    np.testing.assert_array_equal(shares, calibrator(pairs["cosine"], pairs["positive"])(cosines))


def test_where_no_threshold_keeps_the_promise_a_note_says_so(table: pd.DataFrame) -> None:
    luck = np.random.default_rng(0).uniform(size=len(table)).round(6)
    found = meaning(table.assign(cosine=luck), "mean")
    assert (found.threshold, found.low, found.high) == (None, None, None)
    assert "0.9" in found.note
    assert found.precision(100) is None
    assert found.probability([0.5])[0] == pytest.approx(0.5, abs=0.15)


def test_a_meaning_is_that_of_one_model_and_language(table: pd.DataFrame) -> None:
    for wrong in (pd.concat([table, table.assign(language="zh")]), pd.concat([table, table.assign(model="other")])):
        with pytest.raises(ValueError, match="one model and language"):
            meaning(wrong, "mean")
    with pytest.raises(ValueError, match="'median'"):
        meaning(table, "median")
