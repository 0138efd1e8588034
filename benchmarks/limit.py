"""What an encoding cannot do without, replayed alone: its matrix multiplications, and its poolings."""

from collections.abc import Callable

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from helpers.pooling import POOLINGS, pool


def linear_calls(model: SentenceTransformer, run: Callable[[], object]) -> list[tuple[nn.Linear, torch.Size]]:
    """Lists the linear layers that `run` sends something through, in order, with the shape of what it sends."""
    calls: list[tuple[nn.Linear, torch.Size]] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: calls.append((module, inputs[0].shape)))
        for module in model.modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def matrices(model: SentenceTransformer, run: Callable[[], object], dtype: str) -> Callable[[], None]:
    """Returns a function that does the matrix multiplications of `run` and nothing else.

    The weights and biases are the model's, the inputs random, all of them in `dtype` and made beforehand. Attention
    multiplies queries, keys and values outside any linear layer, so these products are not among them.
    """
    kind, calls = getattr(torch, dtype), linear_calls(model, run)
    weights = {
        layer: (layer.weight.to(kind), None if layer.bias is None else layer.bias.to(kind)) for layer, _ in calls
    }
    inputs = {shape: torch.randn(shape, dtype=kind) for shape in {shape for _, shape in calls}}

    @torch.inference_mode()
    def replay() -> None:
        for layer, shape in calls:
            nn.functional.linear(inputs[shape], *weights[layer])

    return replay


def pooled(model: SentenceTransformer, run: Callable[[], object]) -> Callable[[], None]:
    """Returns a function that pools random states of the shapes that `run` makes, by all poolings, and normalizes.

    The first and the last real token of each text count as special.
    """
    masks: list[Tensor] = []
    hook = model[0].auto_model.register_forward_pre_hook(
        lambda module, inputs, named: masks.append(named["attention_mask"].bool()), with_kwargs=True
    )
    try:
        run()
    finally:
        hook.remove()
    width = model.get_embedding_dimension()
    states = {shape: torch.randn(*shape, width) for shape in {mask.shape for mask in masks}}
    specials = [(mask.cumsum(1) == 1) | (mask.flip(1).cumsum(1).flip(1) == 1) for mask in masks]

    @torch.inference_mode()
    def replay() -> None:
        for mask, special in zip(masks, specials, strict=True):
            hidden = states[mask.shape]
            for name in POOLINGS:
                vectors = pool(name, hidden, mask, special=special, first=hidden)
                nn.functional.normalize(vectors, dim=-1).numpy()

    return replay
