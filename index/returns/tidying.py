"""The end of rows that nobody needs any more: of routes that are gone, of what was not sent, and of old arrivals."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from ..catalog import Catalog
from ..jobs.ending import clock
from ..tables import StudyArrival, StudyReturn
from .queue import WITHIN

__all__ = ["KEPT_FOR", "tidy_returns"]

KEPT_FOR: Final = timedelta(days=90)  # what was not sent; what was sent is kept with its study
EXPIRED: Final = "expired"


def tidy_returns(catalog: Catalog, routes: Collection[str]) -> int:
    """Give up what waits for a route that is none of these, once its time is over; delete what ended unsent long ago,
    and arrivals by which nothing can become due. Returns how many rows that were."""
    with catalog.write() as session:
        moment = clock(session)
        waits = (StudyReturn.sent_at.is_(None), StudyReturn.given_up_at.is_(None))
        done: list[Any] = [
            sa.update(StudyReturn)
            .where(*waits, StudyReturn.route.not_in(routes), StudyReturn.expires_at < moment)
            .values(given_up_at=moment, last_error=sa.func.coalesce(StudyReturn.last_error, EXPIRED), made=None),
            sa.delete(StudyReturn).where(StudyReturn.sent_at.is_(None), StudyReturn.given_up_at < moment - KEPT_FOR),
            sa.delete(StudyArrival).where(StudyArrival.arrived_at < moment - 2 * WITHIN),
        ]
        return sum(session.execute(one).rowcount for one in done)  # type: ignore[attr-defined]
