"""What a request does is told here once, and becomes metrics and, where they are wanted, traces."""

from collections.abc import Mapping, Sequence
from time import perf_counter

from .metrics import Metrics, Stage, method_label
from .tracing import Tracing
from .work import Work

__all__ = ["Observer"]


class Observer:
    """Thread-safe. tracing: None where no traces are wanted."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.tracing: Tracing | None = None

    def begin(self, request_id: str, headers: Mapping[str, str]) -> Work:
        """Of a request."""
        self.metrics.requests_running.inc()
        return Work("request_id", request_id, self, self.tracing.begin(headers) if self.tracing else None)

    def end(self, work: Work, method: str, route: str, status: int, seconds: float, problem: str | None) -> None:
        if work.staged_at is not None:
            self.stage(work, "finish", perf_counter() - work.staged_at)
        self.metrics.requests_running.dec()
        self.metrics.count_request(method, route, status, seconds)
        if problem is not None:
            self.metrics.count_problem(problem)
        if self.tracing is not None and work.span is not None:
            self.tracing.end(work.span, method_label(method), route, status, problem)

    def stage(self, work: Work, name: Stage, seconds: float, ended_ago: float = 0.0) -> None:
        self.metrics.count_stage(name, seconds)
        if self.tracing is not None and work.span is not None:
            self.tracing.stage(work.span, name, seconds, ended_ago)
        work.staged_at = perf_counter()

    def refused_file(self, slug: str) -> None:
        self.metrics.count_refused_file(slug)

    def encoded(self, line: str, items: Sequence[tuple[Work | None, float]], size: int, seconds: float) -> None:
        """A batch went through the encoder (``inference.Observer``). Its time is that of every request in it."""
        self.metrics.count_batch(line, size)
        for work, waited in items:
            if work is not None:
                self.stage(work, "queue", waited, ended_ago=seconds)
                self.stage(work, "encode", seconds)
