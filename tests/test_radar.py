"""The kernel's side of the radar: what the page asks for, what it is shown, and that nothing goes wrong unsaid."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from helpers import encode, lines, radar, search
from helpers.models import EMBEDDED, load
from helpers.pooling import POOLINGS
from helpers.radar import Radar
from helpers.samples import samples

MANY = "\n".join(f"Sentence number {row} says something." for row in range(3000)).encode()
SHOWN = (
    "labels",
    "limits",
    "models",
    "samples",
    "poolings",
    "model",
    "settings",
    "status",
    "base",
    "found",
    "why",
    "problem",
)
FRUIT = next(one for one in samples() if (one.name, one.language) == ("fruit", "en"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, embedded: Callable[[str], SentenceTransformer]) -> None:
    """Embedded models load once for all tests, and a calibration takes a few items."""
    monkeypatch.setattr(radar, "load", lambda name: embedded(name) if name in EMBEDDED else load(name))
    labelled = search.labelled
    monkeypatch.setattr(search, "labelled", lambda language: labelled(language).groupby("scenario").head(3))


def send(page: Radar, do: str, *buffers: bytes, **asked: Any) -> None:
    page._handle_custom_msg({"do": do, **asked}, [memoryview(one) for one in buffers])


async def settled(page: Radar) -> None:
    await asyncio.sleep(0.01)  # messages take effect in the loop's next turn
    while page._tasks:
        await asyncio.gather(*page._tasks)


def on_page(scene: Callable[[Radar], Awaitable[None]], opened: bool = True) -> None:
    """Runs a scene on a page that shows the fruit example."""

    async def play() -> None:
        page = Radar("minilm")
        if opened:
            send(page, "open", language="en")
            await settled(page)
        await scene(page)

    asyncio.run(asyncio.wait_for(play(), 300))


def upload(page: Radar, name: str, data: bytes, size: int = 2**20) -> None:
    parts = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
    for part, piece in enumerate(parts):
        send(page, "part", piece, kind="file", name=name, part=part, parts=len(parts))


async def under_way(page: Radar) -> None:
    await asyncio.sleep(0.01)
    while not (page.progress and page.progress["done"]):
        assert page._tasks, page.problem
        await asyncio.sleep(0.01)


def everything(page: Radar) -> str:
    """Returns all that the page shows, as JSON, which knows no NaN."""
    return json.dumps({name: getattr(page, name) for name in SHOWN}, allow_nan=False, sort_keys=True)


def test_opening_shows_what_it_does_and_a_first_result() -> None:
    told = []

    async def scene(page: Radar) -> None:
        page.observe(lambda change: told.append(change["new"]["key"]), "status")
        send(page, "open", language="en")
        await settled(page)
        assert [*dict.fromkeys(told)] == ["embedding", "calibrating", "ready"]
        assert page.status["values"] == {"lines": len(FRUIT.lines), "dim": 384, "model": "minilm", "device": "cpu"}
        assert page.base["lines"] == len(FRUIT.lines)
        assert page.poolings == list(POOLINGS)
        assert page.found["query"] == FRUIT.query
        assert len(page.found["left"]["hits"]) == 10
        assert page.found["left"]["meaning"]["items"] == 24
        assert not page.busy
        assert page.problem is page.progress is None
        everything(page)

    on_page(scene, opened=False)


def test_the_hits_are_those_of_an_independent_search() -> None:
    async def scene(page: Radar) -> None:
        model = radar.load("minilm")
        stored = model.encode(list(FRUIT.lines), normalize_embeddings=True)
        cosines = stored @ model.encode(FRUIT.query, normalize_embeddings=True)
        hits = page.found["left"]["hits"]
        assert [FRUIT.lines[row] for row in np.argsort(-cosines)[:10]] == [hit["line"] for hit in hits]
        assert [hit["cosine"] for hit in hits] == pytest.approx(np.sort(cosines)[::-1][:10], abs=1e-5)

    on_page(scene)


def test_settings_embed_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(page: Radar) -> None:
        monkeypatch.setattr(encode, "embed", None)
        for change in ({"left": "max"}, {"right": ""}, {"normalize": False}, {"top_k": 3}, {"threshold": 0.2}):
            page.settings = page.settings | change
            await settled(page)
        assert page.problem is None
        assert page.found["left"]["pooling"] == "max"
        assert page.found["right"] is None
        assert len(page.found["left"]["hits"]) == 3
        scores = [hit["score"] for hit in page.found["left"]["hits"]]
        assert scores == sorted(scores, reverse=True)
        assert scores != [hit["cosine"] for hit in page.found["left"]["hits"]]

    on_page(scene)


def test_a_file_arrives_in_parts() -> None:
    async def scene(page: Radar) -> None:
        upload(page, "notes.txt", "Cats purr.\n\n---\nDogs bark.\nCats purr.\n".encode("utf-8-sig"), size=7)
        await settled(page)
        base = page.base
        assert (base["lines"], base["blank"], base["symbols"], base["repeated"]) == (2, 1, 1, 1)
        assert base["source"] == {"kind": "file", "name": "notes.txt"}
        assert {hit["line"] for hit in page.found["left"]["hits"]} == {"Cats purr.", "Dogs bark."}

    on_page(scene)


def test_a_table_asks_for_its_column() -> None:
    async def scene(page: Radar) -> None:
        before = page.base
        upload(page, "notes.csv", b"id,note\n1,Cats purr.\n2,Dogs bark.\n")
        await settled(page)
        assert page.table == {
            "name": "notes.csv",
            "columns": ["id", "note"],
            "preview": [["1", "Cats purr."], ["2", "Dogs bark."]],
            "rows": 3,
        }
        assert page.base == before
        send(page, "column", index=1, header=True)
        await settled(page)
        assert page.table is None
        assert page.base["lines"] == 2

    on_page(scene)


@pytest.mark.parametrize(
    ("name", "data", "key"),
    [
        ("notes.txt", b"a\0b", "binary"),
        ("notes.txt", b"", "empty_file"),
        ("notes.txt", b"\n \n---\n", "empty"),
        ("notes.csv", b"a,b\n1,2,3\n", "ragged"),
        ("notes.txt", b"word " * 2_000_000, "long_line"),
        ("<script>alert(1)</script>.txt", b"\xff\xd8\xff\xe0\0", "binary"),
    ],
)
def test_a_bad_file_gets_one_message_and_changes_nothing(name: str, data: bytes, key: str) -> None:
    async def scene(page: Radar) -> None:
        before = everything(page)
        upload(page, name, data)
        await settled(page)
        assert page.problem["key"] == key
        assert key in lines.MESSAGES
        assert "{" not in lines.MESSAGES[key].format(**page.problem["values"])
        page.problem = None
        assert everything(page) == before

    on_page(scene)


def test_too_much_is_refused_before_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(page: Radar) -> None:
        monkeypatch.setattr(lines, "FILE_BYTES", 100)
        for part in range(3):
            send(page, "part", b"x" * 60, kind="file", name="big.txt", part=part, parts=3)
        await settled(page)
        assert page.problem["key"] == "too_large"
        assert sum(map(len, page._parts)) <= 100
        assert page.base["source"]["kind"] == "sample"

    on_page(scene)


@pytest.mark.parametrize("query", ["", "   ", "？！", "\0"])
def test_a_query_that_says_nothing_is_refused(query: str) -> None:
    async def scene(page: Radar) -> None:
        before = page.found
        send(page, "search", query=query)
        await settled(page)
        assert page.problem["key"] == "query"
        assert page.found == before

    on_page(scene)


def test_there_is_nothing_to_search_without_a_knowledge_base() -> None:
    async def scene(page: Radar) -> None:
        send(page, "search", query="cats")
        await settled(page)
        assert page.problem["key"] == "no_base"
        assert page.found is None

    on_page(scene, opened=False)


def test_stopping_keeps_the_knowledge_base_of_before() -> None:
    async def scene(page: Radar) -> None:
        before = everything(page)
        upload(page, "long.txt", MANY)
        await under_way(page)
        assert page.busy
        send(page, "stop")
        await settled(page)
        assert everything(page) == before
        assert not page.busy
        assert page.progress is None

    on_page(scene)


def test_a_search_slips_in_while_another_knowledge_base_is_made() -> None:
    async def scene(page: Radar) -> None:
        upload(page, "long.txt", MANY)
        await under_way(page)
        send(page, "search", query="something round and sweet")
        while page.found["query"] == FRUIT.query:
            await asyncio.sleep(0.01)
        assert page.busy
        assert page.base["lines"] == len(FRUIT.lines)
        assert page.found["left"]["hits"][0]["line"] in FRUIT.lines
        send(page, "stop")
        await settled(page)

    on_page(scene)


def test_a_newer_job_ends_an_older_one() -> None:
    async def scene(page: Radar) -> None:
        upload(page, "long.txt", MANY)
        await under_way(page)
        upload(page, "short.txt", b"Cats purr.\nDogs bark.")
        await settled(page)
        assert page.base["source"]["name"] == "short.txt"
        assert page.status["key"] == "ready"
        assert not page.busy

    on_page(scene)


def test_a_model_that_cannot_be_had_leaves_the_last_one() -> None:
    async def scene(page: Radar) -> None:
        before = page.found
        send(page, "model", name="no/such/model")
        await settled(page)
        assert page.problem["key"] == "model"
        assert "no/such/model" in page.problem["values"]["text"]
        assert page.model == "minilm"
        assert page.status["key"] == "ready"
        assert page.found == before

    on_page(scene)


def test_going_back_to_the_model_in_use_stops_the_other() -> None:
    async def scene(page: Radar) -> None:
        send(page, "model", name="tiny-qwen3")
        send(page, "model", name="minilm")
        await settled(page)
        assert page.status["values"]["dim"] == 384
        assert page.model == "minilm"
        assert not page.busy

    on_page(scene)


def test_a_search_that_was_overtaken_asks_the_new_knowledge_base() -> None:
    async def scene(page: Radar) -> None:
        upload(page, "short.txt", b"Cats purr.\nDogs bark.")
        send(page, "search", query="an animal")
        await settled(page)
        assert page.found["query"] == "an animal"
        assert {hit["line"] for hit in page.found["left"]["hits"]} == {"Cats purr.", "Dogs bark."}

    on_page(scene)


def test_a_query_that_the_model_cannot_read_whole_is_refused() -> None:
    async def scene(page: Radar) -> None:
        send(page, "search", query="cat " * 300)  # minilm reads 256 tokens
        await settled(page)
        assert page.problem["key"] == "query_cut"
        assert page.found["query"] == FRUIT.query

    on_page(scene)


def test_another_model_makes_the_same_knowledge_base_anew() -> None:
    async def scene(page: Radar) -> None:
        before = [hit["cosine"] for hit in page.found["left"]["hits"]]
        send(page, "model", name="tiny-qwen3")
        await settled(page)
        assert page.problem is None
        assert page.status["values"]["dim"] == 64
        assert page.found["query"] == FRUIT.query
        assert [hit["cosine"] for hit in page.found["left"]["hits"]] != before

    on_page(scene)


def test_what_nobody_foresaw_is_said_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(page: Radar) -> None:
        monkeypatch.setattr(search, "explain", lambda *_: 1 / 0)
        send(page, "why", side="left", row=0)
        await settled(page)
        assert page.problem == {"key": "unexpected", "values": {"kind": "ZeroDivisionError"}}

    on_page(scene)
    assert "ZeroDivisionError" in caplog.text


def test_why_adds_up_to_the_cosine() -> None:
    async def scene(page: Radar) -> None:
        hit = page.found["left"]["hits"][1]
        send(page, "why", side="left", row=hit["row"])
        await settled(page)
        why = page.why
        assert why["line"] == hit["line"]
        for part in (why["query"], why["text"]):
            assert part["cosine"] == pytest.approx(hit["cosine"], abs=1e-4)
            assert sum(share for _, share, _ in part["tokens"]) == pytest.approx(part["cosine"], abs=1e-4)
            assert sum(beyond for _, _, beyond in part["tokens"]) == pytest.approx(part["beyond"], abs=1e-4)
            assert part["beyond"] < part["cosine"]

    on_page(scene)


def test_the_map_shows_all_hits_and_not_too_many_lines() -> None:
    async def scene(page: Radar) -> None:
        text = "\n".join(f"{first}{second} walks." for first in "ABCDEFGHIJ" for second in range(250))
        upload(page, "many.txt", text.encode())
        await settled(page)
        drawn = {row: [x, y] for x, y, row, _ in page.plane["points"]}
        assert 1000 < len(drawn) <= radar.POINTS
        assert page.plane["pooling"] == "mean"
        pins = dict(zip([hit["row"] for hit in page.found["left"]["hits"]], page.found["pins"], strict=True))
        assert len(pins) == 10
        assert all(pins[row] == pytest.approx(drawn[row], abs=1e-3) for row in pins.keys() & drawn.keys())
        plane = page.plane
        send(page, "search", query="a letter")
        await settled(page)
        assert page.plane == plane, "the same map for every query"

    on_page(scene)


def test_a_query_that_comes_early_waits_for_the_knowledge_base() -> None:
    async def scene(page: Radar) -> None:
        send(page, "open", language="en")
        send(page, "search", query="something sweet")
        await settled(page)
        assert page.problem is None
        assert page.found["query"] == "something sweet"

    on_page(scene, opened=False)


def test_an_early_query_is_answered_also_where_nothing_comes_of_the_knowledge_base() -> None:
    async def scene(page: Radar) -> None:
        send(page, "open", language="en")
        send(page, "search", query="something sweet")
        await asyncio.sleep(0)
        send(page, "stop")
        await settled(page)
        assert page.problem["key"] == "no_base"

    on_page(scene, opened=False)


def test_a_calibration_that_was_stopped_can_be_taken_up_again() -> None:
    async def scene(page: Radar) -> None:
        send(page, "open", language="en")
        while page.status["key"] != "calibrating":
            await asyncio.sleep(0.01)
        send(page, "stop")
        await settled(page)
        assert page.found["left"]["meaning"] is None
        assert page.status["key"] == "ready"
        send(page, "calibrate")
        await settled(page)
        assert page.found["left"]["meaning"]["items"] == 24

    on_page(scene, opened=False)


def test_the_same_query_again_is_a_new_search() -> None:
    async def scene(page: Radar) -> None:
        numbers = [page.found["number"]]
        for query in ("cats", "\ufeffcats\x85", "cats\ud800"):
            send(page, "search", query=query)
            await settled(page)
            numbers.append(page.found["number"])
        assert page.problem is None
        assert numbers == sorted(set(numbers))

    on_page(scene)


def test_a_column_is_used_once() -> None:
    async def scene(page: Radar) -> None:
        upload(page, "notes.csv", b"id,note\n1,Cats purr.\n2,Dogs bark.\n")
        await settled(page)
        for _ in range(2):
            send(page, "column", index=1, header=True)
            await settled(page)
        assert page.problem is None
        assert page.base["lines"] == 2

    on_page(scene)


def test_two_languages_are_said() -> None:
    async def scene(page: Radar) -> None:
        upload(page, "notes.txt", "Cats purr.\n狗会叫。\n".encode())
        await settled(page)
        assert page.base["mixed"]

    on_page(scene)


def test_messages_may_come_in_another_thread_as_they_do_in_jupyterlab() -> None:
    async def scene(page: Radar) -> None:
        def talk() -> None:
            upload(page, "notes.txt", b"Cats purr.\nDogs bark.")
            send(page, "search", query="an animal")
            page.settings = page.settings | {"left": "max"}

        await asyncio.to_thread(lambda: asyncio.run(asyncio.to_thread(talk)))
        await settled(page)
        send(page, "model", name="tiny-qwen3")
        await settled(page)
        assert page.problem is None
        assert page.found["query"] == "an animal"
        assert page.found["left"]["pooling"] == "max"
        assert page.status["values"]["model"] == "tiny-qwen3"

    on_page(scene)


def test_two_pages_do_not_disturb_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radar, "load", load)  # a model for each, as every tab has a kernel of its own

    async def play() -> None:
        first, second = Radar("minilm"), Radar("minilm")
        for page in (first, second):
            send(page, "open", language="en")
        await asyncio.gather(settled(first), settled(second))
        before = everything(second)
        upload(first, "notes.txt", b"Cats purr.\nDogs bark.")
        await settled(first)
        assert first.base["lines"] == 2
        assert everything(second) == before

    asyncio.run(asyncio.wait_for(play(), 300))


def test_another_model_takes_over_the_lines_that_are_being_embedded() -> None:
    async def scene(page: Radar) -> None:
        upload(page, "long.txt", MANY)
        await under_way(page)
        send(page, "model", name="tiny-qwen3")
        await settled(page)
        assert page.base["source"]["name"] == "long.txt"
        assert page.status["values"]["model"] == page.model == "tiny-qwen3"

    on_page(scene)


@pytest.mark.parametrize("data", [b"a\0b", b"id,note\n1,Cats purr.\n"], ids=["a bad file", "a table"])
def test_a_file_that_is_no_knowledge_base_yet_interrupts_nothing(data: bytes) -> None:
    async def scene(page: Radar) -> None:
        send(page, "open", language="en")
        while page.status["key"] != "calibrating":
            await asyncio.sleep(0.01)
        upload(page, "notes.csv", data)
        await settled(page)
        assert page.problem or page.table
        assert page.found["left"]["meaning"]["items"] == 24

    on_page(scene, opened=False)


def test_stop_also_forgets_a_file_that_is_being_read() -> None:
    async def scene(page: Radar) -> None:
        before = everything(page)
        upload(page, "notes.csv", b"id,note\n1,Cats purr.\n")
        send(page, "stop")
        await settled(page)
        assert everything(page) == before

    on_page(scene)


def test_ones_own_text_ends_with_its_last_line() -> None:
    async def scene(page: Radar) -> None:
        send(page, "part", "猫会打呼噜。\n\n狗会叫。\n".encode(), kind="text", name="", part=0, parts=1)
        await settled(page)
        assert (page.base["lines"], page.base["blank"], page.base["language"]) == (2, 1, "zh")
        assert page.base["source"] == {"kind": "text", "name": ""}

    on_page(scene)


def test_the_same_mistake_twice_is_said_twice() -> None:
    async def scene(page: Radar) -> None:
        said = []
        page.observe(lambda change: said.append(change["new"]), "problem")
        for _ in range(2):
            send(page, "search", query=" ")
            await settled(page)
        assert [one and one["key"] for one in said] == ["query", None, "query"]

    on_page(scene)


def test_why_is_not_answered_about_a_query_of_before() -> None:
    async def scene(page: Radar) -> None:
        send(page, "search", query="a warm meal")
        send(page, "why", side="left", row=0)
        await settled(page)
        assert page.found["query"] == "a warm meal"
        assert page.why is None

    on_page(scene)
