"""One file to what it is and whether it is usable. No database: runs in worker processes.

A decoder given a broken file may take its whole process with it, so the pixels are decoded where that only costs
the one file.
"""

import contextlib
import hashlib
import logging
import multiprocessing
import os
import re
import stat
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Final

from model.errors import ImageError
from model.image import decode_dicom, read_dicom, read_radiograph

from .dicom import MODALITIES, InstanceFacts, Refusal, describe_dicom, refusal

__all__ = ["Examined", "Source", "examine", "examiner"]

logger = logging.getLogger(__name__)

MAX_FILE_BYTES: Final = 512 * 2**20  # an uncompressed radiograph is under 50 MB
MAX_UID: Final = 64  # PS3.5 9.1


@dataclass(frozen=True)
class Source:
    """A file to take in. ``given``: facts from a manifest, before the file's own; ``refusal``: known beforehand.

    ``replaces``: what its sender sends under a SOP instance UID takes the place of what was archived under it.
    """

    path: Path
    given: InstanceFacts | None = None
    refusal: Refusal | None = None
    replaces: bool = False


@dataclass(frozen=True)
class Examined:
    """``facts`` is None where nothing could be read; ``refusal`` is None for a usable radiograph."""

    source: Source
    size: int | None = None
    modified_ns: int | None = None
    sha256: str | None = None
    facts: InstanceFacts | None = None
    refusal: Refusal | None = None


def examine(source: Source) -> Examined:
    """Read, judge and decode one file. Never raises."""
    try:
        return _examine(source)
    except Exception as error:  # whatever a hostile file does, it is that file's refusal
        message = f"{type(error).__name__}: {error}"
        return Examined(source, refusal=Refusal("undecodable", message))


def _examine(source: Source) -> Examined:
    if source.refusal:
        return Examined(source, facts=source.given, refusal=source.refusal)
    try:
        status = source.path.stat()
        blocked = _refuse_file(source.path, status)
        data = b"" if blocked else source.path.read_bytes()
    except FileNotFoundError:
        return Examined(source, facts=source.given, refusal=Refusal("file-missing", "There is no file of this name."))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return Examined(source, facts=source.given, refusal=Refusal("unreadable", f"The file cannot be read: {error}."))
    found = Examined(source, status.st_size, status.st_mtime_ns, facts=source.given, refusal=blocked)
    if blocked:
        return found
    found = replace(found, sha256=hashlib.sha256(data).hexdigest())
    try:
        facts, why = _judge(source, data)
    except ImageError as error:
        return replace(found, refusal=Refusal(error.slug, error.message))
    return replace(found, facts=facts, refusal=why)


def _refuse_file(path: Path, status: os.stat_result) -> Refusal | None:
    if not stat.S_ISREG(status.st_mode):
        return Refusal("not-a-file", "Expected a regular file.")  # reading a pipe would wait for ever
    if status.st_size > MAX_FILE_BYTES:
        return Refusal("too-large", f"{status.st_size} bytes are over the limit of {MAX_FILE_BYTES}.")
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return Refusal("bad-file-name", "The file name is not UTF-8 and cannot be kept. Rename the file.")
    return None


def _judge(source: Source, data: bytes) -> tuple[InstanceFacts | None, Refusal | None]:
    given = source.given
    if data[128:132] != b"DICM":
        return _judge_picture(source, data)
    dataset = read_dicom(data)
    facts = describe_dicom(dataset) if given is None else _merged(given, describe_dicom(dataset))
    why = refusal(dataset) or _refuse_facts(facts)
    if why is None:
        try:
            decode_dicom(dataset)
        except ImageError as error:
            why = Refusal(error.slug, error.message)
    return facts, why


def _judge_picture(source: Source, data: bytes) -> tuple[InstanceFacts | None, Refusal | None]:
    try:
        height, width = read_radiograph(data).pixels.shape
    except ImageError as error:
        if error.slug == "not-an-image" and source.path.suffix.lower() in (".dcm", ".dicom"):
            return source.given, Refusal("not-dicom", "Expected a DICOM file; found no DICM prefix at byte 128.")
        return source.given, Refusal(error.slug, error.message)
    if source.given is None:
        message = "A JPEG or PNG picture names no study or patient. List it in a manifest and ingest that."
        return None, Refusal("no-identity", message)
    facts = replace(source.given, rows=height, columns=width)
    return facts, _refuse_facts(facts)


def _refuse_facts(facts: InstanceFacts) -> Refusal | None:
    if facts.modality not in MODALITIES:
        message = f"Expected modality {' or '.join(MODALITIES)}, found {facts.modality or 'none'}."
        return Refusal("wrong-modality", message)
    for name in ("study_instance_uid", "sop_instance_uid"):
        if not getattr(facts, name):
            return Refusal("missing-identifier", f"The {name} is absent; the archive cannot tell the image apart.")
    study, image = facts.study_instance_uid or "", facts.sop_instance_uid or ""
    if not re.fullmatch(rf"[0-9.]{{1,{MAX_UID}}}", study):
        message = f"Expected a study_instance_uid of at most {MAX_UID} digits and dots, found {study[:MAX_UID]!r}."
        return Refusal("bad-uid", message)
    if len(image) > MAX_UID:
        message = f"Expected a sop_instance_uid of at most {MAX_UID} characters, found {len(image)}."
        return Refusal("bad-identifier", message)
    return None


def _merged(first: InstanceFacts, second: InstanceFacts) -> InstanceFacts:
    """``first`` where it says something, else ``second``; the file's own numbers where the manifest has none."""
    missing = {field.name: getattr(second, field.name) for field in fields(first) if getattr(first, field.name) is None}
    if first.view_position is None and first.view == "unknown":
        missing["view"] = second.view
    return replace(first, **missing)


class _Examiner:
    """Maps ``examine`` over files in worker processes, and outlives a worker that crashes."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, sources: Sequence[Source]) -> list[Examined]:
        if not self._workers or not sources or not self._start():
            return [examine(source) for source in sources]
        assert self._pool is not None
        try:
            return list(self._pool.map(examine, sources))
        except BrokenProcessPool:
            return [self._alone(source) for source in sources]

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _start(self) -> bool:
        if self._pool is not None:
            return True
        # Not fork: the caller may hold threads, database connections and a GPU.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        pool = ProcessPoolExecutor(self._workers, mp_context=context, initializer=_end_with_parent)
        try:
            pool.submit(os.getpid).result()
        except (BrokenProcessPool, OSError) as error:
            pool.shutdown()
            logger.warning("worker processes cannot start (%s); files are examined in this process", error)
            self._workers = 0
            return False
        self._pool = pool
        return True

    def _alone(self, source: Source) -> Examined:
        """Once a batch has lost a worker: one at a time, so that the culprit is known."""
        self._restart_if_broken()
        if self._pool is None:
            return Examined(source, refusal=Refusal("decoder-crashed", "No worker process was left to read the file."))
        try:
            return self._pool.submit(examine, source).result()
        except BrokenProcessPool:
            self.close()
            message = "The file ended the process that decoded it."
            with contextlib.suppress(OSError):
                status = source.path.stat()
                why = Refusal("decoder-crashed", message)
                return Examined(source, status.st_size, status.st_mtime_ns, facts=source.given, refusal=why)
            return Examined(source, facts=source.given, refusal=Refusal("decoder-crashed", message))

    def _restart_if_broken(self) -> None:
        if self._pool is not None:
            try:
                self._pool.submit(os.getpid).result()
            except BrokenProcessPool:
                self.close()
        self._start()


@contextlib.contextmanager
def examiner(workers: int | None = None) -> Iterator[_Examiner]:
    """``workers`` processes, started when the first file comes; 0 examines in this process."""
    found = _Examiner(min(os.cpu_count() or 1, 8) if workers is None else workers)
    try:
        yield found
    finally:
        found.close()


def _end_with_parent() -> None:
    """A killed parent cannot stop its workers, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
