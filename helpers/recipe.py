"""Reads what a model's files and modules declare about its vectors; nothing is run."""

import json
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

POSITION_TABLES = ("position_embeddings", "wpe", "embed_positions")  # what models call their learned positions


def read_recipe(model: SentenceTransformer) -> dict:
    """Returns modules, pooling modes and where they are declared, Normalize, Dense, prompts and similarity.

    `declared` is None where the files declare no pooling; `made_up` is what sentence-transformers then chose.
    """
    pooling = next((module for module in model if isinstance(module, Pooling)), None)
    modes, declared_in = pooling_modes(pooling) if pooling else None, _declaration(model) if pooling else None
    return {
        "modules": [_title(module) for module in model],
        "declared": modes if declared_in else None,
        "declared_in": declared_in,
        "made_up": None if declared_in else modes,
        "include_prompt": pooling.include_prompt if pooling else None,
        "normalize": any(isinstance(module, Normalize) for module in model),
        "dense": [f"{module.in_features} → {module.out_features}" for module in model if isinstance(module, Dense)],
        "prompts": {key: text for key, text in model.prompts.items() if text},
        "default_prompt": model.default_prompt_name,
        "similarity": model.similarity_fn_name,
    }


def read_architecture(model: SentenceTransformer) -> dict:
    """Returns class, class when saved, parameters, dtype, device, limit in tokens and learned positions.

    `limit` and `positions` are None where there are none.
    """
    transformer = model.transformers_model
    saved_as = getattr(transformer.config, "architectures", None) if transformer else None
    limit = model.max_seq_length
    return {
        "architecture": type(transformer or model[0]).__name__,
        "saved_as": saved_as[0] if saved_as else None,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "limit": limit if isinstance(limit, int) and limit > 0 else None,
        "positions": min((_usable(module) for module in _position_tables(model)), default=None),
    }


def read_tokenizer(model: SentenceTransformer, text: str) -> dict:
    """Returns what the tokenizer adds around a text, `[CLS]` or its counterpart, and how it pads."""
    tokenizer = model.tokenizer
    got = tokenizer(text, return_special_tokens_mask=True)
    tokens, special = tokenizer.convert_ids_to_tokens(got["input_ids"]), got["special_tokens_mask"]
    first, last = special.index(0), len(special) - special[::-1].index(0)
    return {
        "adds_first": tokens[:first],
        "adds_last": tokens[last:],
        "cls": tokenizer.cls_token if tokenizer.cls_token in tokens[:first] + tokens[last:] else None,
        "padding_side": tokenizer.padding_side,
        "padding": tokenizer.pad_token,
    }


def pooling_modes(pooling: Pooling) -> list[str]:
    """Returns the modes of a Pooling module; several are concatenated."""
    return [pooling.pooling_mode] if isinstance(pooling.pooling_mode, str) else [*pooling.pooling_mode]


def _declaration(model: SentenceTransformer) -> str | None:
    """Says where a model's pooling is declared, and in which of the two forms; None where it was made up."""
    if model.transformers_model is None:
        return "the modules as loaded"
    folder = Path(model.transformers_model.name_or_path)
    listed = folder / "modules.json"
    if not listed.is_file():
        return None if (folder / "config.json").is_file() else "the modules as loaded"
    for module in json.loads(listed.read_text(encoding="utf-8")):
        if module["type"].endswith(".Pooling"):
            file = folder / module["path"] / "config.json"
            keys = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
            switched_on = [key for key, value in keys.items() if key.startswith("pooling_mode_") and value]
            form = "old form, a switch for each mode" if switched_on else "no mode named"
            if "pooling_mode" in keys:
                form = "new form" + ("; the old switches beside it do not count" if switched_on else "")
            return f"{module['path']}/config.json, {form}"
    return None


def _title(module: torch.nn.Module) -> str:
    if isinstance(module, Transformer):
        return f"Transformer ({type(module.auto_model).__name__})"
    if isinstance(module, Pooling):
        return f"Pooling ({' + '.join(pooling_modes(module))})"
    if isinstance(module, Dense):
        return f"Dense ({module.in_features} → {module.out_features})"
    return type(module).__name__


def _position_tables(model: SentenceTransformer) -> list[torch.nn.Embedding]:
    named = [module for name, module in model.named_modules() if name.endswith(POSITION_TABLES)]
    return [module for module in named if isinstance(module, torch.nn.Embedding)]


def _usable(table: torch.nn.Embedding) -> int:
    """Counts the positions that tokens can take: RoBERTa begins behind its padding's, OPT behind a fixed offset."""
    skipped = 0 if table.padding_idx is None else table.padding_idx + 1
    return table.num_embeddings - max(skipped, getattr(table, "offset", 0))
