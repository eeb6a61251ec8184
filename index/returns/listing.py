"""What became of results: shown, counted, and tried once more when somebody asks."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..batches import batched
from ..catalog import JOBS_LOCK, Catalog
from ..jobs.ending import clock
from ..tables import Study, StudyReturn
from .queue import EXPIRES_AFTER
from .queue import SUPERSEDED as OVERTAKEN

__all__ = [
    "GIVEN_UP",
    "SENT",
    "STATES",
    "SUPERSEDED",
    "WAITING",
    "ReturnRecord",
    "SentResult",
    "count_returns",
    "list_returns",
    "retry_returns",
    "sent_by_route",
    "sent_results",
]

WAITING: Final = "waiting"
SENT: Final = "sent"
GIVEN_UP: Final = "given-up"
SUPERSEDED: Final = "superseded"  # never sent, as the study has other images or another prior by now
STATES: Final = (WAITING, SENT, GIVEN_UP, SUPERSEDED)

_STATE: Final = sa.case(
    (StudyReturn.sent_at.is_not(None), SENT),
    (StudyReturn.given_up_at.is_(None), WAITING),
    (StudyReturn.last_error == OVERTAKEN, SUPERSEDED),
    else_=GIVEN_UP,
)


@dataclass(frozen=True)
class ReturnRecord:
    """state: waiting, sent, given-up or superseded. error: slug of the last attempt."""

    study_instance_uid: str
    route: str
    state: str
    attempts: int
    error: str | None
    created_at: datetime
    next_attempt_at: datetime


@dataclass(frozen=True)
class SentResult:
    """What a receiver has. sop_instance_uid: of a structured report; of the rest the study leads to it."""

    route: str
    sent_at: datetime
    sop_instance_uid: str | None


def list_returns(
    catalog: Catalog, *, state: str | None = None, route: str | None = None, limit: int = 50
) -> list[ReturnRecord]:
    """The newest first."""
    query = sa.select(StudyReturn, Study.study_instance_uid, _STATE).join(Study, Study.id == StudyReturn.study_id)
    for column, value in ((_STATE, state), (StudyReturn.route, route)):
        if value is not None:
            query = query.where(column == value)
    with catalog.session() as session:
        rows = session.execute(query.order_by(StudyReturn.created_at.desc(), StudyReturn.id.desc()).limit(limit))
        return [
            ReturnRecord(uid, row.route, found, row.attempts, row.last_error, row.created_at, row.next_attempt_at)
            for row, uid, found in rows
        ]


def count_returns(catalog: Catalog) -> dict[str, int]:
    """Rows by state, those without any included."""
    with catalog.session() as session:
        rows = session.execute(sa.select(_STATE, sa.func.count()).group_by(_STATE))
        return dict.fromkeys(STATES, 0) | {row[0]: row[1] for row in rows}


def retry_returns(catalog: Catalog, *, study_instance_uid: str | None = None, route: str | None = None) -> int:
    """Make due now what waits or was given up, of one study, route or all; returns how many. What was sent stays so."""
    where: list[Any] = [_STATE.in_((WAITING, GIVEN_UP))]
    if study_instance_uid is not None:
        study = sa.select(Study.id).where(Study.study_instance_uid == study_instance_uid)
        where.append(StudyReturn.study_id.in_(study))
    if route is not None:
        where.append(StudyReturn.route == route)
    with catalog.write(JOBS_LOCK) as session:
        moment = clock(session)
        # The attempts stay: whoever is sending one of these now must not write in the name of the next attempt.
        values = {"given_up_at": None, "next_attempt_at": moment, "expires_at": moment + EXPIRES_AFTER}
        return int(session.execute(sa.update(StudyReturn).where(*where).values(**values)).rowcount)  # type: ignore[attr-defined]


def sent_by_route(session: Session, study_ids: Iterable[int]) -> dict[str, int]:
    """How many documents of these studies receivers have, by route."""
    found: dict[str, int] = {}
    for batch in batched(sorted(study_ids), 500):
        query = sa.select(StudyReturn.route, sa.func.count()).where(
            StudyReturn.study_id.in_(batch), StudyReturn.sent_at.is_not(None)
        )
        for route, count in session.execute(query.group_by(StudyReturn.route).order_by(StudyReturn.route)):
            found[route] = found.get(route, 0) + count
    return found


def sent_results(session: Session, study_id: int) -> tuple[SentResult, ...]:
    """What of a study was sent, the oldest first."""
    query = sa.select(StudyReturn.route, StudyReturn.sent_at, StudyReturn.sop_instance_uid)
    query = query.where(StudyReturn.study_id == study_id, StudyReturn.sent_at.is_not(None))
    rows = session.execute(query.order_by(StudyReturn.sent_at, StudyReturn.id))
    return tuple(SentResult(route, at, uid) for route, at, uid in rows if at is not None)
