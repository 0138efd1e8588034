"""Pooling: one vector for each token goes in, one vector for each sentence comes out.

Every function takes the token states `hidden` of shape `(batch, tokens, dim)` and the attention `mask` of shape
`(batch, tokens)`, 1 or True at real tokens and 0 or False at padding, and returns `(batch, dim)` in the dtype of
`hidden`. Padding may be left, right, both or absent; what stands in a padded slot, even NaN, never reaches the
result. Half-precision states are summed in float32. A row without any real token is an error, because no vector
could stand for it.

The names are those of sentence-transformers' `Pooling`, plus `mean_content` and `first_last_avg`.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def cls(hidden: Tensor, mask: Tensor) -> Tensor:
    """Takes the state of the first real token: `[CLS]` in BERT, `<s>` in XLM-R, an ordinary token in a decoder."""
    real = _real_tokens(hidden, mask)
    return _take(hidden, real.int().argmax(dim=1))


def lasttoken(hidden: Tensor, mask: Tensor) -> Tensor:
    """Takes the state of the last real token, the only one that has seen the whole text in a causal decoder."""
    real = _real_tokens(hidden, mask)
    return _take(hidden, real.shape[1] - 1 - real.flip(1).int().argmax(dim=1))


def mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Averages the states of all real tokens, special tokens included (SBERT, arXiv 1908.10084)."""
    return _weighted_mean(hidden, _real_tokens(hidden, mask))


def mean_content(hidden: Tensor, mask: Tensor, special: Tensor | None = None) -> Tensor:
    """Averages the states of the real tokens that the text itself produced.

    Args:
        hidden: Token states, `(batch, tokens, dim)`.
        mask: Attention mask, `(batch, tokens)`.
        special: True at the tokens that the tokenizer added, `(batch, tokens)`; None where it adds none, which makes
            this the plain mean.

    Raises:
        ValueError: A row holds nothing but padding and special tokens, as an empty text does.
    """
    real = _real_tokens(hidden, mask)
    if special is None:
        return mean(hidden, mask)
    _require_shape("special", special, mask.shape)
    content = real & ~special.bool()
    _require_tokens(content, "nothing but padding and special tokens")
    return mean(hidden, content)


def max(hidden: Tensor, mask: Tensor) -> Tensor:  # noqa: A001 - the field's name for it
    """Takes the largest value of each dimension over the real tokens."""
    real = _real_tokens(hidden, mask)
    return hidden.masked_fill(~real.unsqueeze(-1), float("-inf")).amax(dim=1)


def mean_sqrt_len_tokens(hidden: Tensor, mask: Tensor) -> Tensor:
    """Divides the sum over the real tokens by the square root of their number: the direction of the mean."""
    real = _real_tokens(hidden, mask)
    summed = _weighted_sum(hidden, real)
    return (summed / real.sum(dim=1, keepdim=True).to(summed.dtype).sqrt()).to(hidden.dtype)


def weightedmean(hidden: Tensor, mask: Tensor, skipped: int = 0) -> Tensor:
    """Averages with weights 1, 2, 3, … by rank among the real tokens (SGPT, arXiv 2202.08904).

    In a causal decoder later tokens have seen more, so they count for more.

    Args:
        hidden: Token states, `(batch, tokens, dim)`.
        mask: Attention mask, `(batch, tokens)`.
        skipped: Real tokens before the first one in `mask`, such as a prompt's that is not pooled; they keep their
            ranks, as in sentence-transformers.
    """
    real = _real_tokens(hidden, mask)
    return _weighted_mean(hidden, (real.cumsum(dim=1) + skipped) * real)


def first_last_avg(hidden: Tensor, mask: Tensor, first: Tensor) -> Tensor:
    """Averages the states of the first and the last layer over the real tokens (BERT-whitening, arXiv 2103.15316).

    Args:
        hidden: The last layer's states, `(batch, tokens, dim)`.
        mask: Attention mask, `(batch, tokens)`.
        first: The states behind the first layer, `hidden_states[1]` in transformers, `(batch, tokens, dim)`.
    """
    _require_shape("first", first, hidden.shape)
    return mean(hidden / 2 + first / 2, mask)  # halved first: the sum of two can overflow float16


POOLINGS: dict[str, Callable[..., Tensor]] = {
    "cls": cls,
    "mean": mean,
    "mean_content": mean_content,
    "max": max,
    "mean_sqrt_len_tokens": mean_sqrt_len_tokens,
    "weightedmean": weightedmean,
    "lasttoken": lasttoken,
    "first_last_avg": first_last_avg,
}


def pool(
    name: str,
    hidden: Tensor,
    mask: Tensor,
    *,
    special: Tensor | None = None,
    first: Tensor | None = None,
    skipped: int = 0,
) -> Tensor:
    """Pools by name.

    Args:
        name: One of `POOLINGS`.
        hidden: Token states, `(batch, tokens, dim)`.
        mask: Attention mask, `(batch, tokens)`.
        special: True at the tokens that the tokenizer added, `(batch, tokens)`; only `mean_content` reads it.
        first: The first layer's states, `(batch, tokens, dim)`; `first_last_avg` needs it.
        skipped: Real tokens before the first one in `mask`; only `weightedmean` counts them.

    Returns:
        Sentence vectors, `(batch, dim)`, not normalized.

    Raises:
        ValueError: The name is unknown, the shapes disagree, a row has no real token, or `first` is missing.
    """
    function = POOLINGS[check_name(name)]
    if function is mean_content:
        return mean_content(hidden, mask, special)
    if function is weightedmean:
        return weightedmean(hidden, mask, skipped)
    if function is first_last_avg:
        if first is None:
            raise ValueError("first_last_avg needs the first layer's states: pass first=hidden_states[1].")
        return first_last_avg(hidden, mask, first)
    return function(hidden, mask)


def check_name(name: str) -> str:
    """Returns `name` if it is a pooling.

    Raises:
        ValueError: It is not; the message lists the poolings that there are.
    """
    if name not in POOLINGS:
        raise ValueError(f"Unknown pooling {name!r}; choose one of {', '.join(POOLINGS)}.")
    return name


def _real_tokens(hidden: Tensor, mask: Tensor) -> Tensor:
    """Returns the mask as booleans, or says why it cannot be used."""
    if hidden.ndim != 3 or mask.shape != hidden.shape[:2]:
        raise ValueError(
            "Pooling needs hidden of shape (batch, tokens, dim) and mask of shape (batch, tokens); "
            f"got {tuple(hidden.shape)} and {tuple(mask.shape)}."
        )
    real = mask.bool()
    _require_tokens(real, "nothing but padding")
    return real


def _require_tokens(kept: Tensor, otherwise: str) -> None:
    empty = (~kept.any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"Row {empty[0]} of the batch holds {otherwise}, so there is no token to pool.")


def _take(hidden: Tensor, index: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), index]


def _require_shape(name: str, given: Tensor, shape: torch.Size) -> None:
    if given.shape != shape:
        raise ValueError(f"{name} has the shape {tuple(given.shape)}, but {tuple(shape)} is needed.")


def _weighted_mean(hidden: Tensor, weights: Tensor) -> Tensor:
    return (_weighted_sum(hidden, weights) / weights.sum(dim=1, keepdim=True)).to(hidden.dtype)


def _weighted_sum(hidden: Tensor, weights: Tensor) -> Tensor:
    """Sums `weights[b, t] * hidden[b, t]` over the tokens, in float32 or wider, skipping zero weights."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    states = hidden.to(wide).masked_fill((weights == 0).unsqueeze(-1), 0)
    return (states * weights.to(wide).unsqueeze(-1)).sum(dim=1)
