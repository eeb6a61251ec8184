"""Jobs and workers as the administrator's figures have them."""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from index.jobs.records import JobRecord

from .jobs import JobReply, JobState

__all__ = ["JobNow", "JobsNow", "WorkerNow"]


class JobNow(BaseModel):
    """As `/v1/jobs` has it, without who asked for it and with which arguments: a path may name a patient."""

    id: str = Field(examples=["9f2c0d5e4b7a4d0c8f1e2a3b4c5d6e7f"])
    kind: str = Field(examples=["embed"])
    state: JobState
    done: int
    total: int | None = Field(description="Null before the work has begun.")
    result: dict[str, Any] | None = Field(
        description="Counts, once it has ended.", examples=[{"images": 120, "reports": 118, "failed": {}}]
    )
    error: str | None = Field(examples=["worker-lost"])
    detail: str | None = Field(description="What that means; `alta jobs show` has the whole message.")
    cancel_requested: bool
    attempts: int
    started_at: datetime | None
    heartbeat_at: datetime | None = Field(description="When its worker was last heard of.")
    finished_at: datetime | None

    @classmethod
    def of(cls, job: JobRecord) -> Self:
        told = JobReply.of(job).model_dump(include=set(cls.model_fields))
        return cls.model_validate(told)


class WorkerNow(BaseModel):
    name: str = Field(examples=["worker-1:4711"])
    last_seen_at: datetime
    job_id: str | None = Field(description="What it works on now.")


class JobsNow(BaseModel):
    queued: int
    running: int
    succeeded: int = Field(description="Of the last 90 days, as are the two below.")
    failed: int
    cancelled: int
    waiting_since: datetime | None = Field(description="When the oldest job that waits was asked for.")
    under_way: list[JobNow] = Field(description="The oldest first.")
    ended: list[JobNow] = Field(description="The last ten, the newest first.")
    workers: list[WorkerNow] = Field(
        description="Heard of within a day, the last one first. A worker is known by its jobs: one without is not seen."
    )
