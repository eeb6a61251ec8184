"""Who does a job: claimed, kept by heartbeats, ended, given back, or lost with its worker.

What holds: the database lets one worker at a time hold a job, and of the jobs that share ``exclusive`` one (a partial
unique index, whatever two workers try). A worker that stalls for longer than ``LEASE_S`` loses the job to another, and
its end is not written then: every write of a holder names the attempt that it is of. What cannot hold is that it does
nothing more: it hears of its loss with its next heartbeat, so the batch under way may be done twice. That does no harm:
the work itself is safe to repeat and to do twice at once, because every batch asks the rows what is left to do.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..catalog import JOBS_LOCK, Catalog
from ..tables import Job
from ..tables.jobs import CANCELLED, FAILED, QUEUED, RUNNING
from .ending import clock, end
from .records import JobRecord

__all__ = [
    "BEAT_S",
    "LEASE_S",
    "MAX_LOST",
    "WORKER_LOST",
    "Beat",
    "Lease",
    "beat",
    "claim",
    "finish",
    "give_back",
    "is_claimable",
]

LEASE_S: Final = 120.0  # of silence, after which a job is another's; on SQLite writers may wait a minute for each other
BEAT_S: Final = 5.0
MAX_LOST: Final = 5  # a job that takes its worker with it every time is no job to go on with
WORKER_LOST: Final = "worker-lost"


@dataclass(frozen=True)
class Lease:
    """A job that a worker has. ``attempt``: nobody who had it before writes in its name."""

    job: JobRecord
    worker: str
    attempt: int


@dataclass(frozen=True)
class Beat:
    """held: False where the job is another's now, or nobody's. cancel: whoever asked for it wants it no more."""

    held: bool
    cancel: bool


def claim(catalog: Catalog, worker: str, kinds: Collection[str]) -> Lease | None:
    """Take the oldest job of these kinds that waits and may run beside those that do; None when there is none.

    Jobs whose worker is silent are put back first, whatever their kind; those that lost ``MAX_LOST`` workers have
    failed. Asking costs a read where there is nothing to do.
    """
    if not is_claimable(catalog, kinds):
        return None
    with catalog.write(JOBS_LOCK) as session:
        for job in session.scalars(_silent(session)).all():
            _put_back(session, job, WORKER_LOST, f"Its worker {job.worker} was not heard of for {LEASE_S:.0f} s.")
        session.flush()
        found = session.scalar(_claimable(kinds))
        if found is None:
            return None
        found.state, found.worker = RUNNING, worker
        found.attempts += 1
        found.started_at = found.heartbeat_at = clock(session)
        found.progress_done, found.progress_total = 0, None
        session.flush()
        return Lease(JobRecord.of(found), worker, found.attempts)


def is_claimable(catalog: Catalog, kinds: Collection[str]) -> bool:
    """Whether ``claim`` has something to do; a read, which keeps no writer waiting."""
    with catalog.session() as session:
        return session.scalar(_claimable(kinds)) is not None or session.scalar(_silent(session)) is not None


def beat(catalog: Catalog, lease: Lease, done: int = 0, total: int | None = None) -> Beat:
    """Say that the worker lives and how far it is."""
    with catalog.write(JOBS_LOCK) as session:
        job = _held(session, lease)
        if job is None:
            return Beat(held=False, cancel=False)
        job.heartbeat_at = clock(session)
        job.progress_done, job.progress_total = done, total
        return Beat(held=True, cancel=job.cancel_requested)


def finish(
    catalog: Catalog,
    lease: Lease,
    state: str,
    *,
    result: dict[str, Any] | None = None,
    error: str | None = None,
    detail: str | None = None,
    progress: tuple[int, int | None] | None = None,
) -> bool:
    """Write how a job ended; False where it is the worker's no more, and nothing was written."""
    with catalog.write(JOBS_LOCK) as session:
        job = _held(session, lease)
        if job is None:
            return False
        if progress is not None:
            job.progress_done, job.progress_total = progress
        end(session, job, state, result=result, error=error, detail=detail)
        return True


def give_back(catalog: Catalog, lease: Lease, *, failure: tuple[str, str] | None = None) -> bool:
    """Let another worker do the rest; False where it is the worker's no more.

    failure: slug and message of what stopped this attempt, which counts as a lost worker does; else the worker was
    told to end, and a job may be given back so as often as workers are restarted.
    """
    with catalog.write(JOBS_LOCK) as session:
        job = _held(session, lease)
        if job is None:
            return False
        if failure is not None:
            _put_back(session, job, *failure)
        else:
            _requeue(session, job)
        return True


def _held(session: Session, lease: Lease) -> Job | None:
    # In the transaction of the write: one writer at a time, so this stays true until it is committed.
    return session.scalar(
        sa.select(Job).where(
            Job.id == lease.job.id,
            Job.state == RUNNING,
            Job.worker == lease.worker,
            Job.attempts == lease.attempt,
        )
    )


def _claimable(kinds: Collection[str]) -> sa.Select[Job]:
    running = sa.select(Job.exclusive).where(Job.state == RUNNING)
    query = sa.select(Job).where(Job.state == QUEUED, Job.kind.in_(kinds), Job.exclusive.not_in(running))
    return query.order_by(Job.created_at, Job.id).limit(1)


def _silent(session: Session) -> sa.Select[Job]:
    return sa.select(Job).where(Job.state == RUNNING, Job.heartbeat_at < clock(session) - timedelta(seconds=LEASE_S))


def _put_back(session: Session, job: Job, slug: str, message: str) -> None:
    job.lost += 1
    if job.lost >= MAX_LOST and not job.cancel_requested:
        end(session, job, FAILED, error=slug, detail=message)
    else:
        _requeue(session, job)


def _requeue(session: Session, job: Job) -> None:
    if job.cancel_requested:
        end(session, job, CANCELLED)
    else:
        job.state, job.worker, job.heartbeat_at = QUEUED, None, None
