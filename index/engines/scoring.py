"""Exact scores, the same from every engine.

Axes: N rows, D width, K results.
"""

import numpy as np

__all__ = ["rank"]


def rank(query: np.ndarray, ids: np.ndarray, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``count`` best of candidates, as ``VectorIndex.search`` gives them.

    ids (N,), vectors (N, D) float32. In double precision: an engine's own rounding depends on where a row lies.
    """
    # A sum of products a row, not a matrix product, whose order of summation depends on how many rows there are.
    scores = (vectors.astype(np.float64) * query.astype(np.float64)).sum(axis=1)  # (N,)
    order = np.lexsort((ids, -scores))[:count]
    return np.asarray(ids[order], dtype=np.int64), np.clip(scores[order], -1.0, 1.0)
