"""One thread that writes the audit: what waits is written in one transaction, and each answer waits for its entry."""

import asyncio
import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

import sqlalchemy as sa

from index import Catalog
from index.access.audit import Event, record_events
from model.errors import ArchiveError

__all__ = ["AuditWriter"]

log = logging.getLogger(__name__)

BATCH: Final = 500  # requests whose entries are one transaction
WAIT_SECONDS: Final = 10.0  # of an answer for its entry

_Waiting = tuple[Sequence[Event], "Future[None]"]


class AuditWriter:
    """A chain has one end: entries of concurrent requests share a commit instead of queueing for one each."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="audit", daemon=True)
        self._thread.start()

    async def write(self, events: Sequence[Event]) -> None:
        """Returns when the entries are in the database. Raises ArchiveError audit-unavailable.

        Entries that were given up may still be written, and so may those of a request whose client left.
        """
        future: Future[None] = Future()
        self._queue.put((events, future))
        try:
            await asyncio.wait_for(asyncio.wrap_future(future), WAIT_SECONDS)
        except (ArchiveError, sa.exc.SQLAlchemyError, TimeoutError) as error:
            cause = error.slug if isinstance(error, ArchiveError) else type(error).__name__
            log.error("the audit cannot be written (%s)", cause)
            message = f"What was done could not be written to the audit, and nothing is answered without: {cause}."
            raise ArchiveError(message, "audit-unavailable") from error

    def close(self) -> None:
        """What waits is written first."""
        self._queue.put(None)
        self._thread.join()

    def _write_all(self) -> None:
        ending = False
        while not ending:
            batch = [self._queue.get()]
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get())
            ending = None in batch
            self._write([waiting for waiting in batch if waiting is not None])

    def _write(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        # After this a request that is given up does not take its future along.
        futures = [future for _, future in batch if future.set_running_or_notify_cancel()]
        try:
            record_events(self._catalog, [event for events, _ in batch for event in events])
        except Exception as error:  # whatever a driver raises: those who wait must hear of it
            for future in futures:
                future.set_exception(error)
        else:
            for future in futures:
                future.set_result(None)
