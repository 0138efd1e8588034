"""What the first token alone can tell: how far any function of it gets, however it was made."""

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd


def looked_up(first: Sequence[Hashable], targets: np.ndarray, others: Sequence[Hashable]) -> np.ndarray:
    """Returns what the best function of the first token on some texts makes of others: a table, looked up.

    Each token gets the direction of the sum of its texts' targets, which is the vector with the highest mean cosine to
    them; so looked up for the same texts, the table shows how close to their targets any function of the first token
    can come. A token that no text begins with gets the direction of all targets.

    Args:
        first: The first token of each text that the table is made from.
        targets: Vectors `(texts, dim)` of length 1.
        others: The first tokens to look up.

    Returns:
        Vectors `(others, dim)` of length 1.
    """
    table = pd.DataFrame(targets.astype(np.float64)).groupby(list(first)).sum().reindex(others)
    found = table.fillna(pd.Series(targets.sum(axis=0), table.columns)).to_numpy()
    return found / np.linalg.norm(found, axis=1, keepdims=True)
