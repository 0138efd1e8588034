"""Measures what a model does with its tokens: who sees whom, what each pooling hears, what padding changes."""

from itertools import cycle, islice

import numpy as np
import pandas as pd
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.util import batch_to_device
from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from helpers.pooling import POOLINGS, pool
from helpers.recipe import pooling_modes

SIDES = ("left", "right")  # where a batch may be padded
STILL = 1e-6  # a vector that moved by less than this share of its length has not moved
HEARD = 1e-5  # the same between texts whose tokens may differ in number, where rounding differs, too
# What is only rounding, by the type of the weights: a difference up to this share of the length, a cosine from here on
DIFFERENCE = {torch.float16: 3e-3, torch.bfloat16: 3e-2}
SAME = {torch.float16: 0.999, torch.bfloat16: 0.995}
DIFFERENCE_ELSE, SAME_ELSE = 1e-4, 0.9999


def run(
    model: SentenceTransformer, batch: BatchEncoding | dict[str, Tensor], attention: str | None = None, **options: bool
) -> ModelOutput:
    """Runs a tokenized batch through a model's transformer.

    Args:
        model: A SentenceTransformer whose first module is a Transformer.
        batch: What its tokenizer returned, `(batch, tokens)` each.
        attention: The implementation to use, such as `eager` or `sdpa`; None for the model's own, which it keeps after.
        options: What else the transformer takes, such as `output_attentions=True`.

    Returns:
        The transformer's output; `last_hidden_state` has the shape `(batch, tokens, dim)`.
    """
    network = model[0].auto_model.eval()
    usual = network.config._attn_implementation  # nothing public tells it
    if attention:
        network.set_attn_implementation(attention)
    try:
        with torch.inference_mode():
            return network(**batch_to_device({**batch}, model.device), **options)
    finally:
        if attention:
            network.set_attn_implementation(usual)


def influence(
    model: SentenceTransformer,
    text: str,
    beside: str | None = None,
    side: str | None = None,
    attention: str | None = None,
) -> pd.DataFrame:
    """Changes each token of a text in turn and measures how far the state at each position moves.

    Every variant runs in a batch of the same shape, so that a state which cannot see the change stays the same to the
    last bit.

    Args:
        model: A SentenceTransformer whose first module is a Transformer.
        text: The text; its special tokens and its padding are changed, too.
        beside: Another text in its batch, whose length decides about padding.
        side: Where the batch is padded, `left` or `right`; None for the tokenizer's own side.
        attention: As in `run`.

    Returns:
        A square table `(tokens, tokens)`: row i, column j tells how far the state at position j moved when token i was
        changed, as a share of its length; exactly 0 where not one bit moved. Both axes carry the pieces of the text.
    """
    batch = _tokenize(model.tokenizer, [text] if beside is None else [text, beside], side)
    before, *after = (states["hidden"][0] for states in _variants(model, batch, attention))
    moved = [(one - before).norm(dim=-1) / before.norm(dim=-1) for one in after]
    slots = zip(batch["input_ids"][0].tolist(), batch["attention_mask"][0].tolist(), strict=True)
    pieces = [(model.tokenizer.decode([token]).strip() or "␣") if real else "PAD" for token, real in slots]
    return pd.DataFrame(torch.stack(moved).numpy(), pieces, pieces)


def attention(moved: pd.DataFrame) -> str:
    """Tells from the table of `influence` which way a model looks.

    Returns:
        `causal` where no state moves when a later token changes, `bidirectional` where all of them do, else `mixed`.
    """
    cells = moved.to_numpy()
    earlier = cells[np.tril_indices_from(cells, -1)] > STILL  # row: the later token, which was changed
    return "mixed" if earlier.any() != earlier.all() else "bidirectional" if earlier.any() else "causal"


def hears(model: SentenceTransformer, text: str) -> dict[str, float]:
    """Tells for each pooling which share of the text's own tokens moves its vector when it is changed."""
    before, *after = _variants(model, _tokenize(model.tokenizer, [text]))
    own = before["special"][0].logical_not().nonzero().flatten().tolist()
    shares = {}
    for name in POOLINGS:
        vector, changed = pool(name, **before), torch.cat([pool(name, **after[position]) for position in own])
        shares[name] = ((changed - vector).norm(dim=-1) > STILL * vector.norm()).double().mean().item()
    return shares


def in_batch(model: SentenceTransformer, texts: list[str]) -> dict[str, dict[str, float]]:
    """Holds each text's vectors alone against those in one padded batch.

    Args:
        model: A SentenceTransformer whose first module is a Transformer.
        texts: Texts of different lengths.

    Returns:
        For padding on the `left` and on the `right`, the lowest cosine over the texts for each pooling; 1 where
        neighbours and padding change nothing.
    """
    states = [_states(model, _tokenize(model.tokenizer, [text])) for text in texts]
    alone = {name: torch.cat([pool(name, **one) for one in states]) for name in POOLINGS}
    lowest = {}
    for side in SIDES:
        batch = _states(model, _tokenize(model.tokenizer, texts, side))
        cosines = {name: torch.cosine_similarity(alone[name], pool(name, **batch)) for name in POOLINGS}
        lowest[side] = {name: cosine.min().item() for name, cosine in cosines.items()}
    return lowest


def encode(model: SentenceTransformer, texts: list[str]) -> Tensor:
    """Returns `model.encode`'s vectors, `(texts, dim)` in float32 on the CPU, all texts in one batch."""
    vectors = model.encode(texts, batch_size=len(texts), show_progress_bar=False, convert_to_tensor=True)
    return vectors.float().cpu()


def unheard(model: SentenceTransformer, words: int) -> list[str]:
    """Tells which of a long text's words, changed one at a time, leave `model.encode`'s vector where it is.

    Args:
        model: Any SentenceTransformer.
        words: How many words the text has.

    Returns:
        Those of `first`, `middle` and `last` that are not heard.
    """
    before = encode(model, [long_text(words)])[0]
    moved = {}
    for place, index in (("first", 0), ("middle", words // 2), ("last", words - 1)):
        after = encode(model, [long_text(words, changed=index)])[0]
        moved[place] = (after - before).norm() > HEARD * before.norm()
    return [place for place, heard in moved.items() if not heard]


def long_text(words: int, changed: int | None = None) -> str:
    """Returns a text of so many words, one of them changed if wanted."""
    text = list(islice(cycle(("time", "water", "house", "day", "book")), words))
    if changed is not None:
        text[changed] = "world"
    return " ".join(text)


def encode_in_batch(model: SentenceTransformer, texts: list[str]) -> dict[str, float]:
    """Does the same for `model.encode`: its lowest cosine for padding on the `left` and on the `right`."""
    own_side = model.tokenizer.padding_side
    alone = torch.cat([encode(model, [text]) for text in texts])
    lowest = {}
    try:
        for side in SIDES:
            model.tokenizer.padding_side = side
            lowest[side] = torch.cosine_similarity(alone, encode(model, texts)).min().item()
    finally:
        model.tokenizer.padding_side = own_side
    return lowest


def effective_pooling(model: SentenceTransformer, texts: list[str]) -> list[str] | None:
    """Finds out by comparison which pooling a model's Pooling module computes.

    Returns:
        Its name, or several where vectors are concatenated; None where no module pools token states, or none of the
        poolings gives its result.
    """
    features = batch_to_device(model.preprocess(texts), model.device)
    with torch.inference_mode():
        for module in model:
            features = module(features)
            if isinstance(module, Pooling):
                break
        else:
            return None
    states = {"hidden": features["token_embeddings"].float(), "mask": features["attention_mask"]}
    names = dict.fromkeys((*pooling_modes(module), *Pooling.POOLING_MODES))  # where several would do, the declared one
    pooled = {name: pool(name, **states) for name in names}
    found = []
    for part in features["sentence_embedding"].float().split(states["hidden"].shape[-1], dim=-1):
        far = {name: ((part - vector).norm() / vector.norm()).item() for name, vector in pooled.items()}
        closest = min(far, key=far.get)
        if far[closest] > DIFFERENCE.get(model.dtype, DIFFERENCE_ELSE):
            return None
        found.append(closest)
    return found


def unknown_share(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> float:
    """Returns which share of the texts' tokens the tokenizer does not know; 1 where it finds no token at all."""
    ids = [token for row in tokenizer(texts, add_special_tokens=False)["input_ids"] for token in row]
    return ids.count(tokenizer.unk_token_id) / len(ids) if ids else 1.0


def is_same(cosine: float, dtype: torch.dtype | None) -> bool:
    """Tells whether two vectors with this cosine differ by the rounding of a type at most."""
    return cosine >= SAME.get(dtype, SAME_ELSE)


def _variants(
    model: SentenceTransformer, batch: BatchEncoding, attention: str | None = None
) -> list[dict[str, Tensor]]:
    """Returns the states of a batch as it is, and of variants: in each one token of the first row is another."""
    variants = [_states(model, batch, attention)]
    for position, substitute in enumerate(_substitutes(model.tokenizer, batch["input_ids"][0].tolist())):
        ids = batch["input_ids"].clone()
        ids[0, position] = substitute
        variants.append(_states(model, {**batch, "input_ids": ids}, attention))
    return variants


def _substitutes(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """Returns for each token another one that is neither special nor unknown."""
    special = {*tokenizer.all_special_ids}
    ordinary = [token for token in tokenizer("stone river")["input_ids"] if token not in special]
    ordinary += [token for token in range(len(tokenizer) // 2, len(tokenizer)) if token not in special][:2]
    return [next(other for other in ordinary if other != token) for token in ids]


def _tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str], side: str | None = None) -> BatchEncoding:
    padded = {"padding": True, "padding_side": side} if side else {}
    return tokenizer(texts, return_tensors="pt", return_special_tokens_mask=True, **padded)


def _states(
    model: SentenceTransformer, batch: BatchEncoding | dict[str, Tensor], attention: str | None = None
) -> dict[str, Tensor]:
    """Runs one batch, `(batch, tokens)`, and returns what `pool` takes, on the CPU."""
    batch = {**batch}
    special = batch.pop("special_tokens_mask")
    output = run(model, batch, attention, output_hidden_states=True)
    states = {"hidden": output.last_hidden_state, "first": output.hidden_states[1]}
    states = {name: state.float().cpu() for name, state in states.items()}
    return states | {"mask": batch["attention_mask"].cpu(), "special": special.bool()}
