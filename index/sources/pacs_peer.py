"""Query/Retrieve with one PACS (PS3.4 annex C, study root): C-FIND, then C-MOVE to our own SCP or C-GET.

ArchiveError
  PacsError      the run ends: the PACS refuses us, is unreachable, cannot do what is asked, does not know our SCP
  PacsFailure    one search or retrieval failed; ``slug`` is the reason that is counted
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, TypeVar

from pydicom import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made when the module is imported
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from model.errors import ArchiveError

from ..dicom import image_syntaxes
from ..received import ReceivedStore
from ..reports import is_uid
from ..storage_scp import IMAGE_CLASSES, REPORT_CLASSES, REPORT_SYNTAXES, ae_title_of, keep_sent

__all__ = ["FAILURES", "FoundSeries", "FoundStudy", "PacsError", "PacsFailure", "PacsNode", "PacsPeer", "TooMany"]

logger = logging.getLogger(__name__)

R = TypeVar("R")

FIND: Final = StudyRootQueryRetrieveInformationModelFind
MOVE: Final = StudyRootQueryRetrieveInformationModelMove
GET: Final = StudyRootQueryRetrieveInformationModelGet
PENDING: Final = (0xFF00, 0xFF01)
LIMITS: Final = (0xA700, 0xFE00)  # out of resources; "cancelled", which some answer at a limit of results
UNKNOWN_DESTINATION: Final = 0xA801
SOME_FAILED: Final = 0xB000
PAUSES: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before a try; an idle association may be gone, at once again
ANSWER_SECONDS: Final = 300.0  # a PACS may have to fetch from a slower storage first
FAILURES: Final = ("search-failed", "too-many-results", "not-sent", "bad-answer")


class PacsError(ArchiveError):
    """The PACS as a whole cannot be used. slug: peer-refused, peer-unreachable, no-query-retrieve,
    unknown-destination."""

    slug = "peer-unreachable"


class PacsFailure(ArchiveError):
    """One thing could not be had."""

    slug = "search-failed"


class TooMany(PacsFailure):
    """The PACS stopped at its limit of results; ``found``: those that it gave."""

    def __init__(self, found: list[Dataset]) -> None:
        super().__init__("The PACS gives no more results at once.", "too-many-results")
        self.found = found


class _Lost(Exception):
    """The association is gone, or none can be had at present."""


@dataclass(frozen=True)
class PacsNode:
    """A PACS, and us as it knows us. Raises InputError: bad-ae-title."""

    host: str
    port: int
    called_aet: str
    aet: str = "ALTA"

    def __post_init__(self) -> None:
        ae_title_of(self.called_aet)
        ae_title_of(self.aet)


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
        self._pause = pause
        self._association: Association | None = None
        self._arrived: dict[str, Path] = {}
        self._lock = threading.Lock()
        self._entity = AE(node.aet)
        self._entity.connection_timeout = 10
        self._entity.acse_timeout = 30
        self._entity.dimse_timeout = ANSWER_SECONDS
        self._entity.network_timeout = ANSWER_SECONDS
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # what fails is told from here, without names

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
            self._with_association(lambda association: self._retrieve(association, query))
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
        association, self._association = self._association, None
        if association is not None:
            connection = association.dul.socket.socket if association.dul.socket else None
            if association.is_established:
                association.release()
            if connection is not None:
                connection.close()  # pynetdicom leaves one open whose peer went first

    def _find(self, level: str, **keys: str) -> list[Dataset]:
        uid = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}[level]
        query = _query(level, **({uid: ""} | keys))

        def ask(association: Association) -> list[Dataset]:
            found: list[Dataset] = []
            for status, result in _answers(association.send_c_find(query, FIND)):
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

        return self._with_association(ask)

    def _retrieve(self, association: Association, query: Dataset) -> None:
        if self._use_get:
            answers = association.send_c_get(query, GET)
        else:
            answers = association.send_c_move(query, self.node.aet, MOVE)
        for status, _ in _answers(answers):
            if status.Status == UNKNOWN_DESTINATION:
                message = (
                    f"{self._name()} does not know where {self.node.aet} is: enter it there with its host and port."
                )
                raise PacsError(message, "unknown-destination")
            if status.Status not in (*PENDING, 0x0000, SOME_FAILED):
                raise PacsFailure(_failed("retrieval", status), "not-sent")

    def _with_association(self, request: Callable[[Association], R]) -> R:
        why = ""
        for pause in PAUSES:
            if pause:
                self._pause(pause)
            try:
                return request(self._open())
            except _Lost as error:
                why = str(error)
                logger.warning("%s: %s", self._name(), why)
                self.close()
        raise PacsError(f"{self._name()}: {why}, {len(PAUSES)} times in a row. Run it again when the PACS is well.")

    def _open(self) -> Association:
        if self._association is not None and self._association.is_established:
            return self._association
        self.close()
        contexts, roles = self._contexts()
        self._entity.requested_contexts = contexts
        association = self._entity.associate(
            self.node.host,
            self.node.port,
            ae_title=self.node.called_aet,
            ext_neg=roles,
            evt_handlers=[(evt.EVT_C_STORE, self._sent)] if self._use_get else [],
        )
        self._association = association
        if association.is_rejected:
            answer = association.acceptor.primitive
            if answer is not None and answer.result == 0x01:  # PS3.8 9.3.4: rejected-permanent
                message = f"{self._name()} rejects {self.node.aet}: enter this AE title there, or check both titles."
                raise PacsError(message, "peer-refused")
            raise _Lost("it rejects the association for the moment")
        if not association.is_established:
            raise _Lost("no association can be had")
        # A request is two small PDUs; without this the second waits for the PACS to confirm the first.
        connection = association.dul.socket.socket if association.dul.socket else None
        if connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        if not {FIND, GET if self._use_get else MOVE} <= accepted:
            wanted = "C-FIND and " + ("C-GET" if self._use_get else "C-MOVE")
            raise PacsError(f"{self._name()} offers {self.node.aet} no {wanted} (study root).", "no-query-retrieve")
        return association

    def _contexts(self) -> tuple[list[Any], list[Any]]:
        entity = AE()
        entity.add_requested_context(FIND)
        if not self._use_get:
            entity.add_requested_context(MOVE)
            return entity.requested_contexts, []
        entity.add_requested_context(GET)
        # One context for each syntax: the PACS sends an object in the one it has, without converting it.
        contexts = list(entity.requested_contexts)
        classes = [(sop_class, image_syntaxes()) for sop_class in IMAGE_CLASSES]
        classes += [(sop_class, list(REPORT_SYNTAXES)) for sop_class in REPORT_CLASSES]
        for sop_class, syntaxes in classes:
            for syntax in syntaxes:
                one = AE()
                one.add_requested_context(sop_class, syntax)
                contexts += one.requested_contexts
        return contexts, [build_role(sop_class, scp_role=True) for sop_class, _ in classes]

    def _sent(self, event: Any) -> Dataset | int:
        return keep_sent(event, self._store, self.received)

    def _uid(self, result: Dataset, keyword: str) -> str | None:
        uid = "\\".join(_values(result, keyword) or ())
        if is_uid(uid):
            return uid
        self.unusable += 1
        return None

    def _name(self) -> str:
        return f"{self.node.called_aet} at {self.node.host}:{self.node.port}"


def _query(level: str, **keys: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query


def _answers(answers: Any) -> Iterator[tuple[Dataset, Dataset | None]]:
    """Until the final one; an answer without a status means that the association is gone or the PACS is silent."""
    try:
        for status, result in answers:
            if "Status" not in status:
                raise _Lost("the association was lost")
            yield status, result
    except (RuntimeError, ValueError) as error:  # the association ended before the request was sent
        raise _Lost(f"the association was lost ({error})") from error


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
