"""How much each caller did on a day (UTC), over all replicas of the service."""

from collections.abc import Iterable, Mapping
from datetime import date

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from ..catalog import Catalog
from ..tables import Usage

__all__ = ["add_usage", "usage_on"]


def add_usage(session: Session, counts: Mapping[tuple[str, date], int]) -> dict[tuple[str, date], int]:
    """Add requests of callers on days to what is written already, and return the sums."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    sums: dict[tuple[str, date], int] = {}
    for (caller, day), count in sorted(counts.items()):
        statement = insert(Usage).values(caller=caller, day=day, requests=count)
        more = {"requests": Usage.requests + statement.excluded.requests}
        statement = statement.on_conflict_do_update(index_elements=["caller", "day"], set_=more)
        sums[caller, day] = session.scalars(statement.returning(Usage.requests)).one()
    return sums


def usage_on(catalog: Catalog, day: date, callers: Iterable[str] | None = None) -> dict[str, int]:
    """Requests by caller; of these callers only, where named."""
    query = sa.select(Usage.caller, Usage.requests).where(Usage.day == day)
    if callers is not None:
        query = query.where(Usage.caller.in_(list(callers)))
    with catalog.session() as session:
        return {row.caller: row.requests for row in session.execute(query)}
