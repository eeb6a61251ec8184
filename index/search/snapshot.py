"""The searchable archive as it is at one moment: a generation, and what was added and removed since.

Axes: K candidates, D width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import sqlalchemy as sa

from model.errors import EmptyIndex, InputError, ModelMismatch

from ..catalog import Catalog
from ..generations.parts import OpenPart
from ..generations.table import GenerationInfo
from ..records import StudyRecord, read_records
from ..tables import Study
from .delta import Delta, in_sorted
from .filters import NO_FILTERS, Filters

__all__ = ["Hit", "Snapshot"]

FIRST_LOOK: Final = 64  # candidates shown to the filter before its share is known
FEW: Final = 20_000  # so few studies that pass are scored one by one
DEEPEST: Final = 2_000  # candidates; where more would be needed, what passes the filter is asked of SQL instead
SPARE: Final = 16
AT_ONCE: Final = 30_000  # ids in one statement: SQLite takes 32,766

_Ranked = tuple[np.ndarray, np.ndarray]  # ids (K,) int64, cosines (K,) float64, best first


@dataclass(frozen=True)
class Hit:
    """rank: from 1. score: cosine, -1..1."""

    rank: int
    score: float
    study: StudyRecord


@dataclass(frozen=True)
class Snapshot:
    """Immutable; what happens later is in a later one. Thread-safe."""

    catalog: Catalog
    info: GenerationInfo
    parts: Mapping[str, OpenPart | None]
    deltas: Mapping[str, Delta]

    def search(
        self,
        kind: Literal["image", "report"],
        vector: np.ndarray,
        top_k: int,
        filters: Filters = NO_FILTERS,
        fingerprint: str | None = None,
    ) -> list[Hit]:
        """The ``top_k`` studies whose image or report embedding is nearest, best first, equal scores by age of row.

        vector: float (D,), any length above 0. fingerprint: the model that made it, checked when given.
        Raises EmptyIndex (nothing of that kind is searchable), ModelMismatch, InputError (bad-query), ArchiveError
        (index-file-corrupt) once a file was found to be another than was written.
        """
        if not self.rows(kind):
            raise EmptyIndex(f"No {kind} embeddings are searchable yet. Run `alta embed`, then `alta index build`.")
        query = _unit_query(vector, self.info, fingerprint)
        if top_k < 1:
            raise InputError(f"top_k must be 1 or more, found {top_k}.", "bad-query")
        self.require_whole()
        conditions = filters.conditions()
        with self.catalog.session() as session:
            connection = session.connection()
            if conditions:
                ids, scores = self._filtered(connection, kind, query, top_k, conditions)
            else:
                ids, scores = self._best(kind, query, top_k)
            records = read_records(connection, ids.tolist())
        found = [
            (score, records[study_id])
            for study_id, score in zip(ids.tolist(), scores.tolist(), strict=True)
            if study_id in records
        ]
        return [Hit(rank, score, study) for rank, (score, study) in enumerate(found, start=1)]

    def require_whole(self) -> None:
        """Raises ArchiveError (index-file-corrupt, index-file-missing) once a file was found to be another."""
        for part in self.parts.values():
            if part is not None:
                part.require_whole()

    def rows(self, kind: str) -> int:
        """How many studies can be found."""
        delta = self.deltas[kind]
        return self.info.rows(kind) - len(delta.hidden) + len(delta)

    def _filtered(
        self,
        connection: sa.Connection,
        kind: str,
        query: np.ndarray,
        top_k: int,
        conditions: list[sa.ColumnElement[bool]],
    ) -> _Ranked:
        """SQL decides; the question is only whether it is shown the nearest studies, or asked for all that pass.

        Either way the result is that of a search among those that pass.
        """
        rows = self.rows(kind)
        count = max(FIRST_LOOK, 2 * top_k)
        while count <= max(DEEPEST, 2 * top_k):
            ids, scores = self._best(kind, query, count)
            passing = _passing(connection, ids, conditions)
            if np.count_nonzero(passing) >= top_k or len(ids) < count:
                return ids[passing][:top_k], scores[passing][:top_k]
            share = (np.count_nonzero(passing) + 1) / (count + 1)  # of the nearest; not of all, if the two depend
            if share * rows <= FEW:
                break
            count = max(2 * count, int(1.5 * top_k / share))
        among = np.fromiter(connection.execute(sa.select(Study.id).where(*conditions)).scalars(), dtype=np.int64)
        return self._best(kind, query, top_k, np.sort(among))

    def _best(self, kind: str, query: np.ndarray, count: int, among: np.ndarray | None = None) -> _Ranked:
        """The ``count`` best of part and delta."""
        delta, part = self.deltas[kind], self.parts[kind]
        if part is None:
            return delta.index.search(query, count, among)
        found = _unhidden(part, query, count, delta.hidden, among)
        if not len(delta):
            return found
        newer = delta.index.search(query, count, among)
        ids, scores = (np.concatenate(pair) for pair in zip(found, newer, strict=True))
        order = np.lexsort((ids, -scores))[:count]
        return ids[order], scores[order]


def _unhidden(part: OpenPart, query: np.ndarray, count: int, hidden: np.ndarray, among: np.ndarray | None) -> _Ranked:
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


def _passing(connection: sa.Connection, ids: np.ndarray, conditions: list[sa.ColumnElement[bool]]) -> np.ndarray:
    """bool (K,): which studies the conditions hold for."""
    passing: list[int] = []
    for start in range(0, len(ids), AT_ONCE):
        some = Study.id.in_(ids[start : start + AT_ONCE].tolist())
        passing += connection.execute(sa.select(Study.id).where(some, *conditions)).scalars()
    return in_sorted(np.sort(np.array(passing, dtype=np.int64)), ids)


def _unit_query(vector: np.ndarray, info: GenerationInfo, fingerprint: str | None) -> np.ndarray:
    if fingerprint is not None and fingerprint != info.model_fingerprint:
        message = (
            f"The searchable embeddings are of model {info.model_fingerprint[:12]}, the query of {fingerprint[:12]}. "
            "Embed the archive with the running model and build the index again."
        )
        raise ModelMismatch(message)
    query = np.asarray(vector, dtype=np.float32)
    if query.shape != (info.dimension,):
        raise ModelMismatch(f"Expected a query of width {info.dimension}, found shape {query.shape}.")
    length = float(np.linalg.norm(query))
    if not np.isfinite(length) or length == 0:
        raise InputError("The query vector must be finite and not zero.", "bad-query")
    return query / length
