"""The request or job that the running code works for.

It is kept in a context variable, which asyncio's tasks and anyio's threads inherit, so that neither a log line nor a
stopwatch needs it as an argument. Other threads get it by ``contextvars.copy_context().run``; processes do not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Literal

from .metrics import Stage

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from .observer import Observer

__all__ = ["Work", "count_refused_file", "record_stage", "stage", "work_now", "working_on"]


@dataclass
class Work:
    """observer: None where nobody watches, as in a job. staged_at: when its last stage ended, on ``perf_counter``."""

    kind: Literal["request_id", "job_id"]
    id: str
    observer: "Observer | None" = None
    span: "Span | None" = None
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
    if work is not None and work.observer is not None:
        work.observer.stage(work, name, seconds)


def count_refused_file(slug: str) -> None:
    """A file of the request under way was not used."""
    work = _now.get()
    if work is not None and work.observer is not None:
        work.observer.refused_file(slug)
