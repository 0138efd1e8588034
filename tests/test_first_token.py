"""No function of the first token does better than these say."""

import numpy as np

from helpers.first_token import looked_up


def test_a_table_of_two_tokens_by_hand() -> None:
    targets = np.array([[1, 0], [0, 1], [0.6, 0.8]])
    found = looked_up(["The", "The", "A"], targets, ["A", "The", "Never"])
    half = 0.5**0.5
    everything = np.array([1.6, 1.8]) / np.hypot(1.6, 1.8)
    np.testing.assert_allclose(found, [[0.6, 0.8], [half, half], everything])


def test_no_other_function_of_the_first_token_is_closer_to_the_targets() -> None:
    generator = np.random.default_rng(0)
    targets = generator.normal(size=(60, 5))
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    first = generator.integers(8, size=60)
    best = (looked_up(first, targets, first) * targets).sum(axis=1).mean()
    for scale in (0.01, 0.3, 3):
        for _ in range(50):
            table = looked_up(first, targets, range(8)) + scale * generator.normal(size=(8, 5))
            table /= np.linalg.norm(table, axis=1, keepdims=True)
            assert (table[first] * targets).sum(axis=1).mean() < best
