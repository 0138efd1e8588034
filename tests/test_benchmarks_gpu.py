"""The benchmark's part on a GPU: its code path on the CPU, with a tiny model."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, Qwen3Config

from benchmarks import gpu
from benchmarks.corpora import english, tokens
from benchmarks.rows import Row
from helpers import models

TEXTS = english(24)
BUDGETS = (64, 4096)
LOWEST = {"bfloat16": 0.99, "float32": 0.9999}


def tiny() -> Qwen3Config:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    layers = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    return Qwen3Config(vocab_size=151669, use_cache=False, **heads, **layers)


def compared(dtype: str = "bfloat16") -> Iterator[Row]:
    sizes = {"budgets": BUDGETS, "batches": (8, 16), "matrix": 256, "repetitions": 2}
    return gpu.compare("tiny", tiny(), "cpu", TEXTS, dtype=dtype, **sizes)


@pytest.fixture(scope="module", params=LOWEST)
def rows(request: pytest.FixtureRequest) -> list[Row]:
    return list(compared(request.param))


def one(rows: list[Row], case: str, measure: str) -> Row:
    (row,) = [row for row in rows if (row.case, row.measure) == (case, measure)]
    return row


def test_every_way_has_its_speed_and_its_shares(rows: list[Row]) -> None:
    count = sum(tokens(gpu.build(tiny(), "cpu", "float32"), TEXTS))
    for case in ("embed, budget 64", "embed, budget 4096", gpu.ENCODE, gpu.BEST):
        seconds, share, padded = (
            one(rows, case, measure) for measure in ("seconds", "share of the peak", "share of the peak, with padding")
        )
        assert 0 < seconds.low <= seconds.median <= seconds.high
        assert seconds.repetitions == 2
        assert one(rows, case, "tokens a second").high == pytest.approx(count / seconds.low)
        assert one(rows, case, "texts a second").low == pytest.approx(len(TEXTS) / seconds.high)
        assert 0 < share.low <= share.high <= 1
        held = one(rows, case, "slots that hold a token").median
        assert 0 < held <= 1
        assert share.median / padded.median == pytest.approx(held)


def test_the_share_is_operations_in_linear_layers_by_the_peak(rows: list[Row]) -> None:
    # A layer: queries, keys, values and output; gate, up and down.
    inside = 2 * (64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 128)
    peak, speed = one(rows, "matrix product", "operations a second"), one(rows, gpu.ENCODE, "tokens a second")
    assert 0 < peak.low <= peak.high
    assert one(rows, gpu.ENCODE, "share of the peak").high == pytest.approx(2 * inside * speed.high / peak.high)


def test_both_ways_make_the_same_vectors(rows: list[Row]) -> None:
    for case in ("embed, budget 64", "embed, budget 4096"):
        for other in (gpu.ENCODE, gpu.BEST):
            row = one(rows, case, f"lowest cosine with {other}")
            assert LOWEST[row.dtype] <= row.median <= 1 + 1e-9


def test_a_smaller_budget_leaves_fewer_slots_empty(rows: list[Row]) -> None:
    small, large = (one(rows, f"embed, budget {budget}", "slots that hold a token").median for budget in BUDGETS)
    assert large < small


def test_attention_is_changed_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "is_flash_attn_2_available", lambda: False)
    model = gpu.build(tiny(), "cpu", "float32")
    seen, config = [], model[0].auto_model.config
    assert config._attn_implementation == "sdpa"

    def run() -> np.ndarray:
        seen.append(config._attn_implementation)
        return model.encode(TEXTS, show_progress_bar=False)

    setting = gpu.Setting(gpu.PART, dtype="float32")
    rows = list(gpu.attentions(setting, model, "encode", run, read=100, repetitions=1))
    assert seen == ["sdpa", "eager"] * 2
    assert config._attn_implementation == "sdpa"
    assert one(rows, "encode, eager", "times as fast as sdpa").median > 0
    assert one(rows, "encode, flash_attention_2", "tokens a second").note.startswith("not measured: ")


def test_the_model_is_qwen3_embeddings_recipe_in_the_dtype_asked_for() -> None:
    model = gpu.build(tiny(), "cpu", "bfloat16")
    assert [type(module).__name__ for module in model] == ["Transformer", "Pooling", "Normalize"]
    assert model[1].pooling_mode == "lasttoken"
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model.tokenizer("x")["input_ids"][-1] == 151643
    assert np.linalg.norm(model.encode(["x"]), axis=1) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(("name", "billions"), [("Qwen3-Embedding-0.6B", 0.596), ("Qwen3-Embedding-4B", 4.022)])
def test_shapes_have_as_many_parameters_as_the_models(name: str, billions: float) -> None:
    with torch.device("meta"):
        model = AutoModel.from_config(Qwen3Config(**gpu.MODELS[name]))
    assert model.num_parameters() / 1e9 == pytest.approx(billions, abs=5e-4)


def test_no_text_holds_an_id_that_the_smaller_vocabulary_lacks(embedded) -> None:
    texts = english(gpu.TEXTS)
    largest = max(max(ids) for ids in embedded("tiny-qwen3").tokenizer(texts)["input_ids"])
    assert largest < min(shape["vocab_size"] for shape in gpu.MODELS.values())


def test_without_a_gpu_every_case_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rows = list(gpu.measure())
    assert {row.note for row in rows} == {"not measured: no CUDA device"}
    assert all((row.median, row.low, row.high, row.repetitions) == (None, None, None, 0) for row in rows)
    assert len(rows) == 2 * (1 + len(gpu.BUDGETS) + 2 + len(gpu.ATTENTIONS))


def test_a_model_that_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "free_memory", lambda device: 10**6)
    (row,) = compared()
    assert row.note.startswith("not measured: tiny: 10 million parameters, ")
    assert row.median is None


def test_ways_that_take_too_much_memory_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def embed(model: SentenceTransformer, texts: list[str], poolings: tuple[str], token_budget: int) -> dict:
        if token_budget == max(BUDGETS):
            raise torch.OutOfMemoryError
        return {"lasttoken": model.encode(texts, show_progress_bar=False)}

    monkeypatch.setattr(gpu, "embed", embed)
    rows = list(compared())
    (lacking,) = [row for row in rows if row.case == "embed, budget 4096"]
    assert lacking.note == "not measured: the device has too little memory"
    assert one(rows, "embed, budget 64", "seconds").median > 0
