"""Directions of texts that were asked for lately, so that they need not be encoded again.

A caller's text may be about a patient, so none is kept: an entry is found by a keyed hash of its text, the key is drawn
anew whenever the service starts, and entries are in memory alone.
"""

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

__all__ = ["KeptDirections"]


class KeptDirections:
    """The ``bound`` directions used last, by what was said. Of one pair of encoders. Thread-safe."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._key = secrets.token_bytes(32)
        self._rows: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, said: Sequence[str]) -> np.ndarray | None:
        """Of a text or, as one direction, of several."""
        name = self._name_of(said)
        with self._lock:
            row = self._rows.get(name)
            if row is not None:
                self._rows.move_to_end(name)
            return row

    def keep(self, said: Sequence[str], row: np.ndarray) -> None:
        if not self._bound:
            return
        own = np.array(row)  # not a view, which would hold its whole batch
        own.setflags(write=False)
        name = self._name_of(said)
        with self._lock:
            self._rows[name] = own
            self._rows.move_to_end(name)
            if len(self._rows) > self._bound:
                self._rows.popitem(last=False)

    def _name_of(self, said: Sequence[str]) -> bytes:
        digest = hashlib.blake2b(key=self._key, digest_size=16)
        for text in said:
            data = text.encode(errors="surrogatepass")
            digest.update(len(data).to_bytes(8) + data)
        return digest.digest()
