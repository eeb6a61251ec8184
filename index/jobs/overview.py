"""All jobs at a glance, and the workers that were heard of."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..catalog import Catalog
from ..tables import Job
from ..tables.jobs import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED
from .ending import clock
from .lease import LEASE_S
from .records import JobRecord

__all__ = ["JobsOverview", "SeenWorker", "overview"]

STATES: Final = (QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED)
RECENT: Final = 10
SEEN: Final = timedelta(days=1)  # in which a worker was heard of


@dataclass(frozen=True)
class SeenWorker:
    """job_id: what it works on now; None for one that has none, or was not heard of for as long as its lease."""

    name: str
    last_seen_at: datetime
    job_id: str | None


@dataclass(frozen=True)
class JobsOverview:
    """states: how many are kept, by state. running: the oldest first; ended: the last ``RECENT``, the newest first;
    waiting_since: when the oldest that waits was asked for; last_verify: the last ``verify`` that ended."""

    states: dict[str, int]
    running: list[JobRecord]
    ended: list[JobRecord]
    waiting_since: datetime | None
    last_verify: JobRecord | None
    workers: list[SeenWorker]


def overview(catalog: Catalog) -> JobsOverview:
    """A worker is known by its jobs alone: one that never had any is not seen."""
    with catalog.snapshot() as session:
        counts = {row[0]: row[1] for row in session.execute(_by_state())}
        running = session.scalars(sa.select(Job).where(Job.state == RUNNING).order_by(Job.started_at, Job.id)).all()
        ended = sa.select(Job).where(Job.finished_at.is_not(None)).order_by(Job.finished_at.desc(), Job.id)
        verified = session.scalar(ended.where(Job.kind == "verify").limit(1))
        return JobsOverview(
            states=dict.fromkeys(STATES, 0) | counts,
            running=[JobRecord.of(job) for job in running],
            ended=[JobRecord.of(job) for job in session.scalars(ended.limit(RECENT))],
            waiting_since=session.scalar(sa.select(sa.func.min(Job.created_at)).where(Job.state == QUEUED)),
            last_verify=None if verified is None else JobRecord.of(verified),
            workers=_workers(session),
        )


def _by_state() -> sa.Select[str, int]:
    return sa.select(Job.state, sa.func.count()).group_by(Job.state)


def _workers(session: Session) -> list[SeenWorker]:
    """The one heard of last first."""
    now = clock(session)
    seen = sa.func.max(Job.heartbeat_at)
    query = sa.select(Job.worker, seen).where(Job.worker.is_not(None), Job.heartbeat_at > now - SEEN)
    held = sa.select(Job.worker, Job.id).where(
        Job.state == RUNNING, Job.heartbeat_at > now - timedelta(seconds=LEASE_S)
    )
    jobs = {row[0]: row[1] for row in session.execute(held)}
    rows = session.execute(query.group_by(Job.worker).order_by(seen.desc(), Job.worker))
    return [SeenWorker(worker, at, jobs.get(worker)) for worker, at in rows if worker and at]
