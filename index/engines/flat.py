"""Exact search: every vector is read for every query.

One thread a query: requests run side by side already, and a matrix product that takes every core waits for its own
threads as soon as something else runs. Axes: N rows, D width, K results.
"""

import shutil
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from .arrays import IDS, VECTORS, open_arrays, write_array
from .protocol import Place, Sample
from .scoring import rank

__all__ = ["FlatEngine", "FlatIndex"]

BLOCK: Final = 32_768  # rows scored at once
SCORE_TOLERANCE: Final = 1e-5  # float32 rounding of a sum over D
GROUP: Final = 32


class FlatIndex:
    """Vectors in memory or mapped. Thread-safe.

    ids: int64 (N,), ascending, unique. vectors: float32 (N, D), length 1.
    """

    def __init__(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        self.ids = ids.view(np.ndarray)  # numpy's own class for mapped arrays makes every slice slower
        self.matrix = vectors.view(np.ndarray)
        self.dimension = int(vectors.shape[1])

    def __len__(self) -> int:
        return len(self.ids)

    def search(self, query: np.ndarray, count: int, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As ``VectorIndex.search``."""
        rows = None if among is None else self._rows(among)
        best = self._best(query, count, rows) if count > 0 else np.empty(0, np.int64)
        return rank(query, self.ids[best], self.matrix[best], count)

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """As ``VectorIndex.vectors``."""
        rows = self._rows(ids)
        if len(rows) != len(ids):
            raise KeyError(f"{len(ids) - len(rows)} of {len(ids)} ids are not in the index")
        return np.asarray(self.matrix[rows])

    def at(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ids and vectors by position, 0 to N - 1."""
        return self.ids[rows], self.matrix[rows]

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        """Positions of those ids that are there, in the order given."""
        if not len(self.ids):
            return np.empty(0, np.int64)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return places[self.ids[places] == ids]

    def _best(self, query: np.ndarray, count: int, rows: np.ndarray | None) -> np.ndarray:
        """Positions of the ``count`` best in single precision, and of all that rounding may have put behind them."""
        kept, scores, floor = np.empty(0, np.int64), np.empty(0, np.float32), -np.inf
        for positions, block in self._blocks(rows):
            new = np.vecdot(block, query)  # (rows,)
            floor = max(floor, _nth_at_least(new, count) - SCORE_TOLERANCE)
            above = np.flatnonzero(new >= floor)
            kept = np.concatenate([kept, positions.start + above if rows is None else rows[positions][above]])
            scores = np.concatenate([scores, new[above]])
            if len(kept) > count:
                floor = max(floor, np.partition(scores, -count)[-count] - SCORE_TOLERANCE)
                kept, scores = kept[scores >= floor], scores[scores >= floor]
        return kept

    def _blocks(self, rows: np.ndarray | None) -> Iterator[tuple[slice, np.ndarray]]:
        for start in range(0, len(self) if rows is None else len(rows), BLOCK):
            part = slice(start, min(start + BLOCK, len(self)))
            yield part, self.matrix[part if rows is None else rows[part]]


def _nth_at_least(scores: np.ndarray, count: int) -> float:
    """A bound from below of the ``count``-th highest score, found without sorting all of them."""
    groups = len(scores) // GROUP
    if count > groups:
        return -np.inf
    highest = scores[: groups * GROUP].reshape(GROUP, groups).max(axis=0)  # (groups,)
    return float(np.partition(highest, -count)[-count])


class FlatEngine:
    name: Final = "flat"
    local: Final = True

    def build(self, place: Place, ids: np.ndarray, vectors: np.ndarray, sample: Sample) -> Mapping[str, Any]:
        write_array(place.folder / IDS, ids)
        write_array(place.folder / VECTORS, vectors)
        return {}

    def open(self, place: Place) -> FlatIndex:
        return FlatIndex(*open_arrays(place.folder))

    def remove(self, place: Place) -> None:
        shutil.rmtree(place.folder, ignore_errors=True)
