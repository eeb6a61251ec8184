"""The searchable archive as it is at one moment: a generation, and what was added and removed since.

Axes: K candidates, D width.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import sqlalchemy as sa

from model.errors import EmptyIndex, InputError, ModelMismatch

from ..catalog import Catalog
from ..generations.parts import OpenPart
from ..generations.table import GenerationInfo
from ..records import StudyRecord, read_records
from ..tables import KINDS
from .candidates import Candidates
from .delta import Delta, Seen
from .filters import NO_FILTERS, Filters
from .pages import Page, Place, Search, find_page, unchanged_since

__all__ = ["Hit", "Snapshot"]


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
    seen: Seen

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
        self._require_rows(kind)
        query = _unit_query(vector, self.info, fingerprint)
        _require_count(top_k)
        with self._candidates(filters.conditions()) as (connection, candidates):
            ids, scores = candidates.nearest(kind, query, top_k)
            records = read_records(connection, ids.tolist())
        found = [
            (score, records[study_id])
            for study_id, score in zip(ids.tolist(), scores.tolist(), strict=True)
            if study_id in records
        ]
        return [Hit(rank, score, study) for rank, (score, study) in enumerate(found, start=1)]

    def page(self, search: Search, top_k: int, after: Place | None = None, fingerprint: str | None = None) -> Page:
        """The ``top_k`` hits of a search after a place, or the first ones; raises what ``search`` does.

        The vector of ``search`` may have any length above 0.
        """
        self._require_rows(*(KINDS if search.ranking.by == "fused" else (search.ranking.by,)))
        query = _unit_query(search.vector, self.info, fingerprint)
        _require_count(top_k)
        conditions = search.filters.conditions()
        if search.seen is not None:
            conditions += unchanged_since(search.seen, self.info.model_fingerprint)
        with self._candidates(conditions) as (connection, candidates):
            return find_page(connection, candidates, replace(search, vector=query), top_k, after)

    def require_whole(self) -> None:
        """Raises ArchiveError (index-file-corrupt, index-file-missing) once a file was found to be another."""
        for part in self.parts.values():
            if part is not None:
                part.require_whole()

    def rows(self, kind: str) -> int:
        """How many studies can be found."""
        delta = self.deltas[kind]
        return self.info.rows(kind) - len(delta.hidden) + len(delta)

    def _require_rows(self, *kinds: str) -> None:
        if not any(self.rows(kind) for kind in kinds):
            what = " or ".join(kinds)
            raise EmptyIndex(f"No {what} embeddings are searchable yet. Run `alta embed`, then `alta index build`.")

    @contextmanager
    def _candidates(self, conditions: list[sa.ColumnElement[bool]]) -> Iterator[tuple[sa.Connection, Candidates]]:
        self.require_whole()
        rows = {kind: self.rows(kind) for kind in KINDS}
        with self.catalog.session() as session:
            connection = session.connection()
            yield connection, Candidates(connection, self.parts, self.deltas, rows, conditions)


def _require_count(top_k: int) -> None:
    if top_k < 1:
        raise InputError(f"top_k must be 1 or more, found {top_k}.", "bad-query")


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
