"""Requests a day by caller, over all replicas: counted in memory, added to the database every second.

So N replicas together let through at most what comes to the other N - 1 within a second more than the quota says.
"""

import logging
import threading
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Final

import anyio.to_thread
import sqlalchemy as sa
from anyio import CapacityLimiter

from index import Catalog
from index.access.keys import note_use
from index.access.usage import add_usage, usage_on
from index.catalog import ACCESS_LOCK
from model.errors import ArchiveError

from ..errors import RequestError
from .principals import Principal

__all__ = ["Quotas"]

log = logging.getLogger(__name__)

WRITE_SECONDS: Final = 1.0


class Quotas:
    """``admit`` on the event loop, a thread of its own that writes."""

    def __init__(self, catalog: Catalog, per_day: int, threads: CapacityLimiter) -> None:
        """per_day: for callers without a number of their own; 0 is no limit."""
        self._catalog = catalog
        self._per_day = per_day
        self._threads = threads
        self._lock = threading.Lock()
        self._pending: Counter[tuple[str, date]] = Counter()
        self._written: dict[tuple[str, date], int] = {}  # as the database had it when last looked at
        self._used_keys: dict[str, date] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._write_often, name="usage", daemon=True)
        self._thread.start()

    async def admit(self, caller: Principal) -> None:
        """Count a request. Raises RequestError quota-used-up, ArchiveError."""
        time = datetime.now(UTC)
        place = (caller.name, time.date())
        quota = self._per_day if caller.requests_per_day is None else caller.requests_per_day
        if quota and place not in self._written:
            read = partial(usage_on, self._catalog, place[1], [caller.name])
            found = await anyio.to_thread.run_sync(read, limiter=self._threads)
            with self._lock:
                self._written.setdefault(place, found.get(caller.name, 0))
        with self._lock:
            if quota and self._written.get(place, 0) + self._pending[place] >= quota:
                midnight = datetime.combine(place[1] + timedelta(days=1), datetime.min.time(), UTC)
                headers = {"Retry-After": str(int((midnight - time).total_seconds()) + 1)}
                message = f"Expected at most {quota} requests a day, found more. The next day begins at 00:00 UTC."
                raise RequestError(message, "quota-used-up", headers=headers)
            self._pending[place] += 1
            if caller.key is not None:
                self._used_keys[caller.key] = place[1]

    def write(self) -> None:
        """Add what was counted to the database. Raises ArchiveError; what was not written stays counted."""
        with self._lock:
            pending, used = Counter(self._pending), dict(self._used_keys)
        if not pending:
            return
        with self._catalog.write(ACCESS_LOCK) as session:
            written = add_usage(session, pending)
            note_use(session, used)
        today = max(day for _, day in pending)
        with self._lock:
            self._pending = self._pending - pending  # without those that came to nothing
            self._written = {place: n for place, n in self._written.items() if place[1] >= today} | written
            self._used_keys = {key: day for key, day in self._used_keys.items() if used.get(key) != day}

    def close(self) -> None:
        self._ending.set()
        self._thread.join()

    def _write_often(self) -> None:
        while True:
            ended = self._ending.wait(WRITE_SECONDS)
            try:
                self.write()
            except (ArchiveError, sa.exc.SQLAlchemyError) as error:
                log.warning("usage is not written now and counted on (%s)", type(error).__name__)
            if ended:
                return
