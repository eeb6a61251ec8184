"""Work that was asked for, and who is told of its end."""

from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base, UtcDateTime, now

__all__ = ["CANCELLED", "FAILED", "QUEUED", "RUNNING", "SUCCEEDED", "Job", "WebhookDelivery"]

QUEUED: Final = "queued"
RUNNING: Final = "running"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"


class Job(Base):
    """Work that outlives the request that asked for it, and the worker that began it.

    ``state``: queued, running, succeeded, failed or cancelled. A worker that holds a running job writes
    ``heartbeat_at``; where that is old, the job is another worker's to take. ``attempts`` counts how often the job was
    begun and never goes back: with it, who has lost a job is told from who has it now.
    """

    __tablename__ = "job"
    __table_args__ = (
        # What must not run twice at once runs once, whatever two workers try.
        sa.Index(
            "uq_job_running",
            "exclusive",
            unique=True,
            sqlite_where=sa.text("state = 'running'"),
            postgresql_where=sa.text("state = 'running'"),
        ),
        sa.Index(None, "state", "created_at"),
    )

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(32))
    arguments: Mapped[str] = mapped_column(sa.Text, default="{}")  # JSON
    exclusive: Mapped[str] = mapped_column(sa.String(64))  # of the jobs that share it one runs at a time
    state: Mapped[str] = mapped_column(sa.String(16))
    progress_done: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    progress_total: Mapped[int | None] = mapped_column(sa.BigInteger)
    result: Mapped[str | None] = mapped_column(sa.Text)  # JSON
    error: Mapped[str | None] = mapped_column(sa.String(64))  # slug
    detail: Mapped[str | None] = mapped_column(sa.Text)
    requested_by: Mapped[str] = mapped_column(sa.String(96))
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    attempts: Mapped[int] = mapped_column(default=0)
    lost: Mapped[int] = mapped_column(default=0)  # attempts that ended with their worker, or its database
    worker: Mapped[str | None] = mapped_column(sa.String(128))
    webhook: Mapped[str | None] = mapped_column(sa.Text)  # URL that is told of its end
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    heartbeat_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class WebhookDelivery(Base):
    """A message to a receiver that was configured, until it was taken or given up."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (sa.Index(None, "delivered_at", "given_up_at", "next_attempt_at"),)

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    job_id: Mapped[str] = mapped_column(sa.ForeignKey("job.id"), index=True)
    url: Mapped[str] = mapped_column(sa.Text)
    body: Mapped[str] = mapped_column(sa.Text)
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    delivered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    given_up_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_error: Mapped[str | None] = mapped_column(sa.String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
