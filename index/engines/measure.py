"""How much of what exact search finds an index finds.

Axes: N rows, D width, Q queries, K results.
"""

from typing import Final

import faiss
import numpy as np

from .protocol import Sample, VectorIndex

__all__ = ["RECALL_DEPTH", "exact_floor", "recall_of", "sample_queries"]

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


def exact_floor(ids: np.ndarray, vectors: np.ndarray, sample: Sample, depth: int) -> np.ndarray:
    """(Q,): the cosine of the last of the ``depth`` best answers to each query; -inf where there are fewer."""
    count = min(depth + 1, len(ids))
    scores, rows = faiss.knn(sample.queries, vectors, count, metric=faiss.METRIC_INNER_PRODUCT)
    scores = np.where(ids[rows] == sample.own[:, None], -np.inf, scores)
    ordered = -np.sort(-scores, axis=1)  # (Q, count), an own row last
    return ordered[:, depth - 1] if count >= depth else np.full(len(sample), -np.inf)


def recall_of(index: VectorIndex, sample: Sample, floor: np.ndarray, depth: int = RECALL_DEPTH) -> float:
    """The mean share of the exact ``depth`` best that ``index`` finds; ``floor`` from ``exact_floor``."""
    shares = []
    for query, own, least in zip(sample.queries, sample.own, floor, strict=True):
        ids, scores = index.search(query, depth + 1)
        scores = scores[ids != own][:depth]
        expected = min(depth, len(index) - int(own >= 0))
        shares.append(np.count_nonzero(scores >= least - TIE) / expected if expected else 1.0)
    return float(np.mean(shares)) if shares else 1.0
