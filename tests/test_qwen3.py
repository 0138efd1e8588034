"""The path of the real Qwen3-Embedding, on the layout of its hub with random weights."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from helpers import models, weights
from helpers.encode import embed

QUERIES = ["What is the capital of China?", "Explain gravity"]
DOCUMENTS = ["The capital of China is Beijing.", "我饿了", "Gravity is a force that attracts two bodies."]


@pytest.fixture(scope="module")
def model(qwen3_layout: Path):
    return models.load(qwen3_layout)


def last_token_pool(states: Tensor, mask: Tensor) -> Tensor:
    """Pools as the model card says: the last position under left padding, else the last one that the mask holds."""
    if mask[:, -1].all():
        return states[:, -1]
    return states[torch.arange(len(states)), mask.sum(dim=1) - 1]


def test_the_layout_is_the_hubs(qwen3_layout):
    config = json.loads((qwen3_layout / "config.json").read_text())
    assert (config["architectures"], config["torch_dtype"]) == (["Qwen3ForCausalLM"], "bfloat16")
    assert config["rope_theta"] == 1000000
    index = json.loads((qwen3_layout / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) == 2
    assert "embed_tokens.weight" in index
    assert not any(name.startswith("model.") for name in index)


def test_every_shard_is_read_without_a_change(model, qwen3_layout):
    stored = {name: tensor for file in qwen3_layout.glob("*.safetensors") for name, tensor in load_file(file).items()}
    loaded = model[0].auto_model.state_dict()
    assert loaded.keys() == stored.keys()
    for name, tensor in stored.items():
        assert tensor.dtype == torch.bfloat16
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], tensor.float()), name
    assert model[0].auto_model.config.rope_parameters["rope_theta"] == 1000000


@pytest.mark.parametrize("side", ["left", "right"])
def test_its_own_recipe_is_that_of_the_model_card(model, qwen3_layout, side):
    tokenizer = AutoTokenizer.from_pretrained(qwen3_layout, padding_side=side)
    plain = AutoModel.from_pretrained(qwen3_layout, dtype=torch.float32).eval()
    texts = [weights.QWEN_QUERY + query for query in QUERIES] + DOCUMENTS
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    assert not batch["attention_mask"].all(), "the texts differ in length"
    with torch.inference_mode():
        states = plain(**batch).last_hidden_state
    expected = torch.nn.functional.normalize(last_token_pool(states, batch["attention_mask"])).numpy()
    ours = np.concatenate([model.encode_query(QUERIES), model.encode_document(DOCUMENTS)])
    assert np.allclose(ours, expected, atol=1e-5)
    assert np.allclose(embed(model, texts, ["lasttoken"])["lasttoken"], expected, atol=1e-5)
    assert not np.allclose(model.encode(QUERIES), expected[:2], atol=0.01), "the instruction counts"


def test_the_memory_need_is_that_of_all_shards(model, qwen3_layout):
    need = models.memory(qwen3_layout)
    assert need.parameters == sum(tensor.numel() for tensor in model[0].auto_model.parameters())
    assert (need.dtype, need.needed, need.device) == ("float32", 4 * need.parameters, "cpu")
    assert models.memory(qwen3_layout, dtype=torch.bfloat16).needed == 2 * need.parameters


def test_a_gpu_reads_bfloat16_as_it_is_stored(qwen3_layout, monkeypatch):
    asked = {}

    class Stop(Exception):
        pass

    def construct(folder, **options):
        asked.update(options)
        raise Stop

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**10, 10**11))
    monkeypatch.setattr("sentence_transformers.SentenceTransformer", construct)
    assert models.memory(qwen3_layout, "cuda").dtype == "bfloat16"
    assert models.memory(qwen3_layout, "cuda", "float32").dtype == "float32"
    assert models.memory("tiny-qwen3", "cuda").dtype == "float32", "as it is stored"
    with pytest.raises(models.ModelError):
        models.load(qwen3_layout, "cuda:0")
    assert (asked["device"], asked["model_kwargs"]["dtype"]) == ("cuda:0", torch.bfloat16)


def test_too_little_memory_is_one_sentence(qwen3_layout, monkeypatch):
    monkeypatch.setattr(models, "free_memory", lambda device: 10**7)
    monkeypatch.setattr("sentence_transformers.SentenceTransformer", None)
    with pytest.raises(models.ModelError) as caught:
        models.load(qwen3_layout)
    assert str(caught.value) == (
        f"{qwen3_layout} needs 19 MB in float32 for its weights alone, and a fifth more to work in, but 10 MB are free "
        "on cpu; choose a smaller model or another device."
    )


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("model-00002-of-00002.safetensors", None, "model-00002-of-00002.safetensors of {} is missing"),
        ("model-00002-of-00002.safetensors", b"cut", "model-00002-of-00002.safetensors of {} is damaged or cut short"),
        ("model.safetensors.index.json", b"{", "modules.json or model.safetensors.index.json of {} cannot be read"),
        ("model.safetensors.index.json", b"[]", "modules.json or model.safetensors.index.json of {} cannot be read"),
    ],
)
def test_a_copy_that_is_not_complete_is_one_sentence(qwen3_layout, tmp_path, file, content, says):
    folder = Path(shutil.copytree(qwen3_layout, tmp_path / "mine"))
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    with pytest.raises(models.ModelError) as caught:
        models.load(folder)
    assert str(caught.value) == f"{says.format(folder)}; download or save the model again."
