"""What peers of our Storage SCP may make us hold in memory, each of them and all together."""

import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

__all__ = ["MAX_PDU", "Memory", "Tally", "limited"]

logger = logging.getLogger(__name__)

MAX_PDU: Final = 128 * 2**10  # bytes, as announced
MAX_PDU_READ: Final = 2**20  # an association request may list many contexts


@dataclass
class Tally:
    """What one association brought. unread: bytes since the last whole message; held: of what is being stored."""

    peer: str
    connection: socket.socket
    began: float = field(default_factory=time.monotonic)
    stored: int = 0
    refused: int = 0
    size: int = 0
    unread: int = 0
    held: int = 0


class Memory:
    """Counts the bytes that all associations hold. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._changing = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether there is room for that many more; they count either way, until they are given back."""
        with self._changing:
            self._held += size
            return self._held <= self._most

    def give_back(self, size: int) -> None:
        with self._changing:
            self._held -= size


def limited(
    tally: Tally, limit: int, timeout: float, memory: Memory, waiting: Callable[[], int]
) -> Callable[[int], bytearray]:
    """``recv`` of an association's socket, for a whole PDU or its head; raises OSError, upon which pynetdicom ends it.

    pynetdicom itself reads as many bytes as a PDU says it has, for as long as some come, gathers a message of any
    length in memory, and reads on while messages wait to be answered. waiting: how many do.
    """

    def receive(length: int) -> bytearray:
        if length > MAX_PDU_READ or tally.unread + length > limit:
            logger.warning("%s: sent more than is allowed; the connection is closed", tally.peer)
            raise OSError("more bytes than are allowed")
        tally.unread += length
        room = memory.take(length)
        if waiting() > 1:  # PS3.7 D.3.3.3: without another agreement one operation at a time
            logger.warning("%s: sent on without waiting for answers; the connection is closed", tally.peer)
            raise OSError("more operations than one")
        if not room:
            logger.warning("%s: too much is being received at once; the connection is closed", tally.peer)
            raise OSError("no memory for more")
        deadline = time.monotonic() + timeout
        data = bytearray()
        while len(data) < length:
            chunk = tally.connection.recv(min(length - len(data), 2**16))
            if not chunk:
                break
            data += chunk
            if time.monotonic() > deadline:
                raise OSError("the PDU takes too long")
        return data

    return receive
