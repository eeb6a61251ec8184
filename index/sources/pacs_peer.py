"""Query/Retrieve with one PACS (PS3.4 annex C, study root): C-FIND, then C-MOVE to our own SCP or C-GET.

ArchiveError
  PacsError      the run ends: the PACS refuses us, is unreachable, cannot do what is asked, does not know our SCP
  PacsFailure    one search or retrieval failed; ``slug`` is the reason that is counted
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset
from pynetdicom.association import Association

from model.errors import ArchiveError

from ..intake.received import ReceivedStore
from ..listeners.storage_scp import keep_sent
from ..reports.texts import is_uid
from .pacs_association import FIND, GET, MOVE, PacsAssociation, PacsError, PacsNode, answers_of

__all__ = ["FAILURES", "FoundSeries", "FoundStudy", "PacsError", "PacsFailure", "PacsNode", "PacsPeer", "TooMany"]

PENDING: Final = (0xFF00, 0xFF01)
LIMITS: Final = (0xA700, 0xFE00)  # out of resources; "cancelled", which some answer at a limit of results
UNKNOWN_DESTINATION: Final = 0xA801
SOME_FAILED: Final = 0xB000
FAILURES: Final = ("search-failed", "too-many-results", "not-sent", "bad-answer")


class PacsFailure(ArchiveError):
    """One thing could not be had."""

    slug = "search-failed"


class TooMany(PacsFailure):
    """The PACS stopped at its limit of results; ``found``: those that it gave."""

    def __init__(self, found: list[Dataset]) -> None:
        super().__init__("The PACS gives no more results at once.", "too-many-results")
        self.found = found


@dataclass(frozen=True)
class FoundStudy:
    """modalities: None where the PACS does not tell."""

    uid: str
    modalities: frozenset[str] | None


@dataclass(frozen=True)
class FoundSeries:
    study: str
    uid: str
    modality: str | None


class PacsPeer:
    """One PACS. Keeps one association open and opens another when that is lost. Not thread-safe, ``received`` apart.

    store: where C-GET puts objects; with ``use_get`` False they come by C-MOVE to a ``StorageScp`` of this process,
    whose ``kept`` is ``received``. pause: waits some seconds.
    """

    def __init__(
        self,
        node: PacsNode,
        store: ReceivedStore,
        *,
        use_get: bool = False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.node = node
        self.unusable = 0  # results without a valid UID since the last look
        self._store = store
        self._use_get = use_get
        self._association = PacsAssociation(node, self._sent if use_get else None, pause)
        self._arrived: dict[str, Path] = {}
        self._lock = threading.Lock()

    def studies(self, day: date, hours: tuple[str, str] | None = None) -> list[FoundStudy]:
        """Studies of one day, or of a part of it (two times as HHMM). Raises TooMany, PacsFailure, PacsError."""
        times = f"{hours[0]}00-{hours[1]}59" if hours else ""
        try:
            found = self._find("STUDY", StudyDate=f"{day:%Y%m%d}", StudyTime=times, ModalitiesInStudy="")
        except TooMany as error:
            if hours and any(not _within(result, hours) for result in error.found):
                message = "The PACS limits its results and takes no notice of StudyTime."
                raise PacsFailure(message, "too-many-results") from error
            raise
        return self.as_studies(found)

    def as_studies(self, found: Sequence[Dataset]) -> list[FoundStudy]:
        studies = []
        for result in found:
            if uid := self._uid(result, "StudyInstanceUID"):
                studies.append(FoundStudy(uid, _values(result, "ModalitiesInStudy")))
        return studies

    def series(self, study: str) -> list[FoundSeries]:
        """The series of a study. Raises TooMany, PacsFailure, PacsError."""
        series = []
        for result in self._find("SERIES", StudyInstanceUID=study, Modality=""):
            if uid := self._uid(result, "SeriesInstanceUID"):
                series.append(FoundSeries(study, uid, next(iter(_values(result, "Modality") or ()), None)))
        return series

    def instances(self, series: FoundSeries) -> list[str]:
        """SOP instance UIDs of a series. Raises TooMany, PacsFailure, PacsError."""
        found = self._find("IMAGE", StudyInstanceUID=series.study, SeriesInstanceUID=series.uid)
        return [uid for result in found if (uid := self._uid(result, "SOPInstanceUID"))]

    def fetch(self, series: FoundSeries, uids: Sequence[str] = ()) -> dict[str, Path]:
        """Have a series sent, or some of its instances; those that came, each with its place in the store.

        Raises PacsFailure (not-sent) when the PACS sends nothing, PacsError; ArchiveError: storage-full.
        """
        self._store.require_room()
        query = _query("IMAGE" if uids else "SERIES", StudyInstanceUID=series.study, SeriesInstanceUID=series.uid)
        if uids:
            query.SOPInstanceUID = list(uids)
        with self._lock:
            self._arrived.clear()
        failure: PacsFailure | None = None
        try:
            self._association.ask(lambda association: self._retrieve(association, query))
        except PacsFailure as error:
            failure = error
        with self._lock:
            arrived = dict(self._arrived)
        if failure and not arrived:
            raise failure
        return arrived

    def received(self, uid: str, path: Path) -> None:
        """Told of every object that came. Thread-safe."""
        with self._lock:
            self._arrived[uid] = path

    def close(self) -> None:
        """Release the association."""
        self._association.close()

    def _find(self, level: str, **keys: str) -> list[Dataset]:
        uid = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}[level]
        query = _query(level, **({uid: ""} | keys))

        def ask(association: Association) -> list[Dataset]:
            found: list[Dataset] = []
            for status, result in answers_of(association.send_c_find(query, FIND)):
                if status.Status in PENDING:
                    if result is None:
                        self.unusable += 1
                    else:
                        found.append(result)
                elif status.Status in LIMITS:
                    raise TooMany(found)
                elif status.Status != 0x0000:
                    raise PacsFailure(_failed("search", status), "search-failed")
            return found

        return self._association.ask(ask)

    def _retrieve(self, association: Association, query: Dataset) -> None:
        if self._use_get:
            answers = association.send_c_get(query, GET)
        else:
            answers = association.send_c_move(query, self.node.aet, MOVE)
        for status, _ in answers_of(answers):
            if status.Status == UNKNOWN_DESTINATION:
                message = f"{self.node} does not know where {self.node.aet} is: enter it there with its host and port."
                raise PacsError(message, "unknown-destination")
            if status.Status not in (*PENDING, 0x0000, SOME_FAILED):
                raise PacsFailure(_failed("retrieval", status), "not-sent")

    def _sent(self, event: Any) -> Dataset | int:
        return keep_sent(event, self._store, self.received)

    def _uid(self, result: Dataset, keyword: str) -> str | None:
        uid = "\\".join(_values(result, keyword) or ())
        if is_uid(uid):
            return uid
        self.unusable += 1
        return None


def _query(level: str, **keys: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query


def _within(result: Dataset, hours: tuple[str, str]) -> bool:
    """Whether a study's time, where it has one, is in the minutes asked for."""
    times = _values(result, "StudyTime") or ()
    return all(hours[0] <= time.replace(":", "")[:4] <= hours[1] for time in times)


def _failed(what: str, status: Dataset) -> str:
    comment = str(status.get("ErrorComment") or "")
    return f"The PACS answered the {what} with status {status.Status:04X}" + (f": {comment}" if comment else ".")


def _values(result: Dataset, keyword: str) -> frozenset[str] | None:
    with suppress(Exception):  # whatever a PACS sends instead of a value
        value = result.get(keyword)
        if value:
            values = [value] if isinstance(value, str) else list(value)
            return frozenset(str(item).strip() for item in values)
    return None
