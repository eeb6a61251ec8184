"""How much of what exact search finds an index finds.

Axes: N rows, D width, Q queries, K results.
"""

from collections.abc import Sequence
from typing import Final

import faiss
import numpy as np

from .protocol import Sample, VectorIndex

__all__ = ["RECALL_DEPTH", "exact_floor", "exact_floors", "recall_of", "sample_queries"]

RECALL_DEPTH: Final = 10
TIE: Final = 1e-6  # as good as the last of the exact ones counts as found: twins are interchangeable


def sample_queries(ids: np.ndarray, vectors: np.ndarray, others: np.ndarray | None, size: int, seed: int) -> Sample:
    """``size`` queries, half of them rows of the index, half vectors of the other kind, where there are any.

    ids (N,), vectors (N, D), others (M, D). Both are what is asked: an image asks for images, and for reports.
    """
    chosen = np.random.default_rng(seed)
    asked = 0 if others is None else min(size // 2, len(others))
    rows = np.sort(chosen.choice(len(ids), min(size - asked, len(ids)), replace=False))
    queries, own = [np.asarray(vectors[rows])], [ids[rows]]
    if others is not None and asked:
        queries.append(np.asarray(others[np.sort(chosen.choice(len(others), asked, replace=False))]))
        own.append(np.full(asked, -1))
    return Sample(np.concatenate(queries), np.concatenate(own).astype(np.int64))


def exact_floor(vectors: np.ndarray, sample: Sample, depth: int) -> np.ndarray:
    """(Q,): the cosine of the last of the ``depth`` best answers to each query; -inf where there are fewer."""
    return exact_floors(vectors, sample, (depth,))[depth]


def exact_floors(vectors: np.ndarray, sample: Sample, depths: Sequence[int]) -> dict[int, np.ndarray]:
    """``exact_floor`` by depth, of one pass over the vectors."""
    count = min(max(depths), len(vectors))
    scores, _ = faiss.knn(sample.queries, vectors, count, metric=faiss.METRIC_INNER_PRODUCT)
    best = -np.sort(-scores, axis=1)  # (Q, count)
    return {depth: best[:, depth - 1] if depth <= count else np.full(len(sample), -np.inf) for depth in depths}


def recall_of(index: VectorIndex, sample: Sample, floor: np.ndarray, depth: int = RECALL_DEPTH) -> float:
    """The mean share of the exact ``depth`` best that ``index`` finds; ``floor`` from ``exact_floor``.

    A row finds itself too easily: it does not count as found where it asks.
    """
    shares = []
    for query, own, least in zip(sample.queries, sample.own, floor, strict=True):
        ids, scores = index.search(query, depth)
        found = np.count_nonzero(scores[ids != own] >= least - TIE)
        expected = min(depth, len(index)) - int(own >= 0)
        shares.append(min(1.0, found / expected) if expected else 1.0)
    return float(np.mean(shares)) if shares else 1.0
