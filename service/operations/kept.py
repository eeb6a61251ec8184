"""Figures that are read now and then, beside the requests, and kept meanwhile.

Some take milliseconds and some, of an archive of millions, seconds. Nobody waits for the slow ones twice: each is read
by a thread of its lane when somebody asks and it is due, and is due again after ``SHARE`` times what it took.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from model.errors import AltaError

__all__ = ["COUNTING", "Kept", "Lane", "Reading"]

log = logging.getLogger(__name__)

T = TypeVar("T")

COUNTING: Final = "counting"
SHARE: Final = 20.0  # so reading takes at most a twentieth of one core, or of the database, however large the archive


@dataclass(frozen=True)
class Reading(Generic[T]):
    """as_of: when the value was read. problem: slug of why it is not newer; None where the last reading went well."""

    value: T | None = None
    as_of: datetime | None = None
    problem: str | None = COUNTING


class Kept(Generic[T]):
    """One part. fresh_s: it is not read again for so long at least. ``reading`` may be taken by any thread."""

    def __init__(self, name: str, read: Callable[[], T], fresh_s: float) -> None:
        self.name, self._read, self._fresh_s = name, read, fresh_s
        self._due = float("-inf")
        self.reading: Reading[T] = Reading()

    def is_due(self) -> bool:
        return monotonic() >= self._due

    def read_now(self) -> None:
        """Raises nothing: a part that cannot be read must not cost the others."""
        began = monotonic()
        try:
            self.reading = Reading(self._read(), datetime.now(UTC), None)
        except Exception as error:  # whatever a driver or a disk raises
            slug = error.slug if isinstance(error, AltaError) else "internal-error"
            log.warning("%s cannot be read (%s)", self.name, slug if slug != "internal-error" else type(error).__name__)
            self.reading = Reading(self.reading.value, self.reading.as_of, slug)
        ended = monotonic()
        self._due = ended + max(self._fresh_s, SHARE * (ended - began))


class Lane:
    """Parts that one thread reads, one after the other; it is there while there is something to read."""

    def __init__(self, name: str, parts: Iterable[Kept[Any]]) -> None:
        self._name, self._parts = name, tuple(parts)
        self._lock = threading.Lock()
        self._waiting: deque[Kept[Any]] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False

    def ask(self) -> None:
        """Begin to read what is due, unless that is under way."""
        with self._lock:
            if self._closed or self._thread is not None:
                return
            self._waiting.extend(part for part in self._parts if part.is_due())
            if self._waiting:
                # A daemon: a statement that the database does not answer must not keep the process from ending.
                self._thread = threading.Thread(target=self._work, name=f"figures {self._name}", daemon=True)
                self._thread.start()

    @property
    def is_busy(self) -> bool:
        with self._lock:
            return self._thread is not None

    def close(self, seconds: float) -> None:
        """Read no more, and wait that long for what is being read."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                part = self._waiting.popleft()
            part.read_now()
