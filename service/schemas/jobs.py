"""Durable jobs over the wire."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, Field

from index.jobs.deliveries import Delivery
from index.jobs.records import JobRecord

from ..problems import PROBLEMS

__all__ = ["JobReply", "JobsReply", "JobState", "WebhookReply"]

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class WebhookReply(BaseModel):
    """What became of the message about the end."""

    state: Literal["waiting", "delivered", "given-up"] = Field(
        description="`waiting`: for the end of the job, or for the next attempt."
    )
    attempts: int = 0
    last_error: str | None = Field(default=None, examples=["http-503"])
    next_attempt_at: datetime | None = None

    @classmethod
    def of(cls, delivery: Delivery | None) -> Self:
        if delivery is None:
            return cls(state="waiting")
        return cls(
            state=delivery.state,  # type: ignore[arg-type]
            attempts=delivery.attempts,
            last_error=delivery.last_error,
            next_attempt_at=delivery.next_attempt_at if delivery.state == "waiting" else None,
        )


class JobReply(BaseModel):
    id: str = Field(examples=["9f2c0d5e4b7a4d0c8f1e2a3b4c5d6e7f"])
    kind: str = Field(examples=["embed"])
    arguments: dict[str, Any] = Field(examples=[{"batch_size": 32, "retry_failed": False}])
    state: JobState
    done: int = Field(description="Units done so far: images and reports, files, rows or generations, by kind.")
    total: int | None = Field(description="Units known so far; null before the work has begun.")
    result: dict[str, Any] | None = Field(
        description="Counts, once it has ended.", examples=[{"images": 120, "reports": 118, "failed": {}}]
    )
    error: str | None = Field(description="Stable name of what went wrong.", examples=["worker-lost"])
    detail: str | None = Field(
        description="What that means. The operator has the whole message: `alta jobs show`, which may name files."
    )
    requested_by: str = Field(examples=["key:3f9a1c7d2b60"])
    cancel_requested: bool
    attempts: int = Field(description="How often it was begun.")
    created_at: datetime
    started_at: datetime | None
    heartbeat_at: datetime | None = Field(description="When its worker was last heard of.")
    finished_at: datetime | None
    webhook: WebhookReply | None = Field(default=None, description="Null where nobody is to be told.")

    @classmethod
    def of(cls, job: JobRecord, delivery: Delivery | None = None) -> Self:
        problem = PROBLEMS.get(job.error or "")
        return cls(
            id=job.id,
            kind=job.kind,
            arguments=job.arguments,
            state=job.state,  # type: ignore[arg-type]
            done=job.done,
            total=job.total,
            result=job.result,
            error=job.error,
            detail=None if problem is None else problem.text,
            requested_by=job.requested_by,
            cancel_requested=job.cancel_requested,
            attempts=job.attempts,
            created_at=job.created_at,
            started_at=job.started_at,
            heartbeat_at=job.heartbeat_at,
            finished_at=job.finished_at,
            webhook=WebhookReply.of(delivery) if job.webhook else None,
        )


class JobsReply(BaseModel):
    jobs: list[JobReply] = Field(description="The newest first.")
