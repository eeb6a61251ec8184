"""What was embedded or removed since a generation was built, beside it: an exact search in memory.

Writers are let in one at a time (``Catalog.write``) and row ids only grow, so ids become visible in order: whoever has
seen the newest id has seen every one before it. Axes: N rows, D width.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import sqlalchemy as sa

from ..engines import FlatIndex
from ..generations.table import GenerationInfo
from ..tables import KINDS, Embedding, EmbeddingRemoval, Generation

__all__ = ["Delta", "Seen", "count_since", "empty_delta", "in_sorted", "newest", "read_since"]

logger = logging.getLogger(__name__)

LENGTH_TOLERANCE: Final = 1e-3

_LIVE_ID = sa.select(Generation.id).where(Generation.state == "live").scalar_subquery()
_NEWEST = sa.select(
    _LIVE_ID,
    sa.select(sa.func.max(Embedding.id)).scalar_subquery(),
    sa.select(sa.func.max(EmbeddingRemoval.id)).scalar_subquery(),
)
_ADDED = (
    sa.select(Embedding.id, Embedding.study_id, Embedding.vector)
    .where(
        Embedding.model_fingerprint == sa.bindparam("model"),
        Embedding.kind == sa.bindparam("kind"),
        Embedding.id > sa.bindparam("after"),
    )
    .order_by(Embedding.id)
)
_REMOVED = sa.select(EmbeddingRemoval.kind, EmbeddingRemoval.embedding_id, EmbeddingRemoval.study_id).where(
    EmbeddingRemoval.model_fingerprint == sa.bindparam("model"), EmbeddingRemoval.id > sa.bindparam("after")
)


@dataclass(frozen=True)
class Seen:
    """How far the database was read. live_id: the live generation, None before the first."""

    live_id: int | None
    embedding_id: int
    removal_id: int


@dataclass(frozen=True)
class Delta:
    """One kind. index: rows newer than the generation, by study id; rows: their embedding ids, in the same order.

    hidden: study ids, ascending, whose rows in the generation's own index are no longer true.
    """

    index: FlatIndex
    rows: np.ndarray
    hidden: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def empty_delta(dimension: int) -> Delta:
    none = np.empty(0, np.int64)
    return Delta(FlatIndex(none, np.empty((0, dimension), np.float32)), none, none)


def newest(connection: sa.Connection) -> Seen:
    """One small query: has anything happened?"""
    live_id, embedding_id, removal_id = connection.execute(_NEWEST).one()
    return Seen(live_id, embedding_id or 0, removal_id or 0)


def read_since(
    connection: sa.Connection, info: GenerationInfo, seen: Seen, deltas: dict[str, Delta]
) -> dict[str, Delta]:
    """The deltas with what was added and removed after ``seen``; what searches hold is not touched.

    ``connection`` is one of a ``Catalog.snapshot``.
    """
    gone: dict[str, list[tuple[int, int]]] = {kind: [] for kind in KINDS}
    removed_after = max(seen.removal_id, info.removal_max_id)
    query = {"model": info.model_fingerprint, "after": removed_after}
    for kind, embedding_id, study_id in connection.execute(_REMOVED, query):
        gone[kind].append((embedding_id, study_id))
    found = {}
    for kind in KINDS:
        after = max(seen.embedding_id, info.max_id(kind))
        rows = connection.execute(_ADDED, {"model": info.model_fingerprint, "kind": kind, "after": after}).all()
        usable = [(row[0], row[1], row[2]) for row in rows if _usable(row[0], row[2], info.dimension)]
        found[kind] = _changed(deltas[kind], info.max_id(kind), gone[kind], usable)
    return found


def count_since(connection: sa.Connection, info: GenerationInfo) -> dict[str, tuple[int, int]]:
    """By kind: rows beside a generation, and rows of its index that are hidden."""
    found = {}
    for kind in KINDS:
        added = sa.select(sa.func.count()).where(
            Embedding.model_fingerprint == info.model_fingerprint,
            Embedding.kind == kind,
            Embedding.id > info.max_id(kind),
        )
        hidden = sa.select(sa.func.count(EmbeddingRemoval.study_id.distinct())).where(
            EmbeddingRemoval.model_fingerprint == info.model_fingerprint,
            EmbeddingRemoval.kind == kind,
            EmbeddingRemoval.id > info.removal_max_id,
            EmbeddingRemoval.embedding_id <= info.max_id(kind),
        )
        found[kind] = connection.scalar(added) or 0, connection.scalar(hidden) or 0
    return found


def in_sorted(ascending: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which of ``values`` are in ``ascending``: bool, one a value."""
    if not len(ascending):
        return np.zeros(len(values), dtype=bool)
    places = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return ascending[places] == values


def _changed(
    delta: Delta, max_id: int, gone: Sequence[tuple[int, int]], added: Sequence[tuple[int, int, bytes]]
) -> Delta:
    if not gone and not added:
        return delta
    hidden = [study_id for embedding_id, study_id in gone if embedding_id <= max_id]
    dropped = np.array(sorted(embedding_id for embedding_id, _ in gone if embedding_id > max_id), dtype=np.int64)
    stays = ~in_sorted(dropped, delta.rows)
    new = np.frombuffer(b"".join(row[2] for row in added), dtype="<f4").reshape(-1, delta.index.dimension)
    rows = np.concatenate([delta.rows[stays], np.array([row[0] for row in added], dtype=np.int64)])
    ids = np.concatenate([delta.index.ids[stays], np.array([row[1] for row in added], dtype=np.int64)])
    order = np.argsort(ids, kind="stable")
    vectors = np.concatenate([delta.index.matrix[stays], new])[order]
    return Delta(
        FlatIndex(ids[order], vectors),
        rows[order],
        np.union1d(delta.hidden, np.array(hidden, dtype=np.int64)),
    )


def _usable(embedding_id: int, vector: bytes, dimension: int) -> bool:
    """A row that no build would take must not end every search."""
    length = float(np.linalg.norm(np.frombuffer(vector, "<f4"))) if len(vector) == 4 * dimension else np.nan
    if abs(length - 1) <= LENGTH_TOLERANCE:
        return True
    logger.error("embedding %d is no vector of length 1 and width %d: it is not searched", embedding_id, dimension)
    return False
