"""Prometheus metrics of one app. Labels come from closed sets, so none can name a patient or grow without end."""

from importlib.metadata import version
from typing import Final, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from ..problems import PROBLEMS
from .answers import Answers, answers_of

__all__ = ["UNMATCHED", "Metrics", "Stage", "method_label"]

Stage = Literal["receive", "decode", "queue", "encode", "search", "evidence", "finish"]

UNMATCHED: Final = "-"  # the route of what was turned away before one was found, or asked for an address that is none
METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128)


def method_label(method: str) -> str:
    """A client may call its method anything."""
    return method if method in METHODS else "other"


class Metrics:
    """Every app has its own registry: several live in one process, in tests at least. Thread-safe."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Histogram(
            "alta_http_request_duration_seconds",
            "Requests, from their header to the end of their answer.",
            ("method", "route", "status"),
            buckets=SECONDS,
            registry=registry,
        )
        self.requests_running = Gauge("alta_http_requests_running", "Requests under way.", registry=registry)
        self._stages = Histogram(
            "alta_stage_duration_seconds",
            "What a request spends its time on.",
            ("stage",),
            buckets=SECONDS,
            registry=registry,
        )
        self._problems = Counter(
            "alta_problems", "Requests answered with a problem, by its slug.", ("reason",), registry=registry
        )
        self._too_many = Counter(
            "alta_too_many_requests", "Requests turned away with 429, for load, rate or quota.", registry=registry
        )
        self._files = Counter(
            "alta_files_refused", "Files of queries that were not used, by slug.", ("reason",), registry=registry
        )
        self._batch_size = Histogram(
            "alta_batch_size",
            "Images or texts that went through the encoder together.",
            ("line",),
            buckets=SIZES,
            registry=registry,
        )
        Info("alta_build", "What is running.", registry=registry).info({"version": version("alta-retrieval")})
        ProcessCollector(registry=registry)
        for name in get_args(Stage):  # what has not happened yet is 0, so that its first time is a change
            self._stages.labels(name)
        for slug in PROBLEMS:
            self._problems.labels(slug)

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """route: the template, or UNMATCHED. status: 0 where no answer began."""
        kind = f"{status // 100}xx" if status else "none"
        self._requests.labels(method_label(method), route, kind).observe(seconds)
        if status == 429:
            self._too_many.inc()

    def count_problem(self, slug: str) -> None:
        self._problems.labels(slug).inc()

    def count_refused_file(self, slug: str) -> None:
        self._files.labels(slug if slug in PROBLEMS else "other").inc()

    def count_stage(self, name: Stage, seconds: float) -> None:
        self._stages.labels(name).observe(max(seconds, 0.0))

    def count_batch(self, line: str, size: int) -> None:
        self._batch_size.labels(line).observe(size)

    def answers(self) -> list[Answers]:
        """Every request since the start that was answered, by route and class of status."""
        return list(answers_of(self._requests))

    @property
    def running(self) -> int:
        return _value(self.requests_running)

    @property
    def turned_away(self) -> int:
        return _value(self._too_many)


def _value(metric: Counter | Gauge) -> int:
    """Of a metric without labels."""
    return int(next(iter(metric.collect())).samples[0].value)
