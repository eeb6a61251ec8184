"""What is still to be sent back: one row a state of a study and route, taken by one sender at a time.

    arrived by the route's door, embedded, quiet for a while -> row -> taken -> sent, or again later, or given up

The row is made by whoever notices, in one transaction; a unique constraint lets nobody make it twice. A sender that
dies has tried in vain: ``LEASE_S`` later another takes the row. Every write of a sender names the attempt it is of.
``index.returns.tidying`` ends what nobody takes any more.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Session

from ..access.audit import Event
from ..catalog import JOBS_LOCK, Catalog
from ..jobs.ending import clock
from ..tables import IMAGE, Embedding, Setting, Study, StudyArrival, StudyReturn
from .audited import audit_returns

__all__ = [
    "EXPIRES_AFTER",
    "LEASE_S",
    "SUPERSEDED",
    "WITHIN",
    "Taken",
    "Wanted",
    "begin_routes",
    "forget_made",
    "give_up",
    "keep_made",
    "later",
    "note_due",
    "sent",
    "still_wanted",
    "take_due",
]

LEASE_S: Final = 300.0  # for making a document and sending it, each step of which has a shorter limit
FIRST_S: Final = 10.0
LONGEST_S: Final = 3600.0
EXPIRES_AFTER: Final = timedelta(days=7)  # a PACS may be away over holidays
WITHIN: Final = timedelta(days=7)  # of its arrival a study is embedded, or nothing of it goes back
SUPERSEDED: Final = "superseded"  # the study has other images by now, or another prior
AT_ONCE: Final = 500  # rows that one look makes; the next comes soon
MARK: Final = "return-route:"  # and a route's name: the setting that says since when it holds


@dataclass(frozen=True)
class Wanted:
    """A route as the archive sees it. arrivals: doors, each with the sender it is of; None: anybody. max_age_days: of a
    study on the day on which it arrives; None: of any age."""

    name: str
    arrivals: Sequence[tuple[str, str | None]]
    max_age_days: int | None = None


@dataclass(frozen=True)
class Taken:
    """A row that a sender has. attempt: nobody who had it before writes in its name. number: which state of its study
    this is, of those that go back by the route, from 1. made: the result, where an attempt before this one made it.
    predecessors: SOP Instance UIDs of the reports that were sent of the study by this route, the oldest first."""

    id: int
    route: str
    study_instance_uid: str
    source_hash: str
    attempt: int
    created_at: datetime
    number: int
    made: str | None = None
    predecessors: tuple[str, ...] = ()


def begin_routes(catalog: Catalog, names: Collection[str]) -> None:
    """A route holds for what arrives once some process of the archive knows it: turning one on sends no old results."""
    with catalog.session() as session:
        known = set(session.scalars(sa.select(Setting.name).where(Setting.name.startswith(MARK))))
    if {MARK + name for name in names} <= known:
        return
    with catalog.write() as session:
        known = set(session.scalars(sa.select(Setting.name).where(Setting.name.startswith(MARK))))
        moment = clock(session).isoformat()
        session.add_all(Setting(name=MARK + name, value=moment) for name in names if MARK + name not in known)


def note_due(catalog: Catalog, route: Wanted, fingerprint: str, quiet_s: float) -> int:
    """Make rows for studies that came by the route and are embedded as they are now; returns how many, 500 at most.

    quiet_s: seconds without a new image after which a study counts as whole. A study is returned once more only when an
    image of its own came since: a prior that arrives late, or other encoders, change what is known of old studies. A
    state that was superseded unsent, and that the study is in again, has its row still: that one begins anew.
    """
    with catalog.session() as session:
        if not _ready(session, route, fingerprint, quiet_s):
            return 0
    with catalog.write() as session:  # as studies are deleted: a row never meets the end of its study halfway
        moment = clock(session)
        found = _ready(session, route, fingerprint, quiet_s)
        times = {"created_at": moment, "next_attempt_at": moment, "expires_at": moment + EXPIRES_AFTER}
        mine = sa.select(StudyReturn).where(
            StudyReturn.route == route.name, StudyReturn.study_id.in_([study_id for study_id, _ in found])
        )
        before = {(row.study_id, row.source_hash): row for row in session.scalars(mine)}
        for state in found:
            row = before.get(state)
            if row is None:
                session.add(StudyReturn(study_id=state[0], route=route.name, source_hash=state[1], **times))
                continue
            row.given_up_at = row.last_error = row.made = None
            for name, value in times.items():
                setattr(row, name, value)
        return len(found)


def take_due(catalog: Catalog, route: str) -> Taken | None:
    """A row of the route that is due, for this sender alone; None when there is none."""
    with catalog.session() as session:
        if session.execute(_due(session, route)).first() is None:
            return None
    with catalog.write(JOBS_LOCK) as session:
        found = session.execute(_due(session, route)).first()
        if found is None:
            return None
        row, uid = found
        row.attempts += 1
        row.next_attempt_at = clock(session) + timedelta(seconds=LEASE_S)
        states = sa.select(sa.func.count()).select_from(StudyReturn)
        states = states.where(
            StudyReturn.study_id == row.study_id, StudyReturn.route == route, StudyReturn.id <= row.id
        )
        number = session.scalar(states) or 1
        before = sa.select(StudyReturn.sop_instance_uid).where(
            StudyReturn.study_id == row.study_id, StudyReturn.route == route, StudyReturn.sent_at.is_not(None)
        )
        uids = session.scalars(before.where(StudyReturn.sop_instance_uid.is_not(None)).order_by(StudyReturn.sent_at))
        return Taken(
            row.id,
            row.route,
            uid,
            row.source_hash,
            row.attempts,
            row.created_at,
            number,
            row.made,
            tuple(str(one) for one in uids),
        )


def still_wanted(catalog: Catalog, taken: Taken) -> str | None:
    """Why it must not be sent now, asked right before: gone (the study was deleted), taken-over, superseded; None where
    it may."""
    query = sa.select(StudyReturn.attempts, Study.image_source).join(Study, Study.id == StudyReturn.study_id)
    with catalog.session() as session:
        row = session.execute(query.where(StudyReturn.id == taken.id)).first()
    if row is None:
        return "gone"
    if row.attempts != taken.attempt:
        return "taken-over"
    return None if row.image_source == taken.source_hash else SUPERSEDED


def keep_made(catalog: Catalog, taken: Taken, made: str, studies: Collection[str]) -> bool:
    """Keep the result before it is sent. studies: that it names; False where one was deleted meanwhile, or as below."""
    with catalog.write() as session:  # as studies are deleted
        there = sa.select(sa.func.count()).select_from(Study).where(Study.study_instance_uid.in_(studies))
        return session.scalar(there) == len(studies) and _write(session, taken, made=made)


def forget_made(session: Session) -> None:
    """Results that wait may name a study that is being deleted: they are made again, when they are tried next."""
    session.execute(sa.update(StudyReturn).where(StudyReturn.made.is_not(None)).values(made=None))


def sent(catalog: Catalog, taken: Taken, sop_instance_uid: str | None = None, *, entry: Event | None = None) -> bool:
    """Its receiver has it. False where the row is another's or gone, and nothing was written; so below.

    entry: of the audit, here and below. What was sent is in it, whosever the row is; what is given up, if it was ours.
    """
    with catalog.write(JOBS_LOCK) as session:
        values = {"sent_at": clock(session), "last_error": None, "made": None, "sop_instance_uid": sop_instance_uid}
        done = _write(session, taken, **values)
        audit_returns(session, [entry] if entry else [])
        return done


def later(catalog: Catalog, taken: Taken, error: str, *, entry: Event | None = None) -> bool:
    """Again after 10 s, 20 s and so on to an hour, half as long to half as long again; given up after a week."""
    wait = min(LONGEST_S, FIRST_S * 2 ** min(taken.attempt - 1, 20)) * random.uniform(0.5, 1.5)
    with catalog.write(JOBS_LOCK) as session:
        moment = clock(session)
        due = moment + timedelta(seconds=wait)
        expires = session.scalar(sa.select(StudyReturn.expires_at).where(StudyReturn.id == taken.id))
        values = {"last_error": error[:64], "next_attempt_at": due}
        if expires is not None and expires < due:
            return _end_unsent(session, taken, entry, **values, given_up_at=moment)
        return _write(session, taken, **values)


def give_up(catalog: Catalog, taken: Taken, error: str, *, entry: Event | None = None) -> bool:
    """It must not be sent, whenever it is tried."""
    with catalog.write(JOBS_LOCK) as session:
        values = {"last_error": error[:64], "given_up_at": clock(session), "made": None}
        return _end_unsent(session, taken, entry, **values)


def _ready(session: Session, route: Wanted, fingerprint: str, quiet_s: float) -> Sequence[tuple[int, str]]:
    begun = session.scalar(sa.select(Setting.value).where(Setting.name == MARK + route.name))
    if begun is None:
        return ()
    moment = clock(session)
    since = max(datetime.fromisoformat(begun).astimezone(UTC), moment - WITHIN)
    came = [
        sa.and_(StudyArrival.door == door, *([] if sender is None else [StudyArrival.sender == sender]))
        for door, sender in route.arrivals
    ]
    returned = sa.exists().where(
        StudyReturn.study_id == Study.id,
        StudyReturn.route == route.name,
        sa.func.coalesce(StudyReturn.last_error, "") != SUPERSEDED,  # nothing went back of that state
        sa.or_(StudyReturn.source_hash == Study.image_source, StudyReturn.created_at >= StudyArrival.arrived_at),
    )
    any_door = orm.aliased(StudyArrival)
    restless = sa.exists().where(
        any_door.study_id == Study.id, any_door.arrived_at > moment - timedelta(seconds=quiet_s)
    )
    query = (
        sa.select(Study.id, Study.image_source)
        .join(StudyArrival, StudyArrival.study_id == Study.id)
        .join(Embedding, sa.and_(Embedding.study_id == Study.id, Embedding.source_hash == Study.image_source))
        .where(
            StudyArrival.arrived_at >= since,
            sa.or_(*came),
            *_young(session, route.max_age_days),
            ~restless,
            Embedding.kind == IMAGE,
            Embedding.model_fingerprint == fingerprint,
            ~returned,
        )
        .distinct()
        .order_by(Study.id)
        .limit(AT_ONCE)
    )
    return [(row[0], str(row[1])) for row in session.execute(query)]


def _young(session: Session, days: int | None) -> list[Any]:
    """Not older than that on the day of the arrival, with a day for zones; a study without a date counts as young."""
    if days is None:
        return []
    arrived: Any = StudyArrival.arrived_at
    if session.get_bind().dialect.name == "postgresql":
        oldest: Any = sa.cast(arrived, sa.Date) - (days + 1)
    else:
        oldest = sa.func.date(arrived, f"-{days + 1} days")
    return [sa.or_(Study.study_date.is_(None), Study.study_date >= oldest)]


def _due(session: Session, route: str) -> sa.Select[StudyReturn, str]:
    query = sa.select(StudyReturn, Study.study_instance_uid).join(Study, Study.id == StudyReturn.study_id)
    query = query.where(
        StudyReturn.route == route,
        StudyReturn.sent_at.is_(None),
        StudyReturn.given_up_at.is_(None),
        StudyReturn.next_attempt_at <= clock(session),
    )
    return query.order_by(StudyReturn.next_attempt_at, StudyReturn.id).limit(1)


def _write(session: Session, taken: Taken, **values: Any) -> bool:
    mine = (StudyReturn.id == taken.id, StudyReturn.attempts == taken.attempt)
    done = session.execute(sa.update(StudyReturn).where(*mine).values(**values))
    return bool(done.rowcount)  # type: ignore[attr-defined]


def _end_unsent(session: Session, taken: Taken, entry: Event | None, **values: Any) -> bool:
    done = _write(session, taken, **values)
    audit_returns(session, [entry] if done and entry else [])
    return done
