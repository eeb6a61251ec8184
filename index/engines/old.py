"""Exact search with FAISS.

Axes: N rows, D width, K results.
"""

from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np

__all__ = ["FlatIndex"]

MARGIN: Final = 16  # rows fetched beyond K, to see whether a tie crosses the cut
SCORE_TOLERANCE: Final = 1e-5  # float32 rounding of a sum over D


class FlatIndex:
    """An immutable set of unit vectors with their ids. Thread-safe."""

    name: Final = "faiss-flat"

    def __init__(self, index: Any) -> None:
        self._index = index
        self.ids = np.asarray(faiss.vector_to_array(index.id_map), dtype=np.int64)  # (N,)
        self.dimension = int(index.d)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @classmethod
    def of(cls, ids: np.ndarray, vectors: np.ndarray) -> "FlatIndex":
        """ids: int64 (N,), unique. vectors: float32 (N, D), length 1."""
        index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
        index.add_with_ids(np.ascontiguousarray(vectors, dtype=np.float32), np.ascontiguousarray(ids, dtype=np.int64))
        return cls(index)

    @classmethod
    def read(cls, path: Path) -> "FlatIndex":
        """Raises RuntimeError when the file is missing or no FAISS file."""
        return cls(faiss.read_index(str(path)))

    def write(self, path: Path) -> None:
        faiss.write_index(self._index, str(path))

    def search(self, query: np.ndarray, top_k: int, among: np.ndarray | None = None) -> list[tuple[int, float]]:
        """The ``top_k`` best (id, cosine), best first, equal scores by id; fewer when there are fewer.

        query: float32 (D,), length 1. among: int64 ids to choose from, unknown ones allowed; None for all.
        """
        available = len(self) if among is None else min(len(self), len(among))
        if not available or top_k < 1:
            return []
        selector = None if among is None else faiss.IDSelectorBatch(np.ascontiguousarray(among, dtype=np.int64))
        fetch = top_k + MARGIN
        while True:
            scores, ids = self._fetch(query, min(fetch, available), selector)
            # A tie at the cut must not be decided by FAISS's heap order.
            tie_may_go_on = len(ids) > top_k and scores[-1] >= scores[top_k - 1] - SCORE_TOLERANCE
            if fetch >= available or not tie_may_go_on:
                break
            fetch *= 4
        return self._rank(query, ids)[:top_k]

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """float32 (len(ids), D)."""
        return np.asarray(self._index.reconstruct_batch(np.ascontiguousarray(ids, dtype=np.int64)))

    def _fetch(self, query: np.ndarray, count: int, selector: Any) -> tuple[np.ndarray, np.ndarray]:
        parameters = None if selector is None else faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        scores, ids = self._index.search(np.ascontiguousarray(query, dtype=np.float32)[None], count, params=parameters)
        found = ids[0] >= 0  # FAISS pads with -1
        return scores[0][found], ids[0][found]

    def _rank(self, query: np.ndarray, ids: np.ndarray) -> list[tuple[int, float]]:
        # Scored again in double precision: FAISS's rounding depends on a row's place in the file, ours does not.
        scores = (self.vectors(ids).astype(np.float64) * query.astype(np.float64)).sum(axis=1)  # (K,)
        order = np.lexsort((ids, -scores))
        return [(int(ids[i]), float(np.clip(scores[i], -1.0, 1.0))) for i in order]
