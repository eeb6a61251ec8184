"""QIDO-RS and WADO-RS (PS3.18 10.6, 10.4) with a server that may page as it likes."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import requests
from dicomweb_client import DICOMwebClient
from pydicom.filereader import read_file_meta_info

from model.errors import ArchiveError, InputError

from ..dicom import parse_date
from ..intake.examine import MAX_FILE_BYTES
from ..intake.received import ReceivedStore
from ..multipart import media_type, read_parts
from .dicomweb_http import TIMEOUT, FetchFailed, Origin, PeerError, Retry, open_session, pieces, raise_for_status

__all__ = ["DicomWebPeer", "FoundInstance", "FoundStudy"]

PAGE: Final = 200
MOST_FOUND: Final = 100_000  # in one search; a server that never stops is broken
UID: Final = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")  # PS3.5 9.1; it goes into an address
STUDY_INSTANCE_UID: Final = "0020000D"
SERIES_INSTANCE_UID: Final = "0020000E"
SOP_INSTANCE_UID: Final = "00080018"
STUDY_DATE: Final = "00080020"
MODALITY: Final = "00080060"
MODALITIES_IN_STUDY: Final = "00080061"
NUMBER_OF_INSTANCES: Final = "00201208"
ACCEPT: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'  # as it was stored there


@dataclass(frozen=True)
class FoundStudy:
    """``modalities`` and ``instances`` (how many): None where the server does not say."""

    uid: str
    study_date: date | None
    modalities: frozenset[str] | None
    instances: int | None


@dataclass(frozen=True)
class FoundInstance:
    study: str
    series: str
    uid: str
    modality: str | None

    @property
    def path(self) -> str:
        return f"studies/{self.study}/series/{self.series}/instances/{self.uid}"


class DicomWebPeer:
    """One server. Every call raises PeerError (the run ends) or FetchFailed (this one thing could not be had).

    timeout: seconds to connect, and between two pieces of an answer. ``unusable``: how many results had no UID to ask
    for them by.
    """

    def __init__(self, origin: Origin, retry: Retry | None = None, timeout: tuple[float, float] = TIMEOUT) -> None:
        self.origin = origin
        self.unusable = 0
        self._url = origin.url.rstrip("/")
        self._retry = retry or Retry()
        self._timeout = timeout
        self._session = open_session(origin)
        self._client = DICOMwebClient(self._url, session=self._session, timeout=timeout)
        self._client.set_http_retry_params(retry=False)  # it would not honour Retry-After

    def close(self) -> None:
        self._session.close()

    def studies(self, day: date) -> list[FoundStudy]:
        """The studies of one day, by UID."""

        def search(offset: int) -> list[dict[str, Any]]:
            return self._client.search_for_studies(
                limit=PAGE,
                offset=offset,
                fields=[MODALITIES_IN_STUDY, NUMBER_OF_INSTANCES],
                search_filters={"StudyDate": f"{day:%Y%m%d}"},
            )

        try:
            found = self._all(search, STUDY_INSTANCE_UID)
        except FetchFailed as error:
            # Of a search in the whole archive these say that there is no use in going on.
            if error.slug == "forbidden":
                raise PeerError(f"{self.origin.name} does not let us search (403).", "peer-refused") from None
            if error.slug == "gone":
                message = f"{self.origin.name} has no DICOMweb search at {self._url}/studies (404). Check its address."
                raise PeerError(message, "no-dicomweb") from None
            raise
        studies = [_study(uid, item) for uid, item in sorted(found.items())]
        return [study for study in studies if study.study_date in (None, day)]  # whatever the server made of the date

    def instances(self, study: FoundStudy) -> list[FoundInstance]:
        """The instances of a study, by UID."""

        def search(offset: int) -> list[dict[str, Any]]:
            return self._client.search_for_instances(study.uid, limit=PAGE, offset=offset, fields=[MODALITY])

        found = self._all(search, SOP_INSTANCE_UID, study.instances)
        instances = [_instance(study.uid, uid, item) for uid, item in sorted(found.items())]
        self.unusable += instances.count(None)
        return [instance for instance in instances if instance is not None]

    def retrieve(self, instance: FoundInstance, store: ReceivedStore) -> Path:
        """Keep one instance, in whatever transfer syntax the server has it. Its place in the store.

        Raises also ArchiveError: storage-full.
        """
        return self._retry(lambda: self._retrieve(instance, store))

    def _retrieve(self, instance: FoundInstance, store: ReceivedStore) -> Path:
        url = f"{self._url}/{instance.path}"
        with self._session.get(url, headers={"Accept": ACCEPT}, stream=True, timeout=self._timeout) as response:
            raise_for_status(response)
            try:
                return store.keep(_object(response), MAX_FILE_BYTES, lambda path: _require_instance(path, instance.uid))
            except InputError as error:
                # What ends early may have been cut off on its way.
                raise FetchFailed(error.message, "bad-answer", passing=True) from None
            except ArchiveError as error:
                if error.slug != "too-large":
                    raise
                raise FetchFailed(error.message, "answer-too-large") from None

    def _all(
        self, search: Callable[[int], list[dict[str, Any]]], tag: str, expected: int | None = None
    ) -> dict[str, dict[str, Any]]:
        """Every result of a search, by UID, page after page until one is empty.

        A short page means nothing: servers cap the limit as they like. Pages overlap while the server takes in more.
        expected: how many there are, where that is known; saves asking for the page after the last one.
        """
        found: dict[str, dict[str, Any]] = {}
        first: list[str | None] = []
        offset = 0
        while expected is None or len(found) < expected:
            at = offset
            page = self._retry(lambda: search(at))  # noqa: B023 called at once
            uids = [_uid(item, tag) for item in _checked(page)]
            again = offset > 0 and set(uids) == set(first)
            if not page or (again and len(first) != PAGE):
                break  # the same again: the server has no offset, and gave all at once
            if again:
                message = f"The server gives its first {PAGE} results whatever the offset; the others cannot be had."
                raise FetchFailed(message, "pages-unsupported")
            self.unusable += uids.count(None)
            found.update((uid, item) for uid, item in zip(uids, page, strict=True) if uid is not None)
            first = first or uids
            offset += len(page)
            if offset > MOST_FOUND:
                raise FetchFailed(f"The server goes on after {MOST_FOUND} results.", "bad-answer")
        return found


def _object(response: requests.Response) -> "_Chunks | Any":
    """The object in an answer, as something to be read. Raises FetchFailed: wrong-content-type, bad-answer."""
    header = response.headers.get("Content-Type", "")
    kind = media_type(header)[0]
    chunks = pieces(response)
    if kind == "application/dicom":  # not what PS3.18 10.4.3 says, but some servers send a single object so
        return _Chunks(chunks)
    if kind != "multipart/related":
        raise FetchFailed(f"Expected multipart/related, found {kind[:80] or 'no type'}.", "wrong-content-type")
    part = next(read_parts(header, chunks, most=2), None)
    if part is None:
        raise FetchFailed("The answer has no part.", "bad-answer")
    if part.media_type not in ("", "application/dicom"):
        raise FetchFailed(f"Expected application/dicom, found {part.media_type[:80]}.", "wrong-content-type")
    return part


class _Chunks:
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, size: int = -1) -> bytes:
        """The next piece, whatever its length."""
        return next((chunk for chunk in self._chunks if chunk), b"")


def _require_instance(path: Path, uid: str) -> None:
    """Raises FetchFailed: bad-answer (no DICOM file), wrong-instance."""
    try:
        found = str(read_file_meta_info(path).get("MediaStorageSOPInstanceUID", ""))
    except Exception:  # pydicom raises many kinds
        raise FetchFailed("Expected a DICOM file (PS3.10).", "bad-answer") from None
    if found != uid:
        raise FetchFailed(f"Expected instance {uid}, found {found[:64]}.", "wrong-instance")


def _checked(page: Any) -> list[dict[str, Any]]:
    if not isinstance(page, list) or not all(isinstance(item, dict) for item in page):
        raise FetchFailed("Expected a list of DICOM JSON objects (PS3.18 F.2).", "bad-answer")
    return page


def _study(uid: str, item: dict[str, Any]) -> FoundStudy:
    modalities = [str(value) for value in _values(item, MODALITIES_IN_STUDY) if value]
    numbers = [value for value in _values(item, NUMBER_OF_INSTANCES) if str(value).isdecimal()]
    dates = _values(item, STUDY_DATE)
    return FoundStudy(
        uid,
        parse_date(str(dates[0])) if dates else None,
        frozenset(modalities) or None,
        int(numbers[0]) if numbers else None,
    )


def _instance(study: str, uid: str, item: dict[str, Any]) -> FoundInstance | None:
    modality = next((str(value) for value in _values(item, MODALITY) if value), None)
    series = _uid(item, SERIES_INSTANCE_UID)
    return None if series is None else FoundInstance(study, series, uid, modality)


def _uid(item: dict[str, Any], tag: str) -> str | None:
    found = str(next(iter(_values(item, tag)), ""))
    return found if UID.fullmatch(found) else None


def _values(item: dict[str, Any], tag: str) -> list[Any]:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []
