"""Vectors are computed once, found again by what they come from, and never read from an entry that is not sound."""

import copy
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from helpers import cache, encode, models
from helpers.fingerprint import fingerprint
from helpers.paths import ROOT

TEXTS = ["A cat sat.", "The dog ran far away.", "🙂 ＡＢＣ"]
Embedded = Callable[[str], SentenceTransformer]


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POOLING_LAB_OUTPUT", str(tmp_path))
    return tmp_path / "embeddings"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The poolings of each forward pass that is made."""
    passes, embed = [], encode.embed

    def counted(model: SentenceTransformer, texts: list[str], poolings: list[str], *rest: object, **more: object):
        if texts:
            passes.append(list(poolings))
        return embed(model, texts, poolings, *rest, **more)

    monkeypatch.setattr(encode, "embed", counted)
    return passes


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*") if path.name != ".lock")


def test_a_second_call_gives_the_same_vectors_without_a_forward_pass(embedded: Embedded, asked: list) -> None:
    model = embedded("minilm")
    first, again = (cache.embed(model, TEXTS, ("mean", "cls")) for _ in range(2))
    assert asked == [["mean", "cls"]]
    assert list(again) == ["mean", "cls"]
    expected = encode.embed(model, TEXTS, ("mean", "cls"))
    for pooling in expected:
        np.testing.assert_array_equal(first[pooling], expected[pooling])
        np.testing.assert_array_equal(again[pooling], expected[pooling])
        assert again[pooling].dtype == np.float32


def test_only_poolings_that_are_not_there_are_computed(embedded: Embedded, asked: list) -> None:
    model = embedded("minilm")
    cache.embed(model, TEXTS, ("cls", "max"))
    found = cache.embed(model, TEXTS, ("mean", "max", "lasttoken", "mean"))
    assert asked == [["cls", "max"], ["mean", "lasttoken"]]
    assert list(found) == ["mean", "max", "lasttoken"]


@pytest.mark.parametrize(
    "other",
    [
        {"texts": TEXTS[::-1]},
        {"texts": [*TEXTS[:2], TEXTS[2] + " "]},
        {"texts": TEXTS[:2]},
        {"prompt": "query: "},
        {"normalize": False},
        {"dtype": "bfloat16"},
    ],
)
def test_vectors_of_something_else_are_not_taken(embedded: Embedded, asked: list, other: dict) -> None:
    model, same = embedded("minilm"), {"texts": TEXTS, "poolings": ("mean",)}
    cache.embed(model, **same)
    found = cache.embed(model, **(same | other))["mean"]
    np.testing.assert_array_equal(found, encode.embed(model, **(same | other))["mean"])
    assert len(asked) == 3


def test_a_prompt_counts_by_its_text_and_not_by_its_name(embedded: Embedded, asked: list) -> None:
    model = embedded("e5-small")
    cache.embed(model, TEXTS, ("mean",), prompt_name="query")
    cache.embed(model, TEXTS, ("mean",), prompt="query: ")
    assert len(asked) == 1
    with pytest.raises(ValueError, match="title"):
        cache.embed(model, TEXTS, ("mean",), prompt_name="title")


def test_a_trained_model_does_not_find_what_it_gave_before(embedded: Embedded, asked: list) -> None:
    model = copy.deepcopy(embedded("minilm"))
    before = cache.embed(model, TEXTS, ("mean",))["mean"]
    with torch.no_grad():
        next(model[0].auto_model.encoder.parameters())[0, 0] += 1
    after = cache.embed(model, TEXTS, ("mean",))["mean"]
    assert len(asked) == 2
    assert abs(after - before).max() > 1e-4


@pytest.mark.parametrize(
    "damage",
    [
        lambda good, other: b"",
        lambda good, other: good[:-1],
        lambda good, other: good[: len(good) // 2],
        lambda good, other: good[:200] + bytes([good[200] ^ 1]) + good[201:],
        lambda good, other: good[:-1] + bytes([good[-1] ^ 1]),
        lambda good, other: other,
    ],
    ids=["empty", "cut by a byte", "cut by half", "a bit of the vectors", "a bit of the digest", "another's content"],
)
def test_an_entry_that_is_not_what_was_written_is_never_used(
    embedded: Embedded, asked: list, empty: Path, damage: Callable[[bytes, bytes], bytes]
) -> None:
    model = embedded("minilm")
    expected = cache.embed(model, TEXTS, ("cls", "mean"))
    other, good = entries(empty)
    sound = good.read_bytes()
    good.write_bytes(damage(sound, other.read_bytes()))
    np.testing.assert_array_equal(cache.embed(model, TEXTS, ("cls", "mean"))["mean"], expected["mean"])
    assert asked[1:] == [["mean"]]
    assert good.read_bytes() == sound


def test_a_run_that_was_cut_off_leaves_no_entry(
    embedded: Embedded, asked: list, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", cut_off)
        cache.embed(embedded("minilm"), TEXTS, ("mean",))
    assert [path.name for path in entries(empty)] == ["mean.partial"]
    cache.embed(embedded("minilm"), TEXTS, ("mean",))
    assert len(asked) == 2
    assert [path.name for path in entries(empty)] == ["mean"]


def test_truncation_is_told_each_time(embedded: Embedded, empty: Path) -> None:
    for _ in range(2):
        with pytest.warns(encode.TruncationWarning, match="1 of 1 texts were cut"):
            cache.embed(embedded("minilm"), ["word " * 300], ("mean",))
    assert entries(empty) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.embed(embedded("minilm"), ["word"], ("mean",))


def test_another_warning_is_passed_on_and_does_not_keep_vectors_from_being_kept(
    embedded: Embedded, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = encode.embed

    def warning(*arguments: object, **more: object) -> dict[str, np.ndarray]:
        warnings.warn("of a library", FutureWarning, stacklevel=1)
        return embed(*arguments, **more)

    monkeypatch.setattr(encode, "embed", warning)
    with pytest.warns(FutureWarning, match="of a library") as caught:
        cache.embed(embedded("minilm"), TEXTS, ("mean",))
    assert {one.filename for one in caught} == {__file__}
    assert [path.name for path in entries(empty)] == ["mean"]


def test_what_embed_refuses_is_refused_before_anything_is_kept(embedded: Embedded, empty: Path) -> None:
    with pytest.raises(TypeError, match="single string"):
        cache.embed(embedded("minilm"), "text")
    with pytest.raises(ValueError, match="average"):
        cache.embed(embedded("minilm"), TEXTS, ("average",))
    with pytest.raises(ValueError, match="float64"):
        cache.embed(embedded("minilm"), TEXTS, dtype="float64")
    words = SentenceTransformer(modules=[StaticEmbedding(embedded("minilm").tokenizer, embedding_dim=8)], device="cpu")
    with pytest.raises(ValueError, match="embed needs token states, but this model starts with StaticEmbedding"):
        cache.embed(words, TEXTS)
    assert not empty.exists()


def test_processes_at_once_make_the_vectors_once(tmp_path: Path) -> None:
    script = """
import sys
from hashlib import sha256
from pathlib import Path
from helpers import cache, encode, models

embed = encode.embed
def logged(model, texts, *arguments, **more):
    if not texts:
        return embed(model, texts, *arguments, **more)
    with Path(sys.argv[1]).open("a") as log:
        log.write("a pass\\n")
    return embed(model, texts, *arguments, **more)

model = models.load("minilm", "cpu")
encode.embed = logged
print("ready", flush=True)
sys.stdin.readline()
print(sha256(cache.embed(model, [f"text {number}" for number in range(500)], ("mean", "max"))["max"]).hexdigest())
"""
    log, pipe = tmp_path / "log", subprocess.PIPE
    command = [sys.executable, "-c", script, str(log)]
    both = [subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    first, second = (process.communicate(timeout=120)[0] for process in both)
    assert first == second
    assert len(first) == 65
    assert log.read_text() == "a pass\n"


# What a fingerprint tells apart


def test_a_fingerprint_is_that_of_the_model_and_not_of_what_was_done_with_it(embedded: Embedded) -> None:
    model = models.load("minilm", "cpu")
    before = fingerprint(model)
    encode.embed(model, ["word " * 200, "word"], ("mean",))
    model.encode(["word"], batch_size=1)
    assert fingerprint(model) == before == fingerprint(embedded("minilm"))
    assert fingerprint(embedded("e5-small")) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model, "max_seq_length", 8),
        lambda model: model.prompts.update(query="Q: "),
        lambda model: model.bfloat16(),
        lambda model: model[0].auto_model.config.update({"layer_norm_eps": 1e-3}),
        lambda model: setattr(model[1], "include_prompt", False),
        lambda model: model.tokenizer.add_tokens(["poolinglab"]),
        lambda model: setattr(model.tokenizer, "padding_side", "left"),
        lambda model: model[0].auto_model.embeddings.position_ids.add_(1),
    ],
    ids=["limit", "prompt", "dtype", "configuration", "module", "vocabulary", "padding", "a buffer that is not saved"],
)
def test_whatever_decides_the_vectors_changes_the_fingerprint(
    embedded: Embedded, change: Callable[[SentenceTransformer], object]
) -> None:
    model = copy.deepcopy(embedded("minilm"))
    assert fingerprint(model) == fingerprint(embedded("minilm"))
    change(model)
    assert fingerprint(model) != fingerprint(embedded("minilm"))
