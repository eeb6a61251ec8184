"""Stand-ins for decoders that a file breaks; worker processes import them by name."""

import ctypes
import mmap
import os
import signal
from pathlib import Path

_grown: list[mmap.mmap] = []


def hang() -> None:
    """As C code that loops does: Python's lock is held, so no Python code of this process runs any more."""
    libc = ctypes.PyDLL(None)
    while True:
        libc.sleep(1000)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def crash_unless_first(marker: Path) -> str:
    """Ends a process that has decoded before, as one does whose heap an earlier file overwrote."""
    if str(os.getpid()) in marker.read_text().split():
        crash()
    return "decoded"


def overwrite_heap(marker: Path) -> None:
    marker.write_text(f"{marker.read_text()} {os.getpid()}")


def allocate(size: int) -> int:
    return len(bytearray(size))


def leak(size: int) -> int:
    """Returns the process."""
    _grown.append(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    return os.getpid()


class ComesApart(Exception):
    """Can be pickled and not be made again from that."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def raise_what_comes_apart() -> None:
    raise ComesApart("a ", "message")


class Panic(BaseException):
    pass


def panic() -> None:
    raise Panic("not an Exception")
