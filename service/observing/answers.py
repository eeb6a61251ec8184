"""Requests that were answered, read back from their histogram."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from prometheus_client import Histogram

__all__ = ["Answers", "answers_of"]


@dataclass(frozen=True)
class Answers:
    """route: template. status: class, such as ``2xx``. below: how many took at most so many seconds, cumulative."""

    route: str = ""
    status: str = ""
    count: int = 0
    below: Mapping[float, int] = field(default_factory=dict)

    @classmethod
    def together(cls, some: Iterable["Answers"]) -> "Answers":
        count, below = 0, Counter[float]()
        for each in some:
            count += each.count
            below.update(each.below)
        return cls(count=count, below=dict(below))

    def quantile(self, share: float) -> float | None:
        """Seconds within which this share was answered, taken as even within a bucket; the highest bound where it lies
        beyond; None without any answer."""
        if not self.count:
            return None
        wanted = share * self.count
        bounds = [(0.0, 0), *sorted(self.below.items())]
        for (low, before), (high, until) in pairwise(bounds):
            if until >= wanted and high != float("inf"):
                return low + (high - low) * (wanted - before) / max(until - before, 1)
        return max((bound for bound, _ in bounds if bound != float("inf")), default=None)


def answers_of(histogram: Histogram) -> Iterator[Answers]:
    """One for each route and class of status of a histogram with the labels ``route`` and ``status``."""
    counts: Counter[tuple[str, str]] = Counter()
    below: defaultdict[tuple[str, str], Counter[float]] = defaultdict(Counter)
    for metric in histogram.collect():
        for sample in metric.samples:
            key = sample.labels.get("route", ""), sample.labels.get("status", "")
            if sample.name.endswith("_count"):
                counts[key] += int(sample.value)
            elif sample.name.endswith("_bucket"):
                below[key][float(sample.labels["le"])] += int(sample.value)
    for (route, status), count in counts.items():
        yield Answers(route, status, count, dict(below[route, status]))
