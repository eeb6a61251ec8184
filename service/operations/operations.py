"""The reply of /v1/operations, put together of what is kept."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from time import monotonic, sleep
from typing import Any, Final, TypeVar

import anyio.to_thread

from index.tables import IMAGE, REPORT

from ..resources import Resources
from ..schemas import EmbeddingNow, OperationsReply, Reason
from . import parts
from .kept import Kept, Lane, Reading
from .process import ProcessFigures

__all__ = ["Operations"]

PATIENCE_S: Final = 2.0  # that an answer waits for figures that are being read
LOOK_S: Final = 0.01
CLOSING_S: Final = 2.0

T = TypeVar("T")


class Operations:
    """Made when the app starts, closed when it ends."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._process = ProcessFigures(resources)

        def kept(name: str, read: Any, fresh_s: float) -> Kept[Any]:
            return Kept(name, partial(read, resources), fresh_s)

        self.kept = {
            "quick": (
                kept("disk", parts.disk, 1),
                kept("searched", parts.searched, 1),
                kept("jobs", parts.jobs, 1),
                kept("generations", parts.generations, 2),
                kept("backups", parts.backups, 10),
            ),
            "slow": (
                kept("archive", parts.archive, 2),
                kept("refused", parts.refused, 2),
                kept("throughput", parts.throughput, 5),
                kept("sizes", parts.sizes, 10),
            ),
            # By itself: of two million studies the others take a second or two each, this half a minute.
            "slowest": (kept("embedding", parts.embedding, 2),),
        }
        self._lanes = [Lane(name, some) for name, some in self.kept.items()]
        # For metrics alone: a row for every study that ever went back is counted.
        self._returned: Kept[dict[str, int]] = kept("returns", parts.returned, 2)
        self._returns_lane = Lane("returns", [self._returned])

    async def reply(self) -> OperationsReply:
        """Raises nothing for what cannot be read; waits two seconds at most for what is being read."""
        for lane in self._lanes:
            lane.ask()
        ends = monotonic() + PATIENCE_S
        while monotonic() < ends and any(lane.is_busy for lane in self._lanes):
            await asyncio.sleep(LOOK_S)
        return await anyio.to_thread.run_sync(self._put_together, limiter=self._resources.probes)

    def pending(self) -> dict[str, int]:
        """Studies that lack an embedding, by kind, as counted last; waits two seconds at most for the first count."""
        *_, lane = self._lanes
        (part,) = self.kept["slowest"]
        lane.ask()
        ends = monotonic() + PATIENCE_S
        while part.reading.value is None and lane.is_busy and monotonic() < ends:
            sleep(LOOK_S)
        found: EmbeddingNow | None = part.reading.value
        return {} if found is None else {IMAGE: found.image.missing, REPORT: found.report.missing}

    def returns(self) -> dict[str, int]:
        """Results that go back by state, as counted last; waits likewise."""
        self._returns_lane.ask()
        ends = monotonic() + PATIENCE_S
        while self._returned.reading.value is None and self._returns_lane.is_busy and monotonic() < ends:
            sleep(LOOK_S)
        return self._returned.reading.value or {}

    def close(self) -> None:
        for lane in (*self._lanes, self._returns_lane):
            lane.close(CLOSING_S)

    def _put_together(self) -> OperationsReply:
        found = {part.name: _measured(part.reading) for some in self.kept.values() for part in some}
        return OperationsReply(at=datetime.now(UTC), process=self._process.now(), **found)  # type: ignore[arg-type]


def _measured(reading: Reading[Any]) -> dict[str, Any]:
    problem = None if reading.problem is None else Reason.of(reading.problem)
    return {"as_of": reading.as_of, "problem": problem, "value": reading.value}
