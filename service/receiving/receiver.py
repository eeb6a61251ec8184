"""Instances that are sent to the service: kept one by one as they come, then taken in."""

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from index import Catalog, DecoderPool, ReceivedStore, ingest_received
from index.intake.arrival import FORM as FORM_DOOR
from index.intake.arrival import STOW, Arrival
from index.intake.examine import MAX_FILE_BYTES, examine_in
from index.intake.record import path_key
from index.multipart import Part, media_type, read_parts
from index.returns.own import OWN_RESULT
from index.sop_reference import SopReference, read_reference
from index.tables import REFUSED, Instance
from model.errors import ArchiveError, ImageError

from ..errors import RequestError
from ..settings import Settings

__all__ = ["Receiver", "Stored"]

log = logging.getLogger(__name__)

STORAGE_FULL: Final = "storage-full"
MAX_PARTS: Final = 10_000
DICOM: Final = "application/dicom"
FORM: Final = "multipart/form-data"
# What the archive has already, or made itself: a router that sends everything back is not to call that an error.
NO_FAILURES: Final = ("duplicate", "superseded", OWN_RESULT)


@dataclass(frozen=True)
class Stored:
    """What became of one part. reference: None where it could not be read. refusal: the slug; None for a success."""

    reference: SopReference | None
    refusal: str | None = None


class Receiver:
    """Takes instances in. Thread-safe; every request holds a thread while its body comes, so some are left free."""

    def __init__(self, settings: Settings, catalog: Catalog, decoder: DecoderPool) -> None:
        self._catalog = catalog
        self._decoder = decoder
        self._store = ReceivedStore(settings.received_dir, settings.min_free_bytes)
        self._places = threading.BoundedSemaphore(max(1, settings.max_requests // 8))

    def store(self, content_type: str, chunks: Iterable[bytes], study: str | None = None) -> list[Stored]:
        """Keep the parts of a multipart/related body, or of a form, and take them in. One entry a part, in their order.

        The parts of a form are known by their content, whatever their media type. study: the StudyInstanceUID that
        every instance must have. What was kept before an error is taken in all the same.
        Raises RequestError: too-busy, storage-full; InputError: wrong-media-type, bad-multipart.
        """
        with self._place():
            self._require_room()
            kept: list[tuple[Path, int]] = []
            outcomes: list[Stored] = []
            form = media_type(content_type)[0] == FORM
            arrival = Arrival(FORM_DOOR if form else STOW)
            try:
                for part in read_parts(content_type, chunks, MAX_PARTS, FORM if form else "multipart/related"):
                    if not form and part.media_type not in ("", DICOM):
                        outcomes.append(Stored(None, "wrong-media-type"))
                    else:
                        self._keep(part, study, arrival, kept, outcomes)
            finally:
                if kept:
                    ingest_received(self._catalog, self._store, examine=partial(examine_in, self._decoder))
            if outcomes and all(item.refusal == STORAGE_FULL for item in outcomes):
                raise _storage_full()
            return self._with_refusals(kept, outcomes)

    def _require_room(self) -> None:
        try:
            self._store.require_room()
        except ArchiveError as error:
            log.error("an instance was turned away: %s", error.message)
            raise _storage_full() from None

    def _keep(
        self, part: Part, study: str | None, arrival: Arrival, kept: list[tuple[Path, int]], outcomes: list[Stored]
    ) -> None:
        reference: SopReference | None = None

        def check(path: Path) -> None:
            nonlocal reference
            reference = self._decoder(read_reference, path)
            if study is not None and reference.study_instance_uid != study:
                raise ImageError("The instance is of another study than the address names.", "other-study")

        try:
            path = self._store.keep(part, MAX_FILE_BYTES, check, arrival)
        except (ImageError, ArchiveError) as error:
            outcomes.append(Stored(reference, error.slug))
        else:
            kept.append((path, len(outcomes)))
            outcomes.append(Stored(reference))

    def _with_refusals(self, kept: list[tuple[Path, int]], outcomes: list[Stored]) -> list[Stored]:
        """The catalog's word on what was kept. A copy of what it has, or had until now, is no failure."""
        numbers = {path_key(path): number for path, number in kept}
        reasons: dict[str, str | None] = {}
        with self._catalog.session() as session:
            keys = list(numbers)
            for start in range(0, len(keys), 500):
                query = sa.select(Instance.path_key, Instance.status, Instance.reason)
                query = query.where(Instance.path_key.in_(keys[start : start + 500]))
                for key, status, reason in session.execute(query):
                    reasons[key] = reason if status == REFUSED and reason not in NO_FAILURES else None
        result = list(outcomes)
        for path, number in kept:
            result[number] = Stored(outcomes[number].reference, reasons.get(path_key(path), "not-taken-in"))
        return result

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise RequestError("As many requests as can be are storing instances already.", "too-busy")
        try:
            yield
        finally:
            self._places.release()


def _storage_full() -> RequestError:
    return RequestError("The disk is nearly full.", STORAGE_FULL)  # without the folder's name
