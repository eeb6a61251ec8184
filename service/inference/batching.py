"""Items of many requests meet here and are encoded in batches, by threads of their own.

One thread for a GPU; on a processor a few that share it (``model.encoder.ProcessorSharing``): a batch that is alone has
all cores, and several have equal parts of them.

A batch goes as soon as a thread is free and the batch is full, or has as many items as the one before it had, or its
first item has waited for a few milliseconds. So a lone caller never waits for company, and callers that come together
are not parted. While all threads work the next batch gathers by itself.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from model.encoder import ProcessorSharing

from ..errors import RequestError
from ..observing import Work, work_now

__all__ = ["Batcher", "Line", "Observer"]

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Told of every batch, in the thread that encodes; it must neither block nor raise."""

    def encoded(self, line: str, items: Sequence[tuple[Work | None, float]], size: int, seconds: float) -> None:
        """A batch of ``line`` was encoded.

        items: what each was for, and the seconds from joining the line to the beginning of its batch. size: images or
        texts.
        """
        ...


@dataclass(eq=False)
class _Item:
    value: Any
    size: int
    joined: float  # monotonic
    work: Work | None = field(default_factory=work_now)
    result: "Future[Any]" = field(default_factory=Future)


@dataclass(eq=False)
class Line:
    """Items of one kind. encode: values to one result each. batch_size: sum of sizes; a larger item is a batch."""

    encode: Callable[[list[Any]], Iterable[Any]]
    batch_size: int
    items: deque[_Item] = field(default_factory=deque, init=False)
    company: int = field(default=1, init=False)  # items of the last batch

    def ready_at(self, wait_s: float) -> float:
        """When its first items are to go, in the time of ``monotonic``. The line is not empty."""
        if len(self.items) >= self.company or sum(item.size for item in self.items) >= self.batch_size:
            return 0.0
        return self.items[0].joined + wait_s

    def take(self, threads: int) -> list[_Item]:
        """The next batch, where so many threads are free to encode what waits."""
        most = min(-(-sum(item.size for item in self.items) // threads), self.batch_size)
        batch = [self.items.popleft()]
        size = batch[0].size
        while self.items and size + self.items[0].size <= most:
            batch.append(self.items.popleft())
            size += batch[-1].size
        self.company = len(batch)
        return batch


class Batcher:
    """Thread-safe. lines: by their names. wait_s: for company. bound: items in a line at most.

    sharing: whose calls the threads make, where it has any use for several at once.
    """

    def __init__(
        self,
        lines: Mapping[str, Line],
        wait_s: float,
        bound: int,
        observer: Observer | None = None,
        sharing: ProcessorSharing | None = None,
    ) -> None:
        self._lines = dict(lines)
        self._wait_s, self._bound, self._observer, self._sharing = wait_s, bound, observer, sharing
        self._most_threads = sharing.calls_at_once if sharing else 1
        self._changed = threading.Condition()
        self._threads: set[threading.Thread] = set()
        self._working = 0  # of the threads
        self._closed = False

    @property
    def depths(self) -> dict[str, int]:
        """Items that wait, by line."""
        with self._changed:
            return {name: len(line.items) for name, line in self._lines.items()}

    def submit(self, line: str, value: Any, size: int = 1) -> "Future[Any]":
        """What ``value`` is encoded to. Cancelling takes it out of its line. Raises RequestError: overloaded."""
        item = _Item(value, size, monotonic())
        with self._changed:
            items = self._lines[line].items
            if len(items) >= self._bound:
                raise RequestError(f"As many {line} as may wait to be encoded, {self._bound}, do.", "overloaded")
            items.append(item)
            if len(self._threads) < self._most_threads and len(self._threads) - self._working < self._waiting():
                thread = threading.Thread(target=self._work, name="encoder", daemon=True)
                self._threads.add(thread)
                thread.start()
            self._changed.notify()
        item.result.add_done_callback(lambda result: self._forget(line, item) if result.cancelled() else None)
        return item.result

    def close(self) -> None:
        """End the threads when what waits has been encoded. Whoever still holds this and comes later is served."""
        with self._changed:
            self._closed = True
            threads = list(self._threads)
            self._changed.notify_all()
        for thread in threads:
            thread.join()

    def _waiting(self) -> int:
        return sum(len(line.items) for line in self._lines.values())

    def _forget(self, line: str, item: _Item) -> None:
        with self._changed:
            items = self._lines[line].items
            if item in items:  # else its batch was taken in this moment, and passes it over
                items.remove(item)

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            name, batch, calls = taken
            batch = [item for item in batch if item.result.set_running_or_notify_cancel()]
            if batch:
                self._serve(name, batch, calls)
            with self._changed:
                self._working -= 1

    def _serve(self, name: str, batch: list[_Item], calls: int) -> None:
        began = monotonic()
        results = self._encode(self._lines[name], batch, calls)
        if self._observer is not None:
            items = [(item.work, began - item.joined) for item in batch]
            try:
                self._observer.encoded(name, items, sum(item.size for item in batch), monotonic() - began)
            except Exception as error:  # without this thread every request would wait until its time is up
                log.error("a batch was not observed (%s)", type(error).__name__)
        for item, result in zip(batch, results, strict=True):
            if isinstance(result, BaseException):
                item.result.set_exception(result)
            else:
                item.result.set_result(result)

    def _next(self) -> tuple[str, list[_Item], int] | None:
        """A batch, its line, and how many are encoded at once with it, itself included; None: no more will come."""
        with self._changed:
            while True:
                waiting = [(line.ready_at(self._wait_s), name) for name, line in self._lines.items() if line.items]
                now = monotonic()
                ready = [name for at, name in waiting if at <= now]
                if ready:
                    name = min(ready, key=lambda name: self._lines[name].items[0].joined)
                    free = self._most_threads - self._working
                    batch = self._lines[name].take(free)
                    others = min(free - 1, self._waiting())
                    self._working += 1
                    self._changed.notify()  # for these others
                    return name, batch, self._working + others
                if not waiting and self._closed:
                    self._threads.discard(threading.current_thread())
                    return None
                self._changed.wait(min(waiting)[0] - now if waiting else None)

    def _encode(self, line: Line, batch: list[_Item], calls: int) -> list[Any]:
        """One a batch's item: its result, or the error that is its own."""
        try:
            if self._sharing is not None:
                self._sharing.share_processor(calls)
            return [result for _, result in zip(batch, line.encode([item.value for item in batch]), strict=True)]
        except BaseException as error:  # whatever it is, it is for who waits; the thread goes on
            if len(batch) == 1:
                return [error]
            log.warning("a batch of %d failed (%s); its items are encoded one by one", len(batch), type(error).__name__)
            return [result for item in batch for result in self._encode(line, [item], calls)]
