"""The benchmark: its texts, its pairs, every part on a few texts, and that only a whole run changes a file."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook
from sentence_transformers import SentenceTransformer

from benchmarks import __main__ as bench
from benchmarks import bfloat16, figure, fixed, gpu, limit, machine, memory, rows, speed
from benchmarks.corpora import chinese, english, tokens
from benchmarks.rows import Row, Setting, paired, ratios
from helpers import notebooks, readme
from helpers.encode import embed
from helpers.paths import ROOT
from helpers.pooling import POOLINGS
from helpers.scenarios import read

Embedded = Callable[[str], SentenceTransformer]
SPEED = {speed.PART_ONE, speed.PART_EIGHT, speed.PART_LIMIT, speed.PART_SIZE, speed.PART_LENGTH}
PARTS = SPEED | {machine.PART, memory.PART, fixed.PART, bfloat16.PART, gpu.PART}


def test_english_texts_are_mixed_in_length_with_a_long_tail(embedded: Embedded) -> None:
    texts = english(4_000)
    lengths = tokens(embedded("minilm"), texts)
    assert len(set(texts)) == 4_000
    assert 10 <= np.median(lengths) <= 14
    assert 16 <= np.mean(lengths) <= 21
    assert 150 <= max(lengths) < embedded("minilm").max_seq_length  # none is cut


def test_corpora_are_the_same_in_every_run_and_grow_at_the_end() -> None:
    assert english(30) == english(60)[:30]
    assert chinese(30) == chinese(60)[:30]
    assert english(30) != english(30, words=5)
    assert {len(text.split()) for text in english(30, words=5)} == {5}


def test_chinese_texts_are_sentences_of_the_scenarios_put_together() -> None:
    texts = chinese(1_000)
    sentences = set(read().query("language == 'zh'")[["query", "strong", "weak", "unrelated"]].to_numpy().ravel())
    assert len(set(texts)) == 1_000
    assert 0.3 < np.mean([text in sentences for text in texts]) < 0.9
    assert max(map(len, texts)) > 3 * np.median(list(map(len, texts)))
    assert all(any(text.startswith(sentence) for sentence in sentences) for text in texts)


def test_pairs_are_interleaved_and_each_repetition_begins_with_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    order, clock = [], iter(range(100))
    monkeypatch.setattr(rows.time, "perf_counter", lambda: next(clock) ** 2)  # each run takes longer than the last
    seconds = paired({name: lambda name=name: order.append(name) for name in "abc"}, repetitions=4)
    assert "".join(order) == "abcbcacababc"
    assert seconds == {"a": [1, 21, 29, 37], "b": [5, 13, 33, 41], "c": [9, 17, 25, 45]}


def test_ratios_are_taken_within_a_repetition() -> None:
    assert ratios([10, 30, 100], [5, 10, 100]) == [2, 3, 1]
    row = Setting("part", "minilm", texts=7).row("embed", "times as fast", "×", [2, 3, 1], "note")
    assert row == Row("part", "embed", "minilm", "", 7, "", "times as fast", "×", 2, 1, 3, 3, "note")
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])


@pytest.fixture(scope="module")
def measured(embedded: Embedded) -> list[Row]:
    """Every part on speed, on minilm and as few texts as show something."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "load", lambda name, device: embedded(name))
        patch.setattr(speed, "BATCHES", (16,))
        patch.setattr(speed, "SAMPLE", 8)
        patch.setattr(speed, "SIZES", (10, 20))
        patch.setattr(speed, "MOST_FOR_ENCODE", 10)
        patch.setattr(speed, "WORDS", (4, 40))
        patch.setattr(speed, "WORDS_A_LENGTH", 80)
        return list(speed.measure([speed.Study("minilm", "English", english, 24, 12)], repetitions=2))


def test_every_part_on_speed_yields_what_it_promises(measured: list[Row], embedded: Embedded) -> None:
    table = pd.DataFrame(measured)
    assert set(table["part"]) == SPEED
    assert (table["low"] <= table["median"]).all() and (table["median"] <= table["high"]).all()
    assert (table["median"] > 0).all()
    one = table[table["part"] == speed.PART_ONE]
    assert one.loc[one["measure"] == "tokens", "median"].item() == sum(tokens(embedded("minilm"), english(24)))
    for part, dtype, other in readme.COMPARED:
        rows_of = table[(table["part"] == part) & (table["measure"] == f"times as fast as {other}")]
        assert rows_of.loc[rows_of["dtype"] == dtype, "repetitions"].tolist() == [2], other
    size = table[table["part"] == speed.PART_SIZE]
    assert set(zip(size["case"], size["texts"], strict=True)) == {
        ("corpus", 10),
        ("corpus", 20),
        ("embed", 10),
        ("embed", 20),
        ("encode, default batch", 10),
    }
    assert set(table.loc[table["part"] == speed.PART_LENGTH, "texts"]) == {20, 2}


def test_both_sides_make_the_same_vectors(measured: list[Row]) -> None:
    cosines = [row for row in measured if row.measure == "lowest cosine"]
    assert {(row.part, row.dtype) for row in cosines} == {
        (part, dtype) for part in (speed.PART_ONE, speed.PART_EIGHT) for dtype in speed.DTYPES
    }
    for row in cosines:
        assert row.median >= (0.999999 if row.dtype == "float32" else 0.999), row


def test_a_model_that_cannot_be_had_is_not_measured(tmp_path: Path) -> None:
    (row,) = speed.measure([speed.Study(str(tmp_path / "none"), "English", english, 4, 4)])
    assert row.median is None
    assert row.note.startswith("not measured: ")


def test_the_lowest_cosine_is_that_of_the_worst_text() -> None:
    first, second = np.array([[1, 0], [2, 0]], np.float32), np.array([[3, 0], [1, 1]], np.float32)
    assert speed.lowest_cosine(first, second) == pytest.approx(0.5**0.5)


@pytest.mark.parametrize(("dtype", "kind"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_replay_multiplies_in_every_linear_layer(
    embedded: Embedded, dtype: str, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, texts, seen = embedded("minilm"), english(20), []
    run = lambda: embed(model, texts, dtype=dtype)  # noqa: E731
    replay = limit.matrices(model, run, dtype)
    calls = limit.linear_calls(model, run)
    linear = torch.nn.functional.linear

    def watched(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        seen.append((inputs.shape, weight.shape, {inputs.dtype, weight.dtype, bias.dtype}))
        return linear(inputs, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    replay()
    assert {layer for layer, _ in calls} == {one for one in model.modules() if isinstance(one, torch.nn.Linear)}
    assert seen == [(shape, layer.weight.shape, {kind}) for layer, shape in calls]
    assert not any(layer._forward_pre_hooks for layer, _ in calls)


def test_the_replay_pools_every_text_in_every_way(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    model, texts, texts_pooled = embedded("minilm"), english(20), dict.fromkeys(POOLINGS, 0)
    replay = limit.pooled(model, lambda: embed(model, texts))
    pool = limit.pool

    def watched(name: str, hidden: torch.Tensor, mask: torch.Tensor, **states: torch.Tensor) -> torch.Tensor:
        texts_pooled[name] += len(mask)
        return pool(name, hidden, mask, **states)

    monkeypatch.setattr(limit, "pool", watched)
    replay()
    assert texts_pooled == dict.fromkeys(POOLINGS, 20)


def keep() -> None:
    assert 95e6 < memory.peak(lambda: np.ones(25_000_000, np.float32)) < 150e6


def give_back() -> None:
    def run() -> None:
        block = np.ones(25_000_000, np.float32)
        time.sleep(20 * memory.SECONDS_BETWEEN_LOOKS)
        del block

    assert 95e6 < memory.peak(run) < 150e6


def take_nothing() -> None:
    assert memory.peak(lambda: None) < 20e6


def test_memory_that_is_kept_and_memory_that_is_given_back_both_count() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # whose memory nobody else gives back
        for check in (take_nothing, keep, give_back):
            pool.submit(check).result()


def test_growth_is_told_with_the_size_of_the_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "peak", lambda run: len(run()) * 10_000_000)
    assert memory.growth("embed", 20) == (8 * 10_000_000, 8 * 20 * 384 * 4)
    assert memory.growth("encode, output_value=None", 20) == (20 * 10_000_000, 8 * 20 * 384 * 4)


def stopped(case: str, count: int) -> tuple[int, int]:
    """Stands in for `memory.growth`, in a process that does not live to its end."""
    os._exit(1)


def process(case: str, count: int) -> tuple[int, int]:
    """Stands in for `memory.growth`, and tells where it runs."""
    return os.getpid() + 10, 10


def test_each_encoding_gets_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "growth", process)
    found = list(memory.measure((3,)))
    assert [(row.case, row.texts) for row in found] == [(case, 3) for case in (memory.VECTORS, *memory.WAYS)]
    size, ours, theirs = (round(row.median * 1e6) for row in found)
    assert size == 10
    assert len({ours, theirs - 10, os.getpid()}) == 3


def test_an_encoding_that_runs_out_of_memory_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "growth", stopped)
    monkeypatch.setattr(memory, "WAYS", {"embed": memory.WAYS["embed"]})
    (row,) = memory.measure((3,))
    assert row.median is None
    assert row.note.startswith("not measured: its process was stopped")


def test_fixed_costs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fixed, "IMPORTS", ("filelock",))
    found = list(fixed.measure(2, ["tiny-qwen3", str(tmp_path / "none")], tmp_path))
    said = [(row.case, row.model, row.median is None) for row in found]
    assert said == [
        ("import filelock", "", False),
        ("load", "tiny-qwen3", False),
        ("load", str(tmp_path / "none"), True),
        ("a notebook's kernel", "", False),
        ("make reproduce", "", True),
    ]
    assert 0.1 < found[3].median < 60


def test_what_make_reproduce_costs_is_read_from_its_notebooks(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    for name, start, end in (("01_a", "00", "20"), ("02_b", "10", "40")):
        cells = [new_code_cell("import numpy as np"), new_code_cell("import csv\nx = 1\n"), new_code_cell("y")]
        for cell, duration in zip(cells, (4.0, 6.0, None), strict=True):
            cell.metadata.papermill = {"duration": duration}
        times = {"start_time": f"2026-01-01T00:00:{start}+00:00", "end_time": f"2026-01-01T00:00:{end}+00:00"}
        ran = times | {"duration": float(end) - float(start), "exception": None}
        nbformat.write(new_notebook(cells=cells, metadata={"papermill": ran}), tmp_path / f"notebooks/{name}.ipynb")
    found = {row.case.removeprefix("make reproduce"): row.median for row in fixed.reproduce(tmp_path, 2)}
    shares = {": kernels": 0.6, ": imports": 0.16, ": experiments": 0.24}
    assert found == {"": 40, ": beyond the experiments": 40 - 12 / 2} | shares
    (row,) = fixed.reproduce(tmp_path, 3)
    assert row.note.startswith("not measured: `make reproduce` has not been run to its end")


def test_the_machine_is_described_without_its_name_or_a_path() -> None:
    facts = {row.case: row.note for row in machine.measure()}
    assert all(facts.values())
    assert int(facts["cores"]) >= 1
    assert facts["torch"] == torch.__version__
    said = " ".join(facts.values())
    assert os.uname().nodename not in said.split() and str(Path.home()) not in said


MADE_UP = [
    Row(machine.PART, "processor", "", "", None, "", "", "", None, None, None, 0, "Some Processor"),
    Row(machine.PART, "cores", "", "", None, "", "", "", None, None, None, 0, "2"),
    Row(machine.PART, "instructions", "", "", None, "", "", "", None, None, None, 0, "avx512f, amx_bf16"),
    *(
        Row(part, "embed", model, "English", 9, dtype, f"times as fast as {other}", "×", 2.5, 2.25, 3.0, 5)
        for part, dtype, other in readme.COMPARED
        for model in ("minilm", "e5-small")
        if (model, other) != ("e5-small", "eight encodes, float32")
    ),
    Row("one pooling", "embed", "minilm", "English", 9, "float32", "lowest cosine", "cosine", 0.99999996, 0, 0, 1),
    Row(
        "limit",
        "linear layers",
        "minilm",
        "English",
        9,
        "float32",
        "share of embed's time",
        "share",
        0.755,
        0.7,
        0.8,
        5,
    ),
    *(
        Row("memory", case, "minilm", "English", texts, "float32", "peak growth of memory", "MB", found, 0, 0, 1)
        for case, texts, found in (
            ("embed", 5_000, 30.0),
            ("embed", 20_000, 36.0),
            ("encode, output_value=None", 5_000, 150.0),
            ("encode, output_value=None", 20_000, 630.0),
            (memory.VECTORS, 5_000, 60.0),
            (memory.VECTORS, 20_000, 240.0),
        )
    ),
    *(
        Row(bfloat16.PART, case, "minilm", "scenarios, en", 9, dtype, measure, "", found, 0, 0, 1, note)
        for case, dtype, measure, found, note in (
            ("cls", bfloat16.BOTH, "change in AUC", 0.0001, ""),
            ("max", bfloat16.BOTH, "change in AUC", -0.0003, ""),
            ("7 distinct poolings", bfloat16.BOTH, "verdict changes", 2, "of 21, mean − cls, max − cls"),
            ("max", "bfloat16", "largest change of a cosine by neighbours", 0.0014, ""),
            ("max", "float32", "largest change of a cosine by neighbours", 7e-7, ""),
            ("cls", bfloat16.BOTH, "lowest cosine of a text's two vectors", 0.9916, ""),
        )
    ),
    Setting(gpu.PART).not_measured("embed", "seconds", "s", "no CUDA device"),
]


def test_the_readme_quotes_ratios_and_a_dash_where_there_is_none(tmp_path: Path) -> None:
    assert "`make bench` does it" in readme.speed(tmp_path)
    (tmp_path / "data/results").mkdir(parents=True)
    pd.DataFrame(MADE_UP).to_csv(tmp_path / readme.BENCHMARK, index=False)
    said = readme.speed(tmp_path)
    assert "| `embed` | against | minilm, English | e5-small, English |\n|---|---|---|---|\n" in said
    assert "On Some Processor, 2 cores (avx512f, amx_bf16)," in said
    assert (
        "| one pooling, float32 | encode, default batch, float32 | 2.50 (2.25 to 3.00) | 2.50 (2.25 to 3.00) |" in said
    )
    assert "| eight poolings, bfloat16 | eight encodes, float32 | 2.50 (2.25 to 3.00) | – |" in said
    assert "| lowest cosine with `encode` in float32 | float32 | 0.999999 | – |" in said
    assert "| share of its time that its linear layers take, run alone | float32 | 75.5% (70.0% to 80.0%) | – |" in said
    assert "With 20,000 texts, `embed` needs 15% of the memory of its vectors beside them" in said
    assert "needs 2.6 times as much as those vectors" in said
    assert said.endswith(f"]({readme.BENCHMARK_FIGURE})")
    assert "in its 1 studies no pooling's AUC moves by more than 0.0003, and 2 of 21 comparisons" in said
    assert "by up to 0.0014 against 0.0000007 in float32" in said
    assert "a cosine of 0.992 with" in said


def test_the_figure_draws_what_was_measured_and_leaves_out_the_rest(measured: list[Row]) -> None:
    drawn = figure.draw(pd.DataFrame([*measured, *MADE_UP]))
    assert all(ax.get_xlabel() or ax.get_xticklabels() for ax in drawn.axes)
    assert [len(ax.containers) > 0 for ax in drawn.axes] == [True] * 6
    assert "times as fast as eight encodes, in float32" in drawn.get_suptitle()
    nothing = figure.draw(pd.DataFrame([Setting(speed.PART_ONE).not_measured("embed", "seconds", "s", "no model")]))
    assert [len(ax.containers) for ax in nothing.axes] == [0] * 6


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with an earlier result, into which the benchmark publishes."""
    for name in (readme.BENCHMARK, readme.BENCHMARK_FIGURE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("earlier")
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "BUILD", tmp_path / "build")
    monkeypatch.setattr(notebooks, "BUILD", tmp_path / "build")
    monkeypatch.setattr(readme, "check", lambda root: None)
    monkeypatch.setattr(readme, "update", lambda root: (root / "README.md").write_text("updated"))
    return tmp_path


def test_a_whole_run_publishes_table_figure_and_readme(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "PARTS", (lambda: MADE_UP[:4], lambda: MADE_UP[4:]))
    assert bench.main() == 0
    table = pd.read_csv(lab / readme.BENCHMARK, keep_default_na=False)
    assert list(table.columns) == list(Row._fields)
    assert len(table) == len(MADE_UP)
    assert table["median"].astype(str).str.startswith("0.99999996").sum() == 1
    assert (lab / readme.BENCHMARK_FIGURE).read_bytes().startswith(b"\x89PNG")
    assert (lab / "README.md").read_text() == "updated"
    said = capsys.readouterr().out
    assert "[machine] processor: Some Processor\n" in said
    assert "[GPU] embed: not measured: no CUDA device\n" in said
    speed_said = "[one pooling] embed, minilm, English, 9, float32: times as fast as encode, best batch, float32:"
    assert f"{speed_said} 2.5 × (2.25 to 3)\n" in said


@pytest.mark.parametrize("where", ["in a part", "while drawing"])
def test_a_run_that_is_cut_off_changes_nothing(lab: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> Iterator[Row]:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "PARTS", (lambda: MADE_UP, *([interrupted] if where == "in a part" else [])))
    if where == "while drawing":
        monkeypatch.setattr(bench.figure, "draw", interrupted)
    assert bench.main() == 130
    assert [(lab / name).read_text() for name in (readme.BENCHMARK, readme.BENCHMARK_FIGURE)] == ["earlier"] * 2
    assert not (lab / "README.md").exists()


def test_make_reproduce_leaves_the_benchmark_alone(lab: Path, tmp_path: Path) -> None:
    (lab / "figures/99_old.png").touch()
    assert notebooks.stale(tmp_path / "empty", lab) == [Path("figures/99_old.png")]


@pytest.mark.skipif(not (ROOT / readme.BENCHMARK).exists(), reason="`make bench` has not been run for this version")
def test_the_committed_table_is_whole_and_plausible() -> None:
    table = pd.read_csv(ROOT / readme.BENCHMARK, keep_default_na=False, na_values={"median": "", "low": "", "high": ""})
    assert list(table.columns) == list(Row._fields)
    assert set(table["part"]) == PARTS
    facts = table[table["part"] == machine.PART].set_index("case")["note"]
    assert len(facts["processor"]) > 3 and int(facts["cores"]) >= 1
    found = table[table["part"] != machine.PART]
    empty = found[found["median"].isna()]
    assert empty["note"].str.startswith("not measured: ").all()
    found = found.dropna(subset="median")
    assert (found["low"] <= found["median"]).all() and (found["median"] <= found["high"]).all()
    timed = found[found["part"].isin([speed.PART_ONE, speed.PART_EIGHT, speed.PART_SIZE, speed.PART_LENGTH])]
    assert (timed.loc[timed["unit"].isin(["s", "×", "tokens/s"]), "repetitions"] >= 5).all()
    cosines = found[(found["measure"] == "lowest cosine") & (found["part"] == speed.PART_ONE)]
    assert (cosines.loc[cosines["dtype"] == "float32", "median"] > 0.99999).all()
    shares = found[(found["part"] == speed.PART_LIMIT) & (found["unit"] == "share")]
    assert ((shares["median"] > 0) & (shares["median"] < 1)).all()
