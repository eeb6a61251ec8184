"""The request or job that the running code works for.

It is kept in a context variable, which asyncio's tasks and anyio's threads inherit, so that neither a log line nor a
stopwatch needs it as an argument. Other threads get it by ``contextvars.copy_context().run``; processes do not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

from .metrics import Metrics, Stage

__all__ = ["Work", "count_refused_file", "record_stage", "stage", "work_now", "working_on"]


@dataclass
class Work:
    """metrics: None where nobody counts, as in a job. staged_at: when its last stage ended, on ``perf_counter``."""

    kind: Literal["request_id", "job_id"]
    id: str
    metrics: Metrics | None = None
    staged_at: float | None = None


_now: ContextVar[Work | None] = ContextVar("alta_work", default=None)


def work_now() -> Work | None:
    return _now.get()


@contextmanager
def working_on(work: Work) -> Iterator[Work]:
    """Log lines of the block, and of the threads that inherit its context, carry the work's identifier."""
    token = _now.set(work)
    try:
        yield work
    finally:
        _now.reset(token)


@contextmanager
def stage(name: Stage) -> Iterator[None]:
    """The block is a stage of the request under way; outside of one it is only run."""
    began = perf_counter()
    try:
        yield
    finally:
        record_stage(name, perf_counter() - began)


def record_stage(name: Stage, seconds: float) -> None:
    """A stage of the request under way ends now and took so long."""
    work = _now.get()
    if work is not None and work.metrics is not None:
        work.metrics.count_stage(name, seconds)
        work.staged_at = perf_counter()


def count_refused_file(slug: str) -> None:
    """A file of the request under way was not used."""
    work = _now.get()
    if work is not None and work.metrics is not None:
        work.metrics.count_refused_file(slug)
