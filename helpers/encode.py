"""One forward pass, every pooling: texts in, one NumPy array for each pooling out."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from torch import Tensor
from tqdm.auto import tqdm

from helpers.pooling import check_name, pool

SECONDS_BEFORE_PROGRESS_BAR = 2
WINDOW = 4096  # texts that are tokenized, and sorted by length, at a time: what bounds the memory
Arithmetic = Literal["float32", "bfloat16"]


class TruncationWarning(UserWarning):
    """Some texts were longer than the model can read, and their ends were cut off.

    Attributes:
        cut: How many texts that happened to.
        lost: How many tokens were cut off in all.
    """

    def __init__(self, cut: int, texts: int, limit: int, lost: int) -> None:
        super().__init__(cut, texts, limit, lost)
        self.cut = cut
        self.lost = lost

    def __str__(self) -> str:
        cut, texts, limit, lost = self.args
        return f"{cut} of {texts} texts were cut to the model's {limit} tokens; {lost} tokens were lost."


class NoTokenError(ValueError):
    """A text yields no token to pool.

    Attributes:
        row: Its place among the texts, from 0.
        text: The text.
    """

    def __init__(self, row: int, text: str) -> None:
        super().__init__(row, text)
        self.row = row
        self.text = text

    def __str__(self) -> str:
        return f"Text {self.row} ({self.text!r}) gives no token to pool; leave such texts out."


def embed(
    model: SentenceTransformer,
    texts: Sequence[str],
    poolings: Sequence[str] = ("cls", "mean"),
    normalize: bool = True,
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
    dtype: Arithmetic = "float32",
    token_budget: int = 1024,
) -> dict[str, np.ndarray]:
    """Encodes each text once and pools its token states in every way asked for.

    Texts are sorted by token count and batched so that no padded batch holds more than `token_budget` tokens; a text's
    vectors do not depend on its neighbours (to 1e-5 in float32). Modules behind the model's own pooling, such as
    Dense, are not applied: the vectors are poolings of the last layer's states, or what `first_last_avg` makes of two.

    Args:
        model: Any SentenceTransformer whose first module is a Transformer.
        texts: The texts, N of them.
        poolings: Names from `pooling.POOLINGS`.
        normalize: Whether to scale each vector to length 1.
        prompt: Text to put before each text, as in `SentenceTransformer.encode`.
        prompt_name: Name of one of the model's own prompts; without either, its default prompt is used if it has one.
            As in sentence-transformers, prompt tokens are pooled unless the model's Pooling has `include_prompt=False`.
        dtype: Arithmetic of the forward pass: float32 means that of the weights as loaded; bfloat16 runs under autocast
            and leaves the model as it is. Pooling itself is always in float32. Where the processor has instructions
            for it, bfloat16 is faster, and the poolings compare alike; but a text's cosines then depend on its
            neighbours, to about 1e-3: take it for search and for drafts, and float32 for numbers to quote or cut at.
        token_budget: Most tokens, padding included, in one batch; a longer text gets a batch of its own.

    Returns:
        `{pooling: float32 array (N, dim)}`, rows in the order of `texts`. Memory beyond it does not grow with N.

    Raises:
        ValueError: A pooling, prompt name or dtype is unknown, or the model's first module is no Transformer.
        NoTokenError: A text yields no token to pool.
        TypeError: `texts` is a single string, or one of the texts is not a string.

    Warns:
        TruncationWarning: How many texts were longer than `model.max_seq_length`, and how many tokens that lost.
    """
    poolings = [check_name(name) for name in dict.fromkeys(poolings)]
    if dtype not in get_args(Arithmetic):
        raise ValueError(f"dtype {dtype!r} is unknown; use one of {', '.join(get_args(Arithmetic))}.")
    _check_texts(texts)
    if not isinstance(model[0], Transformer):
        raise ValueError(f"embed needs token states, but this model starts with {type(model[0]).__name__}.")
    prompt = model._resolve_prompt(prompt, prompt_name) or ""
    unpooled = unpooled_prompt_tokens(model, prompt)
    vectors = {name: np.empty((len(texts), model[0].get_embedding_dimension()), np.float32) for name in poolings}
    cut = lost = 0
    autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=dtype == "bfloat16")
    progress = progress_bar("Encoding", "text", len(texts))
    model.eval()
    with progress, torch.inference_mode(), autocast:
        for start in range(0, len(texts), WINDOW):
            window = texts[start : start + WINDOW]
            tokens, losses = _tokenize(model, [prompt + text for text in window])
            cut += len(losses)
            lost += sum(losses)
            for row, special in enumerate(tokens["special_tokens_mask"]):
                pooled = special[unpooled:]
                if not pooled or ("mean_content" in poolings and all(pooled)):
                    raise NoTokenError(start + row, window[row])
            for rows in _batches([len(ids) for ids in tokens["input_ids"]], token_budget):
                batch = {key: [tokens[key][row] for row in rows] for key in tokens}
                for name, made in _pool_batch(model, batch, poolings, unpooled).items():
                    made = torch.nn.functional.normalize(made, dim=-1) if normalize else made
                    vectors[name][start + rows] = made.cpu().numpy()
                progress.update(len(rows))
    if cut:
        warnings.warn(TruncationWarning(cut, len(texts), model.max_seq_length, lost), stacklevel=2)
    return vectors


def progress_bar(said: str, unit: str, total: int | None = None) -> tqdm:
    """Returns a bar that shows where work takes more than `SECONDS_BEFORE_PROGRESS_BAR`, and leaves nothing behind."""
    return tqdm(
        desc=said,
        unit=unit,
        total=total,
        delay=SECONDS_BEFORE_PROGRESS_BAR,
        leave=False,
        disable=bool(os.environ.get("TQDM_DISABLE")),  # tqdm reads it itself, but not in a notebook
    )


@contextmanager
def truncations() -> Iterator[list[TruncationWarning]]:
    """Collects the truncation warnings that are given inside, in place of showing them; all others are shown."""
    found: list[TruncationWarning] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield found
    for one in caught:
        if isinstance(one.message, TruncationWarning):
            found.append(one.message)
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise TypeError("texts is a single string; put it into a list.")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"Text {row} is {text!r}, a {type(text).__name__}; every text must be a string.")


def _tokenize(model: SentenceTransformer, texts: list[str]) -> tuple[dict[str, list[list[int]]], list[int]]:
    """Tokenizes without padding, and cuts at the model's limit: returns the tokens, and how many each cut text lost."""
    tokenizer, limit = model.tokenizer, model.max_seq_length
    tokens = tokenizer(texts, truncation=True, return_special_tokens_mask=True)  # at `limit`, if the tokenizer has one
    full = [text for text, ids in zip(texts, tokens["input_ids"], strict=True) if len(ids) == limit]
    whole = tokenizer(full, truncation=False, verbose=False)["input_ids"] if full else []
    return dict(tokens), [len(ids) - limit for ids in whole if len(ids) > limit]


def unpooled_prompt_tokens(model: SentenceTransformer, prompt: str) -> int:
    """Counts the leading tokens that the model's own Pooling leaves out: none, unless it has `include_prompt=False`."""
    if not prompt or all(module.include_prompt for module in model if isinstance(module, Pooling)):
        return 0
    tokens = model.tokenizer(prompt, return_special_tokens_mask=True)
    return len(tokens["input_ids"]) - tokens["special_tokens_mask"][-1]


def _batches(lengths: list[int], token_budget: int) -> Iterator[np.ndarray]:
    """Yields the rows of each batch, the longest texts first: at most `token_budget` tokens with their padding."""
    order = np.argsort(lengths, kind="stable")[::-1]
    while len(order):
        size = max(1, token_budget // lengths[order[0]])
        yield order[:size]
        order = order[size:]


def _pool_batch(
    model: SentenceTransformer, tokens: dict[str, list[list[int]]], poolings: list[str], unpooled: int
) -> dict[str, Tensor]:
    """Pads the tokens, runs the transformer once and returns float32 vectors `(batch, dim)` for each pooling."""
    batch = model.tokenizer.pad(tokens, return_tensors="pt").to(model.device)
    special = batch.pop("special_tokens_mask")
    output = model[0].auto_model(**batch, output_hidden_states="first_last_avg" in poolings)
    mask = batch["attention_mask"].bool()
    mask &= mask.cumsum(dim=1) > unpooled
    states = {"hidden": output.last_hidden_state.float(), "mask": mask, "special": special.bool(), "skipped": unpooled}
    if "first_last_avg" in poolings:
        states["first"] = output.hidden_states[1].float()
    return {name: pool(name, **states) for name in poolings}
