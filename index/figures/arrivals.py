"""How much came when: rows of the last hours, without an index on when they were made.

Row ids only grow and writers take turns (``Catalog.write``), so ids are in the order of ``created_at``, as far as the
clocks of the hosts agree: where a moment lies among them is found by halving.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..catalog import Catalog
from ..tables import IMAGE, Embedding, Study

__all__ = ["HOURS", "WEEK", "Arrivals", "count_arrivals"]

HOURS: Final = 24
WEEK: Final = timedelta(days=7)


@dataclass(frozen=True)
class Arrivals:
    """Studies that are there still, by when they came or were embedded. hours: the last ``HOURS``, each an hour long,
    the oldest first; week: all of the last seven days."""

    hours: Sequence[int]
    week: int


def count_arrivals(catalog: Catalog, fingerprint: str, until: datetime) -> tuple[Arrivals, Arrivals]:
    """What was taken in, and what was embedded by its images with this model, until a moment."""
    embedded = (Embedding.model_fingerprint == fingerprint, Embedding.kind == IMAGE)
    with catalog.snapshot() as session:
        return _arrivals(session, Study, (), until), _arrivals(session, Embedding, embedded, until)


def _arrivals(
    session: Session, table: type[Study] | type[Embedding], where: Sequence[sa.ColumnElement[bool]], until: datetime
) -> Arrivals:
    end = 1 + (session.scalar(sa.select(sa.func.max(table.id)).where(*where)) or 0)
    moments = [until - WEEK, *(until - timedelta(hours=hours) for hours in range(HOURS, 0, -1))]
    bounds, low = [], 0
    for moment in moments:
        low = _first_since(session, table, where, moment, low, end)
        bounds.append(low)
    counts = [_between(session, table, where, *ids) for ids in pairwise([*bounds, end])]
    return Arrivals(counts[1:], sum(counts))


def _first_since(
    session: Session,
    table: type[Study] | type[Embedding],
    where: Sequence[sa.ColumnElement[bool]],
    moment: datetime,
    low: int,
    high: int,
) -> int:
    """An id from ``low`` to ``high``: rows from it on were made at the moment or later, those before it earlier."""
    middle = low  # looked at first: where nothing came between two moments, both are here
    while low < high:
        query = sa.select(table.id, table.created_at).where(*where, table.id >= middle).order_by(table.id).limit(1)
        row = session.execute(query).first()
        if row is None or row.created_at >= moment:
            high = middle
        else:
            low = row.id + 1
        middle = (low + high) // 2
    return low


def _between(
    session: Session,
    table: type[Study] | type[Embedding],
    where: Sequence[sa.ColumnElement[bool]],
    first: int,
    end: int,
) -> int:
    if first >= end:
        return 0
    counted = sa.select(sa.func.count()).select_from(table).where(*where, table.id >= first, table.id < end)
    return session.scalar(counted) or 0
