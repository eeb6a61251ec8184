"""Which studies come into question, for one request: ranked by their image or by their report, and scored by either.

Axes: K candidates, D width.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import sqlalchemy as sa

from ..generations.parts import OpenPart
from ..tables import Study
from .delta import Delta, in_sorted

__all__ = ["Candidates", "Ranked"]

FIRST_LOOK: Final = 64  # candidates shown to the filter before its share is known
FEW: Final = 20_000  # so few studies that pass are scored one by one
DEEPEST: Final = 2_000  # candidates; where more would be needed, what passes the filter is asked of SQL instead
SPARE: Final = 16
AT_ONCE: Final = 30_000  # ids in one statement: SQLite takes 32,766

Ranked = tuple[np.ndarray, np.ndarray]  # ids (K,) int64, cosines (K,) float64, best first, equal scores by id


class Candidates:
    """The studies of a snapshot that pass the conditions. For one request: not thread-safe."""

    def __init__(
        self,
        connection: sa.Connection,
        parts: Mapping[str, OpenPart | None],
        deltas: Mapping[str, Delta],
        rows: Mapping[str, int],
        conditions: Sequence[sa.ColumnElement[bool]],
    ) -> None:
        self._connection, self._conditions = connection, conditions
        self._parts, self._deltas, self._rows = parts, deltas, rows
        self._among: np.ndarray | None = None  # all that pass, once SQL was asked for them

    def nearest(self, kind: str, query: np.ndarray, count: int) -> Ranked:
        """The ``count`` best of those that have an embedding of the kind; query: float32 (D,), length 1."""
        if not self._conditions:
            return self._best(kind, query, count)
        if self._among is None:
            found = self._shown_to_the_filter(kind, query, count)
            if found is not None:
                return found
            passing = self._connection.execute(sa.select(Study.id).where(*self._conditions)).scalars()
            self._among = np.sort(np.fromiter(passing, dtype=np.int64))
        return self._best(kind, query, count, self._among)

    def scores(self, kind: str, query: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """float64 (K,): the cosines of candidates, ``ids`` ascending; NaN where one has no embedding of the kind."""
        scores = np.full(len(ids), np.nan)
        found, cosines = self._best(kind, query, len(ids), ids)
        scores[np.searchsorted(ids, found)] = cosines
        return scores

    def _shown_to_the_filter(self, kind: str, query: np.ndarray, wanted: int) -> Ranked | None:
        """SQL decides; the question is only whether it is shown the nearest studies, or (None) asked for all that pass.

        Either way the result is that of a search among those that pass.
        """
        count = max(FIRST_LOOK, 2 * wanted)
        while count <= max(DEEPEST, 2 * wanted):
            ids, scores = self._best(kind, query, count)
            passing = _passing(self._connection, ids, self._conditions)
            if np.count_nonzero(passing) >= wanted or len(ids) < count:
                return ids[passing][:wanted], scores[passing][:wanted]
            share = (np.count_nonzero(passing) + 1) / (count + 1)  # of the nearest; not of all, if the two depend
            if share * self._rows[kind] <= FEW:
                break
            count = max(2 * count, int(1.5 * wanted / share))
        return None

    def _best(self, kind: str, query: np.ndarray, count: int, among: np.ndarray | None = None) -> Ranked:
        """The ``count`` best of part and delta."""
        delta, part = self._deltas[kind], self._parts[kind]
        if part is None:
            return delta.index.search(query, count, among)
        found = _unhidden(part, query, count, delta.hidden, among)
        if not len(delta):
            return found
        newer = delta.index.search(query, count, among)
        ids, scores = (np.concatenate(pair) for pair in zip(found, newer, strict=True))
        order = np.lexsort((ids, -scores))[:count]
        return ids[order], scores[order]


def _unhidden(part: OpenPart, query: np.ndarray, count: int, hidden: np.ndarray, among: np.ndarray | None) -> Ranked:
    if not len(hidden):
        return part.index.search(query, count, among)
    if among is not None:
        return part.index.search(query, count, among[~in_sorted(hidden, among)])
    asked = count + min(len(hidden), SPARE)
    while True:
        ids, scores = part.index.search(query, asked)
        shown = ~in_sorted(hidden, ids)
        if np.count_nonzero(shown) >= count or len(ids) < asked:
            return ids[shown][:count], scores[shown][:count]
        asked *= 4


def _passing(connection: sa.Connection, ids: np.ndarray, conditions: Sequence[sa.ColumnElement[bool]]) -> np.ndarray:
    """bool (K,): which studies the conditions hold for."""
    passing: list[int] = []
    for start in range(0, len(ids), AT_ONCE):
        some = Study.id.in_(ids[start : start + AT_ONCE].tolist())
        passing += connection.execute(sa.select(Study.id).where(some, *conditions)).scalars()
    return in_sorted(np.sort(np.array(passing, dtype=np.int64)), ids)
