"""Holding a job while it is worked on: a thread says that the worker lives, and hears what it has to know."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

from model.errors import ArchiveError

from ..catalog import Catalog
from .lease import BEAT_S, Lease, beat

__all__ = ["Holding", "hold"]

logger = logging.getLogger(__name__)

LOOK_S: Final = 0.2  # how soon the work hears that its worker was told to end


class Holding:
    """stop: set when the work has to end after the batch under way. lost: the job is another's. cancelled: it is
    wanted no more. Neither of both: the worker was told to end."""

    def __init__(self) -> None:
        self.stop = Event()
        self.lost = False
        self.cancelled = False
        self.done: tuple[int, int | None] = (0, None)

    def progress(self, done: int, total: int) -> None:
        """Kept until the next heartbeat: a job of small batches keeps no other writer waiting."""
        self.done = (done, total)


@contextmanager
def hold(catalog: Catalog, lease: Lease, *, told: Event, every: float = BEAT_S) -> Iterator[Holding]:
    """Heartbeats, ``every`` so many seconds, until the block ends. told: set when the worker has to end."""
    holding, ended = Holding(), Event()

    def keep() -> None:
        due = time.monotonic() + every
        while not ended.wait(min(LOOK_S, every)):
            if told.is_set():
                holding.stop.set()
            if time.monotonic() >= due:
                _beat(catalog, lease, holding)
                due = time.monotonic() + every

    thread = Thread(target=keep, name="job-heartbeat", daemon=True)
    thread.start()
    try:
        yield holding
    finally:
        ended.set()
        thread.join()


def _beat(catalog: Catalog, lease: Lease, holding: Holding) -> None:
    try:
        answer = beat(catalog, lease, *holding.done)
    except ArchiveError as error:  # the database is away: nobody else can take the job then either
        logger.warning("job %s: no heartbeat (%s)", lease.job.id, error.slug)
        return
    holding.lost = holding.lost or not answer.held
    holding.cancelled = holding.cancelled or answer.cancel
    if holding.lost or holding.cancelled:
        holding.stop.set()
