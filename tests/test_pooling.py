"""Pooling against hand-computed values, a NumPy loop, sentence-transformers, and whatever hypothesis invents."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.modules import Pooling

from helpers.pooling import POOLINGS, pool

SHARED = [name for name in POOLINGS if name in Pooling.POOLING_MODES]
# Two tokens (1, 10) and (3, -10) behind or before one slot of padding, which holds rubbish.
TOKENS = [[1.0, 10.0], [3.0, -10.0]]
RUBBISH = [float("nan"), float("inf")]
BY_HAND = {
    "cls": [1, 10],
    "mean": [2, 0],
    "mean_content": [3, -10],
    "max": [3, 10],
    "mean_sqrt_len_tokens": [4 / 2**0.5, 0],
    "weightedmean": [(1 * 1 + 2 * 3) / 3, (1 * 10 + 2 * -10) / 3],
    "lasttoken": [3, -10],
    "first_last_avg": [2.5, 0.5],
}
FIRST = [[2.0, 11.0], [4.0, -9.0]]


def states(side: str, rows: list, rubbish: list) -> torch.Tensor:
    padded = {"left": [rubbish, *rows], "right": [*rows, rubbish], "none": rows, "both": [rubbish, *rows, rubbish]}
    return torch.tensor([padded[side]])


@pytest.mark.parametrize("side", ["left", "right", "none", "both"])
@pytest.mark.parametrize("name", POOLINGS)
def test_values_computed_by_hand(name: str, side: str) -> None:
    mask = states(side, [[1], [1]], [0]).squeeze(-1)
    special = states(side, [[1], [0]], [1]).squeeze(-1)
    hidden, first = states(side, TOKENS, RUBBISH), states(side, FIRST, RUBBISH)
    vector = pool(name, hidden, mask, special=special, first=first)
    torch.testing.assert_close(vector, torch.tensor([BY_HAND[name]], dtype=torch.float32))


@pytest.mark.parametrize("name", POOLINGS)
def test_a_single_token_is_its_own_sentence(name: str) -> None:
    hidden = torch.tensor([[[9.0, 9.0], [4.0, -5.0]]])
    mask = torch.tensor([[0, 1]])
    torch.testing.assert_close(pool(name, hidden, mask, first=hidden), torch.tensor([[4.0, -5.0]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", POOLINGS)
def test_any_dtype_is_kept_and_summed_without_overflow(name: str, dtype: torch.dtype) -> None:
    hidden = torch.full((1, 1000, 2), 100.0, dtype=dtype)  # the sum, 100,000, overflows float16
    vector = pool(name, hidden, torch.ones(1, 1000), first=hidden)
    assert vector.dtype == dtype
    expected = 100 * 1000**0.5 if name == "mean_sqrt_len_tokens" else 100
    torch.testing.assert_close(vector.double(), torch.full((1, 2), expected).double(), rtol=1e-2, atol=0)


@pytest.mark.parametrize("name", POOLINGS)
def test_float64_keeps_its_precision(name: str) -> None:
    hidden = torch.rand(2, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 7, dtype=torch.int64)
    expected = by_loop(name, hidden.numpy(), mask.numpy(), 0 * mask.numpy(), hidden.numpy())
    np.testing.assert_allclose(pool(name, hidden, mask, first=hidden), expected, rtol=1e-14)


@pytest.mark.parametrize("shape", [(4,), (1, 3, 4), (2, 3, 5)])
def test_extra_states_of_another_shape_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="first has the shape"):
        pool("first_last_avg", torch.ones(2, 3, 4), torch.ones(2, 3), first=torch.ones(shape))
    with pytest.raises(ValueError, match="special has the shape"):
        pool("mean_content", torch.ones(2, 3, 4), torch.ones(2, 3), special=torch.zeros(shape))


@st.composite
def batches(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token states, a mask padded on either side, special tokens that leave some content, and first-layer states."""
    rows, tokens, dim = (draw(st.integers(1, most)) for most in (4, 7, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    mask = torch.zeros(rows, tokens, dtype=torch.int64)
    special = torch.zeros(rows, tokens, dtype=torch.int64)
    for row in range(rows):
        start = draw(st.integers(0, tokens - 1))
        stop = draw(st.integers(start + 1, tokens))
        mask[row, start:stop] = 1
        special[row, start] = int(stop - start > 1)
    hidden, first = torch.randn(2, rows, tokens, dim, generator=generator)
    return hidden, mask, special, first


def by_loop(name: str, hidden: np.ndarray, mask: np.ndarray, special: np.ndarray, first: np.ndarray) -> np.ndarray:
    """An independent reading of each definition: one row, one token at a time."""
    vectors = []
    for row in range(len(hidden)):
        real = [token for token in range(hidden.shape[1]) if mask[row, token]]
        tokens = [hidden[row, token].astype(float) for token in real]
        count = len(tokens)
        content = [hidden[row, token] for token in real if not special[row, token]]
        both = [(first[row, token] + hidden[row, token]) / 2 for token in real]
        vectors.append(
            {
                "cls": tokens[0],
                "lasttoken": tokens[-1],
                "max": np.max(tokens, axis=0),
                "mean": sum(tokens) / count,
                "mean_sqrt_len_tokens": sum(tokens) / count**0.5,
                "weightedmean": np.average(tokens, axis=0, weights=range(1, count + 1)),
                "mean_content": np.mean(content, axis=0),
                "first_last_avg": sum(both) / count,
            }[name]
        )
    return np.stack(vectors)


@pytest.mark.parametrize("name", POOLINGS)
@given(batch=batches())
def test_agrees_with_a_numpy_loop(name: str, batch: tuple) -> None:
    hidden, mask, special, first = batch
    vector = pool(name, hidden, mask, special=special, first=first)
    np.testing.assert_allclose(vector, by_loop(name, *(one.numpy() for one in batch)), atol=1e-5)


@pytest.mark.parametrize("name", SHARED)
@given(batch=batches())
def test_agrees_with_sentence_transformers(name: str, batch: tuple) -> None:
    hidden, mask, *_ = batch
    theirs = Pooling(hidden.shape[-1], pooling_mode=name)({"token_embeddings": hidden, "attention_mask": mask})
    torch.testing.assert_close(pool(name, hidden, mask), theirs["sentence_embedding"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", POOLINGS)
@given(batch=batches(), left=st.integers(0, 3), right=st.integers(0, 3))
def test_padding_changes_nothing(name: str, batch: tuple, left: int, right: int) -> None:
    hidden, mask, special, first = batch
    pad = torch.nn.functional.pad
    more = [pad(one, (0, 0, left, right), value=float("nan")) for one in (hidden, first)]
    masks = [pad(one, (left, right), value=0) for one in (mask, special)]
    padded = pool(name, more[0], masks[0], special=masks[1], first=more[1])
    torch.testing.assert_close(padded, pool(name, hidden, mask, special=special, first=first))


@pytest.mark.parametrize("name", POOLINGS)
def test_a_row_of_padding_is_an_error_that_names_the_row(name: str) -> None:
    hidden = torch.ones(2, 3, 4)
    with pytest.raises(ValueError, match="Row 1 of the batch holds nothing but padding"):
        pool(name, hidden, torch.tensor([[1, 0, 0], [0, 0, 0]]), first=hidden)


def test_mean_content_without_content_is_an_error() -> None:
    with pytest.raises(ValueError, match="Row 0 .* nothing but padding and special tokens"):
        pool("mean_content", torch.ones(1, 2, 4), torch.ones(1, 2), special=torch.ones(1, 2))


def test_an_unknown_name_lists_the_poolings() -> None:
    with pytest.raises(ValueError, match="Unknown pooling 'average'; choose one of cls, mean, .*first_last_avg"):
        pool("average", torch.ones(1, 2, 4), torch.ones(1, 2))


def test_shapes_that_disagree_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 4\) and \(1, 3\)"):
        pool("mean", torch.ones(1, 2, 4), torch.ones(1, 3))


def test_first_last_avg_needs_the_first_layer() -> None:
    with pytest.raises(ValueError, match=r"hidden_states\[1\]"):
        pool("first_last_avg", torch.ones(1, 2, 4), torch.ones(1, 2))
