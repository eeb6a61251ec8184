"""A job as others see it."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from ..tables import Job

__all__ = ["JobRecord"]


@dataclass(frozen=True)
class JobRecord:
    """See ``tables.Job``. total: None where nobody knows yet. result: counts; None before the end."""

    id: str
    kind: str
    arguments: dict[str, Any]
    state: str
    done: int
    total: int | None
    result: dict[str, Any] | None
    error: str | None
    detail: str | None
    requested_by: str
    cancel_requested: bool
    attempts: int
    lost: int
    worker: str | None
    webhook: str | None
    created_at: datetime
    started_at: datetime | None
    heartbeat_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, row: Job) -> Self:
        return cls(
            id=row.id,
            kind=row.kind,
            arguments=json.loads(row.arguments),
            state=row.state,
            done=row.progress_done,
            total=row.progress_total,
            result=json.loads(row.result) if row.result else None,
            error=row.error,
            detail=row.detail,
            requested_by=row.requested_by,
            cancel_requested=row.cancel_requested,
            attempts=row.attempts,
            lost=row.lost,
            worker=row.worker,
            webhook=row.webhook,
            created_at=row.created_at,
            started_at=row.started_at,
            heartbeat_at=row.heartbeat_at,
            finished_at=row.finished_at,
        )
