"""Writes models as their hubs hold them, with random weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from transformers import Qwen3Config, Qwen3Model

from helpers import weights


def save_qwen3(folder: Path, shard: str = "5MB", **config: Any) -> Path:
    """Writes a Qwen3-Embedding: the files, names and older forms of the hub's repositories, in bfloat16 shards.

    Args:
        folder: The new folder.
        shard: The largest size of a file of weights.
        config: What differs from a tiny Qwen3.
    """
    tiny = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    tiny |= {"head_dim": 8, "intermediate_size": 64, "vocab_size": 151669, "tie_word_embeddings": True}
    torch.manual_seed(0)
    model = Qwen3Model(Qwen3Config(**tiny | config)).to(torch.bfloat16)
    (folder / "1_Pooling").mkdir(parents=True)
    save_torch_state_dict(model.state_dict(), folder, max_shard_size=shard)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(weights.unpack("tiny-qwen3") / name, folder)
    ends = {"bos_token_id": 151643, "eos_token_id": 151643, "transformers_version": "4.51.3"}
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    files = {
        "config.json": {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            **tiny,
            **config,
            **ends,
            "hidden_act": "silu",
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 1000000,
            "torch_dtype": "bfloat16",
            "use_cache": True,
        },
        "generation_config.json": ends | {"max_new_tokens": 2048},
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": (tiny | config)["hidden_size"],
            **{f"pooling_mode_{mode}": mode == "lasttoken" for mode in modes},
            "include_prompt": True,
        },
        "config_sentence_transformers.json": {
            "prompts": {"query": weights.QWEN_QUERY, "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
    return folder
