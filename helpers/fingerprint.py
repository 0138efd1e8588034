"""What made a vector, in 64 hexadecimal digits: the model, this code, the libraries and the kind of processor."""

import json
from hashlib import sha256
from pathlib import Path

import torch
import transformers
from sentence_transformers import SentenceTransformer

from helpers import encode, pooling

CODE = sha256(b"".join(Path(module.__file__).read_bytes() for module in (encode, pooling))).hexdigest()


def fingerprint(model: SentenceTransformer) -> str:
    """Returns a SHA-256 digest of all that decides which vectors `embed` gives, besides its arguments.

    The weights as they are in memory, so that a model that was trained on has another one; configuration, modules,
    prompts and tokenizer; the code of `encode` and `pooling`; the versions of torch and transformers; and the device's
    kind, because another processor rounds in another way. Takes about a second for each gigabyte of weights.
    """
    digest = sha256()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:  # buffers that are not saved, too
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    config = model[0].auto_model.config
    settings = {
        "modules": [(type(module).__qualname__, module.get_config_dict()) for module in model],
        "config": json.loads(config.to_json_string(use_diff=False)),
        "attention": config._attn_implementation,
        "limit": model.max_seq_length,
        "prompts": model.prompts,
        "default prompt": model.default_prompt_name,
        "tokenizer": [_tokenizer(model.tokenizer), model.tokenizer.padding_side, model.tokenizer.truncation_side],
        "code": CODE,
        "versions": [torch.__version__, transformers.__version__],
        "device": [model.device.type, _processor(model.device)],
    }
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _processor(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()


def _tokenizer(tokenizer: transformers.PreTrainedTokenizerBase) -> object:
    """Describes a tokenizer without what its last call left in it."""
    if not tokenizer.is_fast:
        return {"class": type(tokenizer).__qualname__, "vocabulary": tokenizer.get_vocab(), **tokenizer.init_kwargs}
    return tokenizer.backend_tokenizer.to_str().partition('"added_tokens"')[2]  # before it: truncation and padding
