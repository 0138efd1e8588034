"""How fast a GPU encodes with models of Qwen3-Embedding's shapes, and how much of what it could do that is."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from torch import Tensor, nn
from transformers import AutoModel, Qwen3Config
from transformers.utils import is_flash_attn_2_available

from benchmarks.corpora import english, tokens
from benchmarks.rows import REPETITIONS, Row, Setting, paired, ratios
from benchmarks.speed import DEFAULT_BATCH, lowest_cosine
from helpers import models, weights
from helpers.encode import embed
from helpers.readme import FASTER

PART = "GPU"
# By their cards; the ids that the second vocabulary lacks, such as that of <think>, stand in no text here.
MODELS = {
    "Qwen3-Embedding-0.6B": {"vocab_size": 151669, "hidden_size": 1024, "intermediate_size": 3072}
    | {"num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128},
    "Qwen3-Embedding-4B": {"vocab_size": 151665, "hidden_size": 2560, "intermediate_size": 9728}
    | {"num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128},
}
TEXTS = 8192  # two windows of `embed`
BUDGETS = (1024, 4096, 16384, 65536)
BATCHES = (8, DEFAULT_BATCH, 64, 128, 256, 512)
ATTENTIONS = ("eager", "flash_attention_2")  # besides the one that transformers chooses
MATRIX = 8192  # rows and columns of the product that counts as the peak
PRODUCTS = 10  # for each time taken, so that starting them costs next to nothing
ENCODE, BEST = "encode, default batch", "encode, best batch"


class Pass(NamedTuple):
    """What one way made of the texts, `(texts, dim)`, and how many slots the model read, a token or padding in each."""

    vectors: np.ndarray
    slots: int


def measure(device: str | None = None) -> Iterator[Row]:
    """Yields the findings on each model in `MODELS`.

    Args:
        device: Where to run; None takes the first CUDA device, and where there is none, nothing is measured.
    """
    if device is None and torch.cuda.is_available():
        device = "cuda"
    for name, shape in MODELS.items():
        setting = Setting(PART, _title(name), "English", TEXTS, "bfloat16")
        if device is None:
            yield setting.not_measured("matrix product", "operations a second", "FLOP/s", "no CUDA device")
            for case in [*map(_case, BUDGETS), ENCODE, BEST, *ATTENTIONS]:
                yield setting.not_measured(case, "tokens a second", "tokens/s", "no CUDA device")
        else:
            config = Qwen3Config(**shape, use_cache=False)  # as sentence-transformers loads it: nothing is generated
            yield from compare(name, config, device, english(TEXTS))


def compare(
    name: str,
    config: Qwen3Config,
    device: str,
    texts: list[str],
    *,
    dtype: str = "bfloat16",
    budgets: Sequence[int] = BUDGETS,
    batches: Sequence[int] = BATCHES,
    matrix: int = MATRIX,
    repetitions: int = REPETITIONS,
) -> Iterator[Row]:
    """Compares `embed` at several token budgets with `encode` on one model, and both with the device's peak.

    The peak is the fastest of several products of two square matrices in `dtype`. A way's share of it is
    2 × parameters in linear layers × tokens / seconds / peak: each token costs each of these parameters one
    multiplication and one addition. Attention's own products, little on short texts, are not counted. The share counts
    the texts' tokens alone; "with padding" counts every slot of the batches.

    Every way's time goes from strings to NumPy arrays, so that tokenizing is part of it, and so is waiting for the
    device: an array is there only when its work is done.

    Args:
        name: What the rows call the model.
        config: Its shape.
        device: For example `cuda` or `cpu`.
        texts: The texts.
        dtype: Of the weights and all arithmetic but pooling: `bfloat16` or `float32`.
        budgets: Token budgets of `embed`.
        batches: Among which the best batch for `encode` is sought.
        matrix: Rows and columns of the matrices.
        repetitions: How often each way is timed.
    """
    setting = Setting(PART, _title(name), "English", len(texts), dtype)
    with torch.device("meta"):
        parameters = AutoModel.from_config(config).num_parameters()
    need = models.Memory(name, parameters, dtype, device, models.free_memory(device))
    if not need.fits():
        yield setting.not_measured("embed", "tokens a second", "tokens/s", str(need))
        return
    model = build(config, device, dtype)
    speeds = products(device, dtype, matrix)
    where = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    said = f"{where}, matrices of {matrix} × {matrix}; shares are of the highest"
    yield setting.row("matrix product", "operations a second", "FLOP/s", speeds, said)

    encode = partial(model.encode, texts, show_progress_bar=False)
    best = best_batch(model, texts, batches)
    ours = {_case(budget): partial(_embed, model, texts, budget) for budget in budgets}
    theirs = {ENCODE: partial(encode, batch_size=DEFAULT_BATCH), BEST: partial(encode, batch_size=best)}
    ways = ours | theirs
    passes = yield from _warmed_up(setting, model, ways)
    seconds = paired({case: ways[case] for case in passes}, repetitions, f"{PART}, {name}")
    read = sum(tokens(model, texts))
    operations = 2 * sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Linear))
    for case, (vectors, slots) in passes.items():
        taken, row = seconds[case], partial(setting.row, case, note=f"batch {best}" if case == BEST else "")
        yield row("seconds", "s", taken)
        yield row("texts a second", "texts/s", [len(texts) / one for one in taken])
        yield row("tokens a second", "tokens/s", [read / one for one in taken])
        for measured, count in (("share of the peak", read), ("share of the peak, with padding", slots)):
            yield row(measured, "share", [operations * count / one / max(speeds) for one in taken])
        yield row("slots that hold a token", "share", [read / slots])
        for other in [other for other in theirs if other in passes and case in ours]:
            yield row(f"{FASTER}{other}", "×", ratios(seconds[other], taken))
            yield row(f"lowest cosine with {other}", "cosine", [lowest_cosine(vectors, passes[other].vectors)])
    fitting = [case for case in ours if case in passes]
    if fitting:
        fastest = min(fitting, key=lambda case: min(seconds[case]))
        yield from attentions(setting, model, fastest, ours[fastest], read, repetitions)


def attentions(
    setting: Setting, model: SentenceTransformer, case: str, run: Callable[[], np.ndarray], read: int, repetitions: int
) -> Iterator[Row]:
    """Compares the ways to compute attention, `ATTENTIONS`, with the one that transformers chooses by itself.

    Args:
        setting: What the rows have in common.
        model: The model, which is left with the attention that it has.
        case: What the rows call `run`.
        run: What is timed.
        read: How many tokens it reads.
        repetitions: How often.
    """
    transformer = model[0].auto_model
    chosen = transformer.config._attn_implementation

    def with_attention(attention: str) -> np.ndarray:
        transformer.set_attn_implementation(attention)
        try:
            return run()
        finally:
            transformer.set_attn_implementation(chosen)

    names = {attention: f"{case}, {attention}" for attention in ATTENTIONS}
    if not is_flash_attn_2_available():
        yield setting.not_measured(
            names.pop("flash_attention_2"), "tokens a second", "tokens/s", "the package flash-attn is not installed"
        )
    ways = {case: run} | {name: partial(with_attention, attention) for attention, name in names.items()}
    passes = yield from _warmed_up(setting, model, ways)
    seconds = paired({name: ways[name] for name in passes}, repetitions, f"{PART}, attention")
    for name in [name for name in passes if name != case]:
        here = partial(setting.row, name)
        yield here("tokens a second", "tokens/s", [read / one for one in seconds[name]])
        yield here(f"{FASTER}{chosen}", "×", ratios(seconds[case], seconds[name]), "which is the default")


def build(config: Qwen3Config, device: str, dtype: str) -> SentenceTransformer:
    """Builds a model as Qwen3-Embedding's makers declare it: last token, then Normalize; its weights are random.

    The weights are made on the device, in `dtype`. The tokenizer is that of the embedded `tiny-qwen3`, which is theirs.
    """
    torch.manual_seed(0)
    transformer = Transformer(str(weights.unpack("tiny-qwen3")))
    with torch.device(device):
        transformer.model = AutoModel.from_config(config, dtype=getattr(torch, dtype))
    modules = [transformer, Pooling(config.hidden_size, "lasttoken"), Normalize()]
    return SentenceTransformer(modules=modules, device=device).eval()


def products(device: str, dtype: str, size: int) -> list[float]:
    """Returns the floating-point operations a second of products of two random square matrices, after a warm-up."""
    left, right = torch.randn(2, size, size, device=device, dtype=getattr(torch, dtype))

    def multiply() -> None:
        for _ in range(PRODUCTS):
            torch.mm(left, right)
        if left.is_cuda:
            torch.cuda.synchronize(device)  # the products are only queued until then

    multiply()
    seconds = paired({"product": multiply}, description="Peak")["product"]
    return [PRODUCTS * 2 * size**3 / one for one in seconds]


def best_batch(model: SentenceTransformer, texts: list[str], batches: Sequence[int]) -> int:
    """Returns the batch at which `encode` is fastest, by one pass over the texts after one to warm up.

    `batches` ascend: where one takes too much memory, larger ones are not tried.
    """
    seconds = {}
    for batch in batches:
        encode = partial(model.encode, texts, batch_size=batch, show_progress_bar=False)
        try:
            encode()
        except torch.OutOfMemoryError:
            break
        start = time.perf_counter()
        encode()
        seconds[batch] = time.perf_counter() - start
    return min(seconds, key=seconds.get, default=DEFAULT_BATCH)


def watch(model: SentenceTransformer, run: Callable[[], np.ndarray]) -> Pass:
    """Runs one way of encoding and counts the slots that it has looked up in the table of token embeddings."""
    slots = 0

    def count(module: nn.Module, inputs: tuple[Tensor]) -> None:
        nonlocal slots
        slots += inputs[0].numel()

    hook = model[0].auto_model.get_input_embeddings().register_forward_pre_hook(count)
    try:
        vectors = run()
        return Pass(vectors, slots)
    finally:
        hook.remove()


def _warmed_up(
    setting: Setting, model: SentenceTransformer, ways: dict[str, Callable[[], np.ndarray]]
) -> Generator[Row, None, dict[str, Pass]]:
    """Runs each way once and returns what it made, by its name; yields a row for each that takes too much memory."""
    passes = {}
    for case, run in ways.items():
        try:
            passes[case] = watch(model, run)
        except torch.OutOfMemoryError:
            yield setting.not_measured(case, "tokens a second", "tokens/s", "the device has too little memory")
    return passes


def _embed(model: SentenceTransformer, texts: list[str], budget: int) -> np.ndarray:
    return embed(model, texts, ("lasttoken",), token_budget=budget)["lasttoken"]  # float32: as the weights are loaded


def _case(budget: int) -> str:
    return f"embed, budget {budget}"


def _title(name: str) -> str:
    return f"{name}'s shape, random weights"
