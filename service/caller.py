"""Who waits for an answer: until when, and whether still. Work that nobody waits for leaves its queue.

A request's caller is set where the request begins (``middleware``) and is known to every thread that works for it:
threads of the server inherit the context of the request.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Any, TypeVar

from .errors import RequestError

__all__ = ["Caller", "no_caller", "wait_for"]

T = TypeVar("T")

_current: ContextVar["Caller | None"] = ContextVar("caller", default=None)


class Caller:
    """seconds: how long the answer may take. Thread-safe."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.begin()
        self._waited_for: set[Future[Any]] = set()
        self._left = False
        self._lock = threading.Lock()

    def begin(self) -> None:
        """All is there that the answer needs: its time runs from now on."""
        self._deadline = monotonic() + self._seconds

    @contextmanager
    def present(self) -> Iterator[None]:
        """What is done inside, in whatever thread, is done for this caller."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    @property
    def remaining(self) -> float:
        """Seconds until the answer is due, at least 0."""
        return max(0.0, self._deadline - monotonic())

    def leave(self) -> None:
        """The caller has gone: what has not begun for them does not begin any more."""
        with self._lock:
            self._left = True
            waited_for, self._waited_for = self._waited_for, set()
        for future in waited_for:  # outside of the lock: cancelling takes the locks of queues
            future.cancel()

    def wait_for(self, future: Future[T]) -> T:
        """The future's result. Raises what it raises; RequestError: request-timed-out, client-left."""
        with self._lock:
            left = self._left
            if not left:
                self._waited_for.add(future)
        if left:
            future.cancel()
            raise _gone()
        try:
            return future.result(self.remaining)
        except CancelledError:
            raise _gone() from None
        except TimeoutError:
            if not future.cancel() and future.done():  # it ended in this moment, or the error is the work's own
                return future.result()
            message = f"Expected the answer within {self._seconds:g} s; the service has too much to do for that."
            raise RequestError(message, "request-timed-out") from None
        finally:
            with self._lock:
                self._waited_for.discard(future)


@contextmanager
def no_caller() -> Iterator[None]:
    """What is done inside is done for as long as it takes.

    The task of a request may have inherited the caller of an earlier one on its connection: a server that paused
    reading goes on in the context of who reads.
    """
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


def wait_for(future: Future[T]) -> T:
    """The future's result, for as long as the current caller waits for it; see ``Caller.wait_for``."""
    caller = _current.get()
    return future.result() if caller is None else caller.wait_for(future)


def _gone() -> RequestError:
    return RequestError("The client closed the connection before it was answered.", "client-left")
