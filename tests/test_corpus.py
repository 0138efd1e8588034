"""A corpus that does not fit in memory: the vectors of `embed`, in flat memory, and the same bytes after any kill."""

import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import tracemalloc
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from sentence_transformers import SentenceTransformer

from helpers import corpus, encode
from helpers.corpus import CorpusError, Embedder, embed_corpus
from helpers.encode import TruncationWarning, embed
from helpers.paths import ROOT
from helpers.pooling import POOLINGS as ALL_POOLINGS

WINDOW = 8
TEXTS = [f"text number {number} " * (number % 5 + 1) for number in range(21)]  # the third window is not full
POOLINGS = ("mean", "cls")
Embedded = Callable[[str], SentenceTransformer]


@pytest.fixture
def model(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> SentenceTransformer:
    """MiniLM, with windows so small that a short test has several."""
    monkeypatch.setattr(corpus, "WINDOW", WINDOW)
    monkeypatch.setattr(encode, "WINDOW", WINDOW)
    return embedded("minilm")


@pytest.fixture(scope="module")
def vectors(embedded: Embedded) -> dict[tuple, dict[str, np.ndarray]]:
    """What `embed` gave for a window, so that a test with fifty crashes computes each window once."""
    return {}


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch, vectors: dict[tuple, dict[str, np.ndarray]]) -> list[int]:
    """Has each window computed once for all tests; holds how many texts `embed` was given, call by call."""
    asked = []

    def remember(model: SentenceTransformer, texts: list[str], **arguments: Any) -> dict[str, np.ndarray]:
        key = (tuple(texts), *arguments.items())
        if key not in vectors:
            vectors[key] = embed(model, texts, **arguments)
        asked.append(len(texts))
        return vectors[key]

    monkeypatch.setattr(corpus, "embed", remember)
    monkeypatch.setattr(corpus, "fingerprint", lambda model: "one model")
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # who waits for the disk waits for long
    return asked


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != corpus.LOCK}


def finished(folder: Path) -> None:
    assert sorted(contents(folder)) == ["cls.npy", "mean.npy", "progress.json"]


def test_the_vectors_are_those_of_embed_bit_for_bit(model: SentenceTransformer, tmp_path: Path) -> None:
    made = embed_corpus(model, (text for text in TEXTS), tmp_path / "new/folder", POOLINGS)
    expected = embed(model, TEXTS, POOLINGS)
    assert tuple(made) == POOLINGS
    for pooling in POOLINGS:
        assert isinstance(made[pooling], np.memmap)
        assert not made[pooling].flags.writeable
        np.testing.assert_array_equal(made[pooling], expected[pooling], strict=True)
        np.testing.assert_array_equal(np.load(tmp_path / f"new/folder/{pooling}.npy"), expected[pooling])
    finished(tmp_path / "new/folder")


def test_settings_reach_embed(model: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(model.prompts, "query", "query: ")
    made = embed_corpus(model, TEXTS[:3], tmp_path, ("max",), False, prompt_name="query", dtype="bfloat16")
    expected = embed(model, TEXTS[:3], ("max",), False, prompt="query: ", dtype="bfloat16")
    np.testing.assert_array_equal(made["max"], expected["max"])


@pytest.mark.parametrize("count", [0, WINDOW, WINDOW + 1])
def test_any_number_of_texts_will_do(model: SentenceTransformer, tmp_path: Path, count: int) -> None:
    for _ in range(2):
        made = embed_corpus(model, iter(TEXTS[:count]), tmp_path, POOLINGS)
        assert {vectors.shape for vectors in made.values()} == {(count, 384)}
    finished(tmp_path)


def test_a_finished_folder_is_checked_and_nothing_is_computed(
    model: SentenceTransformer, remembered: list[int], tmp_path: Path
) -> None:
    first = embed_corpus(model, iter(TEXTS), tmp_path, POOLINGS)
    assert [size for size in remembered if size] == [8, 8, 5]
    before = contents(tmp_path)
    remembered.clear()
    again = embed_corpus(model, iter(TEXTS), tmp_path, POOLINGS[::-1])
    assert not any(remembered)
    assert contents(tmp_path) == before
    assert tuple(again) == POOLINGS[::-1]
    np.testing.assert_array_equal(again["cls"], first["cls"])


# A kill


class Crash(BaseException):
    """Ends a run as a kill would: no `except Exception` stops it."""


def crashing(monkeypatch: pytest.MonkeyPatch, at: int, after: bool) -> list[str]:
    """Lets the run crash before or after the step `at`, of all those that reach the disk; returns the steps."""
    steps: list[str] = []

    def watch(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def step(*arguments: Any) -> Any:
            steps.append(name)
            if len(steps) - 1 == at and not after:
                raise Crash
            result = real(*arguments)
            if len(steps) - 1 == at:
                raise Crash
            return result

        monkeypatch.setattr(owner, name, step)

    watch(os, "fsync")
    watch(Path, "replace")
    return steps


def spoil(folder: Path) -> None:
    """Does to a crashed folder what a power cut may: what no journal speaks of is torn, and its bytes are anything."""
    place = folder / corpus.JOURNAL
    journal = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {"rows": 0, "complete": False}
    for path in folder.glob("*.npy.partial") if not journal["complete"] else ():
        whole = path.read_bytes()
        certain = 128 + journal["rows"] * 384 * 4
        torn = (len(whole) - certain) // 2
        path.write_bytes(b"?" * 128 + whole[128:certain] + b"?" * torn)
    (folder / f"{corpus.JOURNAL}.partial").write_text('{"sett', encoding="utf-8")


@pytest.mark.parametrize("power_cut", [False, True])
def test_a_crash_at_any_step_changes_no_byte_of_the_end(
    model: SentenceTransformer, remembered: list[int], tmp_path: Path, power_cut: bool
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        steps = crashing(monkeypatch, -1, after=False)
        embed_corpus(model, iter(TEXTS), tmp_path / "never", POOLINGS)
    expected = contents(tmp_path / "never")
    assert len(steps) > 20
    for at in range(len(steps)):
        for after in (False, True):
            folder = tmp_path / f"{at}{after}"
            with pytest.MonkeyPatch.context() as monkeypatch:
                crashing(monkeypatch, at, after)
                with pytest.raises(Crash):
                    embed_corpus(model, iter(TEXTS), folder, POOLINGS)
            if power_cut:
                spoil(folder)
            remembered.clear()
            embed_corpus(model, iter(TEXTS), folder, POOLINGS)
            if power_cut:
                (folder / f"{corpus.JOURNAL}.partial").unlink(missing_ok=True)
            assert contents(folder) == expected, (at, after)
            computed = [size for size in remembered if size]
            assert computed == [8, 8, 5][3 - len(computed) :]


def test_every_window_that_is_done_is_done_once(
    model: SentenceTransformer, remembered: list[int], tmp_path: Path
) -> None:
    def interrupted() -> Iterator[str]:
        yield from TEXTS[:19]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_corpus(model, interrupted(), tmp_path, POOLINGS)
    remembered.clear()
    embed_corpus(model, iter(TEXTS), tmp_path, POOLINGS)
    assert [size for size in remembered if size] == [5]


KILLED = """
import os, signal, sys
from pathlib import Path
from helpers import corpus, encode
from helpers.models import load

folder, name, at, texts = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
corpus.WINDOW = encode.WINDOW = {window}
owner = os if name == "fsync" else Path
real, left = getattr(owner, name), [at]

def step(*arguments):
    left[0] -= 1
    if not left[0]:
        if name == "fsync":
            os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size - 1000)  # half-written
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)

setattr(owner, name, step)
corpus.embed_corpus(load("minilm"), iter(texts), folder, {poolings})
"""


def test_a_killed_process_is_taken_up_by_another_one(model: SentenceTransformer, tmp_path: Path) -> None:
    embed_corpus(model, iter(TEXTS), tmp_path / "never", POOLINGS)
    expected = contents(tmp_path / "never")
    script = KILLED.format(window=WINDOW, poolings=POOLINGS)
    points = {  # folder: (function, the call of it that kills)
        "second array of the second window, half-written": ("fsync", 8),
        "between the names of the two arrays": ("replace", 7),
    }
    killed = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / folder), name, str(at), *TEXTS], cwd=ROOT)
        for folder, (name, at) in points.items()
    ]
    assert [process.wait(timeout=120) for process in killed] == [-signal.SIGKILL] * 2
    mid, late = (contents(tmp_path / folder) for folder in points)
    assert (json.loads(mid["progress.json"])["rows"], len(mid["cls.npy.partial"])) == (8, 128 + 16 * 384 * 4 - 1000)
    assert sorted(late) == ["cls.npy.partial", "mean.npy", "progress.json"]
    for folder in points:
        embed_corpus(model, iter(TEXTS), tmp_path / folder, POOLINGS)
        assert contents(tmp_path / folder) == expected, folder


# Memory


def test_memory_does_not_grow_with_the_number_of_texts(
    model: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Text(str):
        """A string that can be watched: a plain one takes no weak reference."""

    living: weakref.WeakSet[Text] = weakref.WeakSet()
    most = 0

    def count(texts: int) -> Iterator[str]:
        nonlocal most
        for number in range(texts):
            text = Text(f"{number} {'x' * 2000}")
            living.add(text)
            most = max(most, len(living))
            yield text

    def peak(texts: int, folder: str) -> int:
        gc.collect()
        tracemalloc.start()
        embed_corpus(model, count(texts), tmp_path / folder, tuple(ALL_POOLINGS))
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    monkeypatch.setattr(corpus, "fingerprint", lambda model: "")  # takes a constant, but more than the windows here
    peak(WINDOW, "warm")
    few, many = peak(2 * WINDOW, "few"), peak(6 * WINDOW, "many")
    assert most <= 2 * WINDOW
    assert many < 1.3 * few


# What is wrong is said, and changes nothing


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"poolings": ("mean",)}, r"begun with poolings \['cls', 'mean'\], not \['mean'\]"),
        ({"normalize": False}, "begun with normalize True, not False"),
        ({"prompt": "query: "}, "begun with prompt '', not 'query: '"),
        ({"dtype": "bfloat16"}, "begun with dtype 'float32', not 'bfloat16'"),
        ({"model": "tiny-qwen3"}, "begun with another model"),
        ({"prompt": "x", "model": "tiny-qwen3"}, "prompt '', not 'x' and another model"),
        ({"texts": [*TEXTS[:9], "another", *TEXTS[10:]]}, "rows 8 to 15 are not those"),
        ({"texts": TEXTS[1:]}, "rows 0 to 7 are not those"),
        ({"texts": TEXTS[:8]}, "holds 16 texts, and there are only 8 now"),
        ({"texts": []}, "holds 16 texts, and there are only 0 now"),
    ],
)
@pytest.mark.parametrize("complete", [False, True])
def test_what_another_run_began_is_not_mixed_with(
    embedded: Embedded,
    model: SentenceTransformer,
    tmp_path: Path,
    changed: dict[str, Any],
    says: str,
    complete: bool,
) -> None:
    count = 16 if complete else 19
    begin(model, tmp_path, count, complete)
    before = contents(tmp_path)
    given = {"model": model, "texts": TEXTS[:16], "poolings": POOLINGS, **changed}
    given["model"] = embedded(given["model"]) if "model" in changed else model
    with pytest.raises(CorpusError, match=says):
        embed_corpus(folder=tmp_path, **given)
    assert contents(tmp_path) == before


def begin(model: SentenceTransformer, folder: Path, count: int, complete: bool) -> None:
    """Embeds the first texts, and is interrupted or not."""

    def texts() -> Iterator[str]:
        yield from TEXTS[:count]
        if not complete:
            raise KeyboardInterrupt

    if complete:
        embed_corpus(model, texts(), folder, POOLINGS)
    else:
        with pytest.raises(KeyboardInterrupt):
            embed_corpus(model, texts(), folder, POOLINGS)


def test_more_texts_than_a_finished_folder_holds(model: SentenceTransformer, tmp_path: Path) -> None:
    begin(model, tmp_path, 2 * WINDOW, complete=True)
    before = contents(tmp_path)
    with pytest.raises(CorpusError, match="holds 16 texts, and there are more of them now"):
        embed_corpus(model, TEXTS, tmp_path, POOLINGS)
    assert contents(tmp_path) == before


def test_where_one_text_ends_and_the_next_begins_counts(model: SentenceTransformer, tmp_path: Path) -> None:
    embed_corpus(model, ["ab", "c"], tmp_path)
    with pytest.raises(CorpusError, match="rows 0 to 1 are not those"):
        embed_corpus(model, ["a", "bc"], tmp_path)


@pytest.mark.parametrize(
    ("bad", "error", "says"),
    [
        (None, TypeError, "Text 10 is None, a NoneType; every text must be a string"),
        ("", ValueError, r"Text 10 \(''\) gives no token to pool"),
        ("half \ud83d", ValueError, r"Text 10 \('half \\ud83d'\) has half of a character in it"),
    ],
)
def test_a_bad_text_is_named_by_its_row_and_what_is_done_stays_done(
    model: SentenceTransformer, tmp_path: Path, bad: str | None, error: type[Exception], says: str
) -> None:
    poolings = ("mean_content",)
    with pytest.raises(error, match=says):
        embed_corpus(model, [*TEXTS[:10], bad, *TEXTS[11:]], tmp_path, poolings)
    assert json.loads((tmp_path / corpus.JOURNAL).read_text(encoding="utf-8"))["rows"] == WINDOW
    made = embed_corpus(model, TEXTS, tmp_path, poolings)
    np.testing.assert_array_equal(made["mean_content"], embed(model, TEXTS, poolings)["mean_content"])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"texts": "one text"}, TypeError),
        ({"poolings": ("mean", "average")}, ValueError),
        ({"dtype": "float16"}, ValueError),
        ({"prompt_name": "none such"}, ValueError),
    ],
)
def test_a_wrong_argument_makes_no_folder(
    model: SentenceTransformer, tmp_path: Path, arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        embed_corpus(**{"model": model, "texts": TEXTS, "folder": tmp_path / "new", **arguments})
    assert not (tmp_path / "new").exists()


def test_a_text_that_is_wrong_from_the_start_leaves_no_journal(model: SentenceTransformer, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Text 0 is 7, a int"):
        embed_corpus(model, [7], tmp_path)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("name", ["mean.npy", "cls.npy.partial"])
def test_arrays_of_another_origin_are_not_touched(model: SentenceTransformer, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(CorpusError, match=f"{name} is there, but no progress.json beside it"):
        embed_corpus(model, TEXTS, tmp_path, POOLINGS)
    assert contents(tmp_path) == {name: b"mine"}


@pytest.mark.parametrize("complete", [False, True])
def test_arrays_that_were_cut_short_are_found_out(model: SentenceTransformer, tmp_path: Path, complete: bool) -> None:
    begin(model, tmp_path, 19, complete)
    path = tmp_path / ("cls.npy" if complete else "cls.npy.partial")
    path.write_bytes(path.read_bytes()[:-1])
    before = contents(tmp_path)
    with pytest.raises(CorpusError, match=f"{path.name} is missing or of another size"):
        embed_corpus(model, TEXTS[:19], tmp_path, POOLINGS)
    assert contents(tmp_path) == before


def test_an_array_that_is_longer_than_the_texts_is_none_of_theirs(model: SentenceTransformer, tmp_path: Path) -> None:
    begin(model, tmp_path, 19, True)
    path = tmp_path / "cls.npy"
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(CorpusError, match="cls.npy is missing or of another size"):
        embed_corpus(model, TEXTS[:19], tmp_path, POOLINGS)


def test_what_lies_beside_finished_arrays_replaces_none(model: SentenceTransformer, tmp_path: Path) -> None:
    begin(model, tmp_path, 19, True)
    (tmp_path / "cls.npy.partial").write_bytes(b"mine")
    before = contents(tmp_path)
    embed_corpus(model, TEXTS[:19], tmp_path, POOLINGS)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("text", ["", "[]", '{"rows": 8}', '{"settings": {}, "windows": []}'])
def test_a_damaged_journal_is_said(model: SentenceTransformer, tmp_path: Path, text: str) -> None:
    (tmp_path / corpus.JOURNAL).write_text(text, encoding="utf-8")
    with pytest.raises(CorpusError, match="progress.json is damaged"):
        embed_corpus(model, TEXTS, tmp_path)


def test_two_at_once_in_one_folder(model: SentenceTransformer, tmp_path: Path) -> None:
    with FileLock(tmp_path / corpus.LOCK), pytest.raises(CorpusError, match="Another process works in"):
        embed_corpus(model, TEXTS, tmp_path)
    assert embed_corpus(model, TEXTS, tmp_path)["mean"].shape == (len(TEXTS), 384)


# Warnings


def test_cut_texts_are_counted_once_for_the_whole_corpus(model: SentenceTransformer, tmp_path: Path) -> None:
    texts = ["word " * 300, *TEXTS, "word " * 400]
    everything = "2 of 23 texts were cut to the model's 256 tokens; 192 tokens were lost"
    with pytest.warns(TruncationWarning, match=everything) as whole:
        embed(model, texts)
    for _ in range(2):  # the second call finds it in the journal
        with pytest.warns(TruncationWarning, match=everything) as caught:
            embed_corpus(model, texts, tmp_path)
        assert len(caught) == len(whole) == 1
        assert Path(caught[0].filename) == Path(__file__)


def test_other_warnings_get_through(
    model: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(*arguments: Any, **settings: Any) -> dict[str, np.ndarray]:
        warnings.warn("the device is hot", RuntimeWarning, stacklevel=1)
        return embed(*arguments, **settings)

    monkeypatch.setattr(corpus, "embed", warn)
    with pytest.warns(RuntimeWarning, match="the device is hot"):
        embed_corpus(model, TEXTS[:1], tmp_path)


# The stage of Ray Data, without Ray; tests/test_scale.py runs it there


def test_a_batch_gets_a_column_for_each_pooling() -> None:
    stage = Embedder("minilm", POOLINGS, prompt="query: ")
    batch = {"row": np.arange(3), "text": np.array(TEXTS[:3], dtype=object)}
    made = stage(batch)
    assert list(made) == ["row", "text", *POOLINGS]
    expected = embed(stage.model, TEXTS[:3], POOLINGS, prompt="query: ")
    for pooling in POOLINGS:
        np.testing.assert_array_equal(made[pooling], expected[pooling])
    with pytest.raises(ValueError, match="columns row, but no column text"):
        stage({"row": np.arange(3)})
    with pytest.raises(ValueError, match="a column cls already"):
        stage({**batch, "cls": np.arange(3)})


def test_the_stage_and_its_errors_travel_between_processes() -> None:
    assert pickle.loads(pickle.dumps(Embedder)) is Embedder
    error = pickle.loads(pickle.dumps(encode.NoTokenError(7, "")))
    assert (error.row, str(error)) == (7, "Text 7 ('') gives no token to pool; leave such texts out.")


def test_a_wrong_argument_is_said_before_the_first_batch() -> None:
    with pytest.raises(ValueError, match="Unknown pooling 'average'"):
        Embedder("minilm", ("average",))
