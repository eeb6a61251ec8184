"""The end of a job, and the message about it, in one transaction: no end goes untold, none is told that was not."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..generations.reindex import drop_reindex
from ..tables import Job, WebhookDelivery
from ..tables.base import now
from ..tables.jobs import CANCELLED

__all__ = ["clock", "end"]

REINDEX: Final = "reindex"


def clock(session: Session) -> datetime:
    """The time by which jobs are judged: the database's, where hosts whose clocks differ share one."""
    if session.get_bind().dialect.name != "postgresql":
        return now()
    # Not now(): that is when the transaction began, which may have waited for another writer since.
    return session.execute(sa.select(sa.func.clock_timestamp())).scalar_one().astimezone(UTC)


def end(
    session: Session,
    job: Job,
    state: str,
    *,
    result: dict[str, Any] | None = None,
    error: str | None = None,
    detail: str | None = None,
) -> None:
    """Write the end of a job: succeeded, failed or cancelled."""
    job.state, job.finished_at = state, clock(session)
    job.result = None if result is None else json.dumps(result)
    job.error, job.detail = error, detail.replace("\x00", "") if detail else None
    if job.kind == REINDEX and state == CANCELLED and job.attempts:
        drop_reindex(session)  # wherever it was called off: at work, given back, or lost with its worker
    if job.webhook:
        session.add(
            WebhookDelivery(
                id=uuid.uuid4().hex,
                job_id=job.id,
                url=job.webhook,
                body=_message(job, result),
                next_attempt_at=job.finished_at,
            )
        )


def _message(job: Job, result: dict[str, Any] | None) -> str:
    """What the receiver is told: nothing about patients, so neither the arguments, which may name files, nor
    ``detail``."""
    assert job.finished_at is not None
    data = {"id": job.id, "kind": job.kind, "state": job.state, "error": job.error, "result": result}
    return json.dumps({"type": f"job.{job.state}", "timestamp": job.finished_at.isoformat(), "data": data})
