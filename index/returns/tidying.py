"""The end of rows that nobody needs any more: of routes that are gone, of what was not sent, and of old arrivals."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..access.audit import study_key
from ..catalog import Catalog
from ..jobs.ending import clock
from ..tables import Study, StudyArrival, StudyReturn
from .audited import GIVEN_UP, audit_returns, return_event
from .queue import AT_ONCE, WITHIN

__all__ = ["KEPT_FOR", "tidy_returns"]

KEPT_FOR: Final = timedelta(days=90)  # what was not sent; what was sent is kept with its study
EXPIRED: Final = "expired"


def tidy_returns(catalog: Catalog, routes: Collection[str]) -> int:
    """Give up what waits for a route that is none of these, once its time is over; delete what ended unsent long ago,
    and arrivals by which nothing can become due. Returns how many rows that were."""
    with catalog.session() as session:
        # Their keys are made out here: the first one ever writes the secret that it hangs on.
        keys = {uid: study_key(catalog, uid) for *_, uid in session.execute(_abandoned(session, routes))}
        ended = any(session.scalar(sa.select(sa.exists().where(*one))) for one in _ended(clock(session)).values())
    if not keys and not ended:  # nobody waits for a look at all rows
        return 0
    with catalog.write() as session:
        moment = clock(session)
        found = [row for row in session.execute(_abandoned(session, routes)) if row[2] in keys]
        values = {"given_up_at": moment, "last_error": sa.func.coalesce(StudyReturn.last_error, EXPIRED), "made": None}
        session.execute(sa.update(StudyReturn).where(StudyReturn.id.in_([row[0] for row in found])).values(**values))
        done = [session.execute(sa.delete(table).where(*ended)) for table, ended in _ended(moment).items()]
        audit_returns(session, [return_event(GIVEN_UP, keys[uid], route) for _, route, uid in found])
        return len(found) + sum(one.rowcount for one in done)  # type: ignore[attr-defined]


def _ended(moment: datetime) -> dict[type[StudyReturn] | type[StudyArrival], list[Any]]:
    """Which rows of a table are of no use any more. What was sent is: it says what receivers have and which report the
    next one replaces, and that a study which is sent here again does not go back again."""
    return {
        StudyReturn: [StudyReturn.sent_at.is_(None), StudyReturn.given_up_at < moment - KEPT_FOR],
        StudyArrival: [StudyArrival.arrived_at < moment - 2 * WITHIN],
    }


def _abandoned(session: Session, routes: Collection[str]) -> sa.Select[int, str, str]:
    """Row, route and study of what waits for a route that is gone; the rest is next."""
    query = sa.select(StudyReturn.id, StudyReturn.route, Study.study_instance_uid)
    query = query.join(Study, Study.id == StudyReturn.study_id).where(
        StudyReturn.sent_at.is_(None),
        StudyReturn.given_up_at.is_(None),
        StudyReturn.route.not_in(routes),
        StudyReturn.expires_at < clock(session),
    )
    return query.order_by(StudyReturn.id).limit(AT_ONCE)
