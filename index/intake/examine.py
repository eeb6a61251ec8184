"""One file to what it is and whether it is usable. No database: runs in worker processes.

A decoder given a broken file may take its whole process with it, so the pixels are decoded where that only costs
the one file.
"""

import contextlib
import hashlib
import logging
import os
import re
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

import numpy as np

from model.errors import ImageError
from model.image import PIPELINE_VERSION, decode_dicom, read_dicom, read_radiograph
from model.view import classify_view

from ..decoder_pool import DecoderPool
from ..dicom import MODALITIES, InstanceFacts, Refusal, describe_dicom, refusal
from ..reports.readers import is_structured_report, report_of_dataset
from ..reports.texts import ReportText
from ..returns.own import is_own_result, own_result_refusal

__all__ = ["Examined", "Source", "examine", "examiner", "with_seen_view"]

logger = logging.getLogger(__name__)

MAX_FILE_BYTES: Final = 512 * 2**20  # an uncompressed radiograph is under 50 MB
MAX_UID: Final = 64  # PS3.5 9.1
STRUCTURED_REPORTS: Final = b"1.2.840.10008.5.1.4.1.1.88."  # how their SOP class UIDs begin
META_BYTES: Final = 1024  # where the class stands in a file


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
    """``facts`` is None where nothing could be read; ``refusal`` is None for a usable radiograph, and for a file that
    is a report: then it has that. ``pixels_sha256``: of a usable radiograph, the same for the same picture."""

    source: Source
    size: int | None = None
    modified_ns: int | None = None
    sha256: str | None = None
    facts: InstanceFacts | None = None
    pixels_sha256: str | None = None
    refusal: Refusal | None = None
    report: ReportText | None = None


def examine(source: Source) -> Examined:
    """Read, judge and decode one file. Never raises."""
    try:
        return _examine(source)
    except MemoryError:
        return Examined(source, refusal=Refusal("too-much-memory", "There is not enough memory to read the file."))
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
        if source.given is None and STRUCTURED_REPORTS in data[:META_BYTES]:
            dataset = read_dicom(data)
            if is_own_result(dataset):
                return replace(found, facts=describe_dicom(dataset), refusal=own_result_refusal())
            if is_structured_report(dataset):
                report = report_of_dataset(dataset, str(source.path))
                return replace(found, facts=describe_dicom(dataset), report=report)
        return _judge(found, data)
    except ImageError as error:
        return replace(found, refusal=Refusal(error.slug, error.message))


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


def _judge(found: Examined, data: bytes) -> Examined:
    given = found.source.given
    if data[128:132] != b"DICM":
        return _judge_picture(found, data)
    dataset = read_dicom(data)
    facts = describe_dicom(dataset) if given is None else _merged(given, describe_dicom(dataset))
    why = refusal(dataset) or _refuse_facts(facts)
    if why is None:
        try:
            return _usable(found, facts, decode_dicom(dataset))
        except ImageError as error:
            why = Refusal(error.slug, error.message)
    return replace(found, facts=facts, refusal=why)


def _judge_picture(found: Examined, data: bytes) -> Examined:
    source = found.source
    try:
        pixels = read_radiograph(data).pixels
    except ImageError as error:
        if error.slug == "not-an-image" and source.path.suffix.lower() in (".dcm", ".dicom"):
            return replace(
                found, refusal=Refusal("not-dicom", "Expected a DICOM file; found no DICM prefix at byte 128.")
            )
        return replace(found, refusal=Refusal(error.slug, error.message))
    if source.given is None:
        message = "A JPEG or PNG picture names no study or patient. List it in a manifest and ingest that."
        return replace(found, refusal=Refusal("no-identity", message))
    facts = replace(source.given, rows=pixels.shape[0], columns=pixels.shape[1])
    if why := _refuse_facts(facts):
        return replace(found, facts=facts, refusal=why)
    return _usable(found, facts, pixels)


def _usable(found: Examined, facts: InstanceFacts, pixels: np.ndarray) -> Examined:
    """pixels: float32 (height, width), 0..1."""
    digest = hashlib.sha256(f"{PIPELINE_VERSION} {pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return replace(found, facts=with_seen_view(facts, pixels), pixels_sha256=digest.hexdigest())


def with_seen_view(facts: InstanceFacts, pixels: np.ndarray) -> InstanceFacts:
    """The facts, with the view that the picture shows where neither header nor manifest tells one.

    pixels: float32 (height, width), 0..1. A picture that does not show it clearly leaves the view unknown.
    """
    seen = classify_view(pixels) if facts.view_source is None else None
    return replace(facts, view=seen, view_source="classifier") if seen else facts


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
    if first.view_source is None:
        missing["view"] = second.view
    return replace(first, **missing)


class _Examiner:
    """Maps ``examine`` over files in worker processes; a file that ends its process or hangs in it is a refusal."""

    def __init__(self, workers: int) -> None:
        self._pool = DecoderPool(workers)
        self._apart: bool | None = None if workers else False  # whether files are examined in other processes

    def __call__(self, sources: Sequence[Source]) -> list[Examined]:
        if not sources:
            return []
        if self._apart is None:
            self._apart = self._pool.start()
            if not self._apart:
                logger.warning("files are examined in this process, which a broken one may end")
        if not self._apart:
            return [examine(source) for source in sources]
        return examine_in(self._pool, sources)

    def close(self) -> None:
        self._pool.close()


def examine_in(pool: DecoderPool, sources: Sequence[Source]) -> list[Examined]:
    """``examine`` in the processes of a pool; a file that ends its process or hangs in it is a refusal."""
    found = [pool.submit(examine, source) for source in sources]
    return [_answer(source, future) for source, future in zip(sources, found, strict=True)]


def _answer(source: Source, future: "Future[Examined]") -> Examined:
    try:
        return future.result()
    except ImageError as error:
        why = Refusal(error.slug, error.message)
    except Exception as error:  # what came back could not be unpickled
        why = Refusal("undecodable", f"{type(error).__name__}: {error}")
    with contextlib.suppress(OSError, ValueError):
        status = source.path.stat()
        return Examined(source, status.st_size, status.st_mtime_ns, facts=source.given, refusal=why)
    return Examined(source, facts=source.given, refusal=why)


@contextlib.contextmanager
def examiner(workers: int | None = None) -> Iterator[_Examiner]:
    """``workers`` processes, started when the first file comes; 0 examines in this process."""
    found = _Examiner(min(os.cpu_count() or 1, 8) if workers is None else workers)
    try:
        yield found
    finally:
        found.close()
