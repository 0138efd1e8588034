"""One pass, every pooling: the same vectors as sentence-transformers, whatever the batch, side or order."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

from helpers import encode
from helpers.encode import TruncationWarning, embed
from helpers.pooling import POOLINGS

TEXTS = ["我饿了", "The weather is lovely today.", "训练集准确率高但测试集差", "x", "🙂 ＡＢＣ", "long " * 40, "我饿了"]
Embedded = Callable[[str], SentenceTransformer]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["minilm", "e5-small", "smollm2", "tiny-qwen3"])
def test_every_shared_pooling_agrees_with_sentence_transformers(
    embedded: Embedded, name: str, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = embedded(name)
    monkeypatch.setattr(model.tokenizer, "padding_side", side)
    ours = embed(model, TEXTS, Pooling.POOLING_MODES, normalize=False)
    width = ours["cls"].shape[1]
    theirs = SentenceTransformer(modules=[model[0], Pooling(width, pooling_mode=Pooling.POOLING_MODES)], device="cpu")
    for mode, expected in zip(Pooling.POOLING_MODES, np.split(theirs.encode(TEXTS), len(ours), axis=1), strict=True):
        np.testing.assert_allclose(ours[mode], expected, atol=2e-5 * abs(expected).max(), err_msg=mode)


@pytest.mark.parametrize("name", ["minilm", "e5-small", "tiny-qwen3"])
def test_the_models_own_recipe_is_one_of_the_poolings(embedded: Embedded, name: str) -> None:
    model = embedded(name)
    pooling = next(module for module in model if isinstance(module, Pooling)).pooling_mode
    assert any(isinstance(module, Normalize) for module in model)
    np.testing.assert_allclose(embed(model, TEXTS, (pooling,))[pooling], model.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("name", ["minilm", "e5-small", "smollm2", "tiny-qwen3"])
def test_neighbours_and_order_change_nothing(embedded: Embedded, name: str) -> None:
    model = embedded(name)
    alone = embed(model, TEXTS, tuple(POOLINGS), token_budget=1)  # each text in a batch of its own
    together = embed(model, TEXTS, tuple(POOLINGS), token_budget=100_000)
    backwards = embed(model, TEXTS[::-1], tuple(POOLINGS), token_budget=100)
    for pooling in POOLINGS:
        np.testing.assert_allclose(together[pooling], alone[pooling], atol=1e-5, err_msg=pooling)
        np.testing.assert_allclose(backwards[pooling][::-1], alone[pooling], atol=1e-5, err_msg=pooling)


def test_one_forward_pass_serves_every_pooling_within_the_budget(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, shapes = embedded("minilm"), []
    forward = model[0].auto_model.forward
    monkeypatch.setattr(
        model[0].auto_model, "forward", lambda **batch: shapes.append(batch["input_ids"].shape) or forward(**batch)
    )
    texts = ["word " * count for count in range(1, 60)]
    embed(model, texts, tuple(POOLINGS), token_budget=128)
    assert sum(rows for rows, _ in shapes) == len(texts)
    assert all(rows * tokens <= 128 for rows, tokens in shapes)
    assert len(shapes) < len(texts)


def test_a_text_longer_than_the_budget_gets_its_own_batch(embedded: Embedded) -> None:
    vectors = embed(embedded("minilm"), ["word " * 100, "short"], token_budget=8)["mean"]
    assert vectors.shape == (2, 384)


def test_vectors_are_float32_and_unit_length_on_request(embedded: Embedded) -> None:
    model = embedded("minilm")
    unit, raw = embed(model, TEXTS), embed(model, TEXTS, normalize=False)
    assert list(unit) == ["cls", "mean"]
    for name in unit:
        assert unit[name].dtype == raw[name].dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(unit[name], axis=1), 1, atol=1e-6)
        assert np.linalg.norm(raw[name], axis=1).min() > 1.5


def test_bfloat16_stays_close_and_leaves_the_model_alone(embedded: Embedded) -> None:
    model = embedded("minilm")
    exact, rough = embed(model, TEXTS), embed(model, TEXTS, dtype="bfloat16")
    assert 0.999 < (exact["mean"] * rough["mean"]).sum(1).min() < 0.9999999
    assert rough["mean"].dtype == np.float32
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_prompts_are_honoured_as_in_sentence_transformers(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    model = embedded("e5-small")
    expected = model.encode(TEXTS, prompt_name="query")
    np.testing.assert_allclose(embed(model, TEXTS, prompt_name="query")["mean"], expected, atol=1e-5)
    np.testing.assert_allclose(embed(model, TEXTS, prompt="query: ")["mean"], expected, atol=1e-5)
    assert abs(embed(model, TEXTS)["mean"] - expected).max() > 0.01
    with pytest.raises(ValueError, match="title"):
        embed(model, TEXTS, prompt_name="title")
    monkeypatch.setattr(model, "default_prompt_name", "query")
    np.testing.assert_allclose(embed(model, TEXTS)["mean"], expected, atol=1e-5)
    np.testing.assert_allclose(embed(model, TEXTS, prompt="")["mean"], model.encode(TEXTS, prompt=""), atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mode", Pooling.POOLING_MODES)
def test_a_model_that_excludes_its_prompt_from_pooling(
    embedded: Embedded, mode: str, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = embedded("minilm")
    monkeypatch.setattr(base.tokenizer, "padding_side", side)
    model = SentenceTransformer(modules=[base[0], Pooling(384, mode, include_prompt=False)], device="cpu")
    expected = model.encode(TEXTS, prompt="Represent this: ", normalize_embeddings=True)
    np.testing.assert_allclose(embed(model, TEXTS, (mode,), prompt="Represent this: ")[mode], expected, atol=1e-5)


def test_windows_bound_what_is_in_memory_and_change_nothing_else(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sizes, batch_encode = embedded("minilm"), [], type(embedded("minilm").tokenizer).__call__
    texts = [*TEXTS, "word " * 300] * 3
    with pytest.warns(TruncationWarning):
        whole = embed(model, texts, tuple(POOLINGS))

    def counted(self: object, some: list[str], **settings: object) -> object:
        sizes.append(len(some))
        return batch_encode(self, some, **settings)

    monkeypatch.setattr(encode, "WINDOW", 5)
    monkeypatch.setattr(type(model.tokenizer), "__call__", counted)
    with pytest.warns(TruncationWarning, match=r"^3 of 24 texts were cut to the model's 256 tokens; 138 tokens"):
        found = embed(model, texts, tuple(POOLINGS))
    assert max(sizes) == 5
    for pooling in POOLINGS:
        np.testing.assert_allclose(found[pooling], whole[pooling], atol=1e-5, err_msg=pooling)
    with pytest.raises(ValueError, match="Text 7 "):
        embed(model, [*texts[:7], "", "word"], ("mean_content",))


def test_truncation_is_reported(embedded: Embedded) -> None:
    model = embedded("minilm")  # reads 256 tokens, two of them special
    with pytest.warns(TruncationWarning, match="2 of 3 texts were cut to the model's 256 tokens; 47 tokens were lost"):
        embed(model, ["word " * 300, "word " * 255, "word"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embed(model, ["word " * 254])


def test_a_tokenizer_without_a_limit_cuts_nothing(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    model = embedded("tiny-qwen3")
    monkeypatch.setattr(model, "max_seq_length", int(1e30))  # as transformers fills in for T5 and XLNet
    np.testing.assert_allclose(embed(model, TEXTS, ("lasttoken",))["lasttoken"], model.encode(TEXTS), atol=1e-5)


def test_no_texts_give_no_vectors(embedded: Embedded) -> None:
    assert embed(embedded("minilm"), [])["cls"].shape == (0, 384)


def test_texts_without_a_token_to_pool_are_named(embedded: Embedded) -> None:
    with pytest.raises(ValueError, match=r"Text 1 \(''\) gives no token to pool"):
        embed(embedded("smollm2"), ["fine", ""])
    with pytest.raises(ValueError, match=r"Text 0 \('  '\) gives no token to pool"):
        embed(embedded("minilm"), ["  "], ("mean_content",))
    assert embed(embedded("minilm"), [""])["mean"].shape == (1, 384)  # [CLS] and [SEP] remain


def test_bad_arguments_are_named(embedded: Embedded) -> None:
    model = embedded("minilm")
    with pytest.raises(TypeError, match="single string"):
        embed(model, "我饿了")
    with pytest.raises(TypeError, match="Text 1 is None, a NoneType"):
        embed(model, ["fine", None])
    with pytest.raises(ValueError, match="dtype 'float16' is unknown; use one of float32, bfloat16"):
        embed(model, ["fine"], dtype="float16")
    with pytest.raises(ValueError, match="Unknown pooling 'avg'"):
        embed(model, ["fine"], ("avg",))
