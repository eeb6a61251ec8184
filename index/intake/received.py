"""The archive's own copies of what was sent to it: written whole and synced, or not at all, and never overwritten.

    received/objects/ab/ab12….dcm     one file for each content, named by its SHA-256
    received/waiting/<time>-ab12…     a file for each object that has no row in the catalog yet, oldest first; in it, by
                                      which door the object came, where it was sent

That file is made before its object gets its name, so an object that is there has a row or waits for one.
A sender may be told "stored" once ``keep`` has returned: whatever ends the process after that, the object is waiting.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

from model.errors import ArchiveError

from ..syncing import sync
from .arrival import Arrival

__all__ = ["ReceivedStore", "Waiting"]

CHUNK: Final = 2**20
PARTIAL: Final = ".partial"
MIN_FREE_BYTES: Final = 2 * 2**30  # the database and the index files need the disk too


class Readable(Protocol):
    def read(self, size: int, /) -> bytes:
        """The next bytes, none at the end."""
        ...


@dataclass(frozen=True)
class Waiting:
    """An object that was received and has no row yet. ``marker``: removed once it has one.

    arrival: None where it was fetched, or unpacked.
    """

    path: Path
    marker: Path
    arrival: Arrival | None = None


class ReceivedStore:
    """A folder of received DICOM objects. Several processes of one host may use it at once."""

    def __init__(self, folder: Path, min_free_bytes: int = MIN_FREE_BYTES) -> None:
        self.folder = folder
        self._min_free = min_free_bytes

    def keep(
        self,
        data: bytes | Readable,
        limit: int | None = None,
        check: Callable[[Path], None] | None = None,
        arrival: Arrival | None = None,
    ) -> Path:
        """Store one object and return its place, the same for the same content. On return it is safe on the disk.

        data: a DICOM file as it is on disk (preamble included), whole or as a stream. limit: the most bytes.
        check: called with the file before it is kept; where it, or the stream, raises, nothing is kept.
        arrival: by which door it came, where somebody sent it.
        Raises ArchiveError: storage-full (too little room, or the disk refused), too-large.
        """
        objects, waiting = self.folder / "objects", self.folder / "waiting"
        try:
            for folder in (objects, waiting):
                folder.mkdir(parents=True, exist_ok=True)
            self.require_room()
            return self._keep(data, limit, check, arrival, objects, waiting)
        except OSError as error:
            message = f"The object cannot be stored in {self.folder}: {error.strerror or error}."
            raise ArchiveError(message, "storage-full") from error

    def require_room(self) -> None:
        """Raises ArchiveError storage-full when the disk is nearly full."""
        folder = next(folder for folder in (self.folder, *self.folder.absolute().parents) if folder.exists())
        free = shutil.disk_usage(folder).free
        if free < self._min_free:
            message = (
                f"Only {free // 2**20} MiB are free in {self.folder}, at least {self._min_free // 2**20} are kept free."
            )
            raise ArchiveError(message, "storage-full")

    def waiting(self) -> list[Waiting]:
        """What was kept and has no row yet, in the order in which it came."""
        folder = self.folder / "waiting"
        if not folder.is_dir():
            return []
        markers = sorted(name for name in os.listdir(folder) if "-" in name)
        found = [(self.place(name.rpartition("-")[2]), folder / name) for name in markers]
        # A process may have died between the two.
        return [Waiting(path, marker, _arrival(marker)) for path, marker in found if path.exists()]

    def place(self, sha256: str) -> Path:
        """Where the object of this content is, or would be."""
        return (self.folder / "objects").absolute() / sha256[:2] / f"{sha256}.dcm"

    def find(self, sha256: str) -> Path | None:
        """The place of the object of this content; None when it has not been kept."""
        path = self.place(sha256)
        return path if path.exists() else None

    def done(self, waiting: Waiting) -> None:
        """Its row is committed."""
        waiting.marker.unlink(missing_ok=True)

    def owns(self, path: Path) -> bool:
        """Whether a path of the catalog is one of this store's own files."""
        return path.is_relative_to((self.folder / "objects").absolute())

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Rows are made in the order of arrival, so by one process at once; the kernel frees the lock of a dead one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".ingest.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._remove_leftovers()
            yield

    def _remove_leftovers(self) -> None:
        """Of processes that died in ``keep``: what they had written so far, and markers whose object never came."""
        waiting, objects = self.folder / "waiting", self.folder / "objects"
        if not (waiting.is_dir() and objects.is_dir()):
            return
        markers = [(name, self.place(name.rpartition("-")[2])) for name in os.listdir(waiting)]
        busy = False  # somebody keeps an object right now: its marker may be there before it
        for path in objects.glob(f"*{PARTIAL}"):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    busy = True
                    continue
                path.unlink(missing_ok=True)
        for name, place in markers if not busy else ():
            if not place.exists():
                (waiting / name).unlink(missing_ok=True)

    def _keep(
        self,
        data: bytes | Readable,
        limit: int | None,
        check: Callable[[Path], None] | None,
        arrival: Arrival | None,
        objects: Path,
        waiting: Path,
    ) -> Path:
        digest = hashlib.sha256()
        with _temporary(objects) as file:
            size = 0
            for chunk in _chunks(data):
                size += len(chunk)
                if limit is not None and size > limit:
                    raise ArchiveError(f"The object has more than {limit} bytes.", "too-large")
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            temporary = Path(file.name)
            if check:
                check(temporary)
            _mark(waiting / f"{time.time_ns():020d}-{digest.hexdigest()}", arrival)
            sync(waiting)
            path = self.place(digest.hexdigest())
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                temporary.replace(path)
            sync(path.parent)  # where it was there already, too: who put it there may not have come so far
            sync(objects)
        return path


def _mark(marker: Path, arrival: Arrival | None) -> None:
    with marker.open("wb") as file:
        if arrival is not None:
            file.write(arrival.written())
            file.flush()
            os.fsync(file.fileno())


def _arrival(marker: Path) -> Arrival | None:
    try:
        return Arrival.read(marker.read_bytes())
    except OSError:  # somebody else has just taken its object in
        return None


@contextmanager
def _temporary(folder: Path) -> Iterator[IO[bytes]]:
    """A file to write, locked as long as its process lives: one that is not locked is a dead process's."""
    while True:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=PARTIAL, delete=False) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.fstat(file.fileno()).st_nlink:  # not taken for a leftover before it was locked
                    yield file
                    return
            finally:
                Path(file.name).unlink(missing_ok=True)


def _chunks(data: bytes | Readable) -> Iterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    while chunk := data.read(CHUNK):
        yield chunk
