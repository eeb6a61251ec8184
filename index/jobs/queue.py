"""Asking for jobs, looking at them, and calling them off."""

import json
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from model.errors import ArchiveError

from ..catalog import JOBS_LOCK, Catalog
from ..tables import Job, WebhookDelivery
from ..tables.jobs import CANCELLED, QUEUED, RUNNING
from .ending import clock, end
from .records import JobRecord

__all__ = ["KEPT", "MAX_QUEUED", "cancel", "enqueue", "list_jobs", "read_job"]

MAX_QUEUED: Final = 1000  # so that a client that asks in a loop fills no disk
KEPT: Final = timedelta(days=90)  # that the record of a job stays after its end


def enqueue(
    catalog: Catalog,
    kind: str,
    arguments: Mapping[str, Any],
    *,
    exclusive: str,
    requested_by: str,
    webhook: str | None = None,
) -> JobRecord:
    """Ask for a job; once this returns it will be done, whatever is restarted meanwhile.

    exclusive: of the jobs that share this word one runs at a time. webhook: a URL that was checked to be allowed.
    Raises ArchiveError too-many-jobs.
    """
    with catalog.write(JOBS_LOCK) as session:
        waiting = session.scalar(sa.select(sa.func.count()).select_from(Job).where(Job.state == QUEUED)) or 0
        if waiting >= MAX_QUEUED:
            raise ArchiveError(f"Expected under {MAX_QUEUED} jobs that wait, found {waiting}.", "too-many-jobs")
        _forget_old(session)
        job = Job(
            id=uuid.uuid4().hex,
            kind=kind,
            arguments=json.dumps(arguments),
            exclusive=exclusive,
            state=QUEUED,
            requested_by=requested_by,
            webhook=webhook,
            created_at=clock(session),
        )
        session.add(job)
        session.flush()
        return JobRecord.of(job)


def read_job(catalog: Catalog, job_id: str) -> JobRecord:
    """Raises ArchiveError unknown-job."""
    with catalog.session() as session:
        job = session.get(Job, job_id)
    if job is None:
        raise _unknown(job_id)
    return JobRecord.of(job)


def list_jobs(
    catalog: Catalog, *, state: str | None = None, kind: str | None = None, limit: int = 50
) -> list[JobRecord]:
    """The newest first."""
    query = sa.select(Job).order_by(Job.created_at.desc(), Job.id).limit(limit)
    if state is not None:
        query = query.where(Job.state == state)
    if kind is not None:
        query = query.where(Job.kind == kind)
    with catalog.session() as session:
        return [JobRecord.of(job) for job in session.scalars(query)]


def cancel(catalog: Catalog, job_id: str) -> JobRecord:
    """Call a job off. One that waits has ended on return; one that runs ends after the batch under way; one that has
    ended stays as it is. Raises ArchiveError unknown-job."""
    with catalog.write(JOBS_LOCK) as session:
        job = session.get(Job, job_id)
        if job is None:
            raise _unknown(job_id)
        if job.state == QUEUED:
            end(session, job, CANCELLED)
        elif job.state == RUNNING:
            job.cancel_requested = True
        session.flush()
        return JobRecord.of(job)


def _forget_old(session: Session) -> None:
    old = sa.select(Job.id).where(Job.finished_at < clock(session) - KEPT)
    session.execute(sa.delete(WebhookDelivery).where(WebhookDelivery.job_id.in_(old)))
    session.execute(sa.delete(Job).where(Job.id.in_(old)))


def _unknown(job_id: str) -> ArchiveError:
    return ArchiveError(f"There is no job {job_id[:40]!r}.", "unknown-job")
