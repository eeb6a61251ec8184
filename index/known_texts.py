"""What was made of the texts that were met last, so that it need not be made again.

A text may be about a patient, who may be forgotten, so none is kept: an entry is found by a keyed hash of its text, the
key is drawn anew whenever the process starts, and entries are in memory alone.
"""

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["KnownTexts"]

T = TypeVar("T")


class KnownTexts(Generic[T]):
    """The ``bound`` values used last, each by one text or, together, several. None of them is None. Thread-safe.

    A value must not hold its text.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._key = secrets.token_bytes(32)
        self._values: OrderedDict[bytes, T] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, said: Sequence[str | None]) -> T | None:
        return self._find(self._name_of(said))

    def keep(self, said: Sequence[str | None], value: T) -> None:
        self._keep(self._name_of(said), value)

    def of(self, said: Sequence[str | None], make: Callable[[], T]) -> T:
        """What is known of it, or else what ``make`` gives."""
        name = self._name_of(said)
        value = self._find(name)
        if value is None:
            value = make()
            self._keep(name, value)
        return value

    def _find(self, name: bytes) -> T | None:
        with self._lock:
            value = self._values.get(name)
            if value is not None:
                self._values.move_to_end(name)
            return value

    def _keep(self, name: bytes, value: T) -> None:
        if not self._bound:
            return
        with self._lock:
            self._values[name] = value
            self._values.move_to_end(name)
            if len(self._values) > self._bound:
                self._values.popitem(last=False)

    def _name_of(self, said: Sequence[str | None]) -> bytes:
        digest = hashlib.blake2b(key=self._key, digest_size=16)
        for text in said:
            data = b"" if text is None else text.encode(errors="surrogatepass")
            digest.update((0 if text is None else len(data) + 1).to_bytes(8) + data)
        return digest.digest()
