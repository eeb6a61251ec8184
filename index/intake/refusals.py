"""What the archive refused, and why: nothing that was met is forgotten."""

from collections import Counter
from dataclasses import dataclass

import sqlalchemy as sa

from ..catalog import Catalog
from ..tables import REFUSED, Instance

__all__ = ["RefusedFile", "refusal_counts", "refused_files"]


@dataclass(frozen=True)
class RefusedFile:
    """reason: a stable slug; detail: what was expected, what was found."""

    path: str
    reason: str
    detail: str


def refused_files(catalog: Catalog, reason: str | None = None, limit: int = 100) -> list[RefusedFile]:
    """Refused files by reason, then path; only those of one ``reason`` when it is given."""
    query = sa.select(Instance.path, Instance.reason, Instance.detail).where(Instance.status == REFUSED)
    if reason is not None:
        query = query.where(Instance.reason == reason)
    with catalog.session() as session:
        rows = session.execute(query.order_by(Instance.reason, Instance.path).limit(limit)).all()
    return [RefusedFile(path, reason or "", detail or "") for path, reason, detail in rows]


def refusal_counts(catalog: Catalog) -> Counter[str]:
    """Refused files of the whole archive by reason."""
    query = sa.select(Instance.reason, sa.func.count()).where(Instance.status == REFUSED).group_by(Instance.reason)
    with catalog.session() as session:
        return Counter({reason or "": count for reason, count in session.execute(query)})
