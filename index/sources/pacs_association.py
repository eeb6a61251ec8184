"""An association with one PACS that is opened again when it is lost.

ArchiveError
  PacsError      the run ends: the PACS refuses us, is unreachable, cannot do what is asked, does not know our SCP
"""

import logging
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydicom import Dataset
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made when the module is imported
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from model.errors import ArchiveError

from ..dicom import image_syntaxes
from ..listeners.storage_scp import IMAGE_CLASSES, REPORT_CLASSES, REPORT_SYNTAXES, ae_title_of

__all__ = ["FIND", "GET", "MOVE", "PacsAssociation", "PacsError", "PacsNode", "answers_of"]

logger = logging.getLogger(__name__)

R = TypeVar("R")

FIND: Final = StudyRootQueryRetrieveInformationModelFind
MOVE: Final = StudyRootQueryRetrieveInformationModelMove
GET: Final = StudyRootQueryRetrieveInformationModelGet
PAUSES: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before a try; an idle association may be gone, at once again
ANSWER_SECONDS: Final = 300.0  # a PACS may have to fetch from a slower storage first


class PacsError(ArchiveError):
    """The PACS as a whole cannot be used. slug: peer-refused, peer-unreachable, no-query-retrieve,
    unknown-destination."""

    slug = "peer-unreachable"


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

    def __str__(self) -> str:
        return f"{self.called_aet} at {self.host}:{self.port}"


class PacsAssociation:
    """Not thread-safe. sent: answers what the PACS sends by C-GET; None: it is asked to send by C-MOVE."""

    def __init__(
        self,
        node: PacsNode,
        sent: Callable[[Any], Dataset | int] | None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._node = node
        self._sent = sent
        self._pause = pause
        self._association: Association | None = None
        self._entity = AE(node.aet)
        self._entity.connection_timeout = 10
        self._entity.acse_timeout = 30
        self._entity.dimse_timeout = ANSWER_SECONDS
        self._entity.network_timeout = ANSWER_SECONDS
        self._entity.requested_contexts = _contexts(sent is not None)
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # what fails is told from here, without names

    def ask(self, request: Callable[[Association], R]) -> R:
        """What ``request`` makes of an open association, tried again when that is lost. Raises PacsError."""
        why = ""
        for pause in PAUSES:
            if pause:
                self._pause(pause)
            try:
                return request(self._open())
            except _Lost as error:
                why = str(error)
                logger.warning("%s: %s", self._node, why)
                self.close()
        raise PacsError(f"{self._node}: {why}, {len(PAUSES)} times in a row. Run it again when the PACS is well.")

    def _open(self) -> Association:
        if self._association is not None and self._association.is_established:
            return self._association
        self.close()
        association = self._entity.associate(
            self._node.host,
            self._node.port,
            ae_title=self._node.called_aet,
            ext_neg=_roles() if self._sent else [],
            evt_handlers=[(evt.EVT_C_STORE, self._sent)] if self._sent else [],
        )
        self._association = association
        if association.is_rejected:
            answer = association.acceptor.primitive
            if answer is not None and answer.result == 0x01:  # PS3.8 9.3.4: rejected-permanent
                message = f"{self._node} rejects {self._node.aet}: enter this AE title there, or check both titles."
                raise PacsError(message, "peer-refused")
            raise _Lost("it rejects the association for the moment")
        if not association.is_established:
            raise _Lost("no association can be had")
        # A request is two small PDUs; without this the second waits for the PACS to confirm the first.
        connection = association.dul.socket.socket if association.dul.socket else None
        if connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        if not {FIND, GET if self._sent else MOVE} <= accepted:
            wanted = "C-FIND and " + ("C-GET" if self._sent else "C-MOVE")
            raise PacsError(f"{self._node} offers {self._node.aet} no {wanted} (study root).", "no-query-retrieve")
        return association

    def close(self) -> None:
        """Release the association."""
        association, self._association = self._association, None
        if association is not None:
            connection = association.dul.socket.socket if association.dul.socket else None
            if association.is_established:
                association.release()
            if connection is not None:
                connection.close()  # pynetdicom leaves one open whose peer went first


def _contexts(by_get: bool) -> list[PresentationContext]:
    if not by_get:
        return [build_context(FIND), build_context(MOVE)]
    contexts = [build_context(FIND), build_context(GET)]
    # One context for each syntax: the PACS sends an object in the one it has, without converting it.
    contexts += [build_context(image, syntax) for image in IMAGE_CLASSES for syntax in image_syntaxes()]
    contexts += [build_context(report, syntax) for report in REPORT_CLASSES for syntax in REPORT_SYNTAXES]
    return contexts


def _roles() -> list[Any]:
    """PS3.7 D.3.3.4: for what a C-GET brings, we are the SCP."""
    return [build_role(sop_class, scp_role=True) for sop_class in (*IMAGE_CLASSES, *REPORT_CLASSES)]


def answers_of(answers: Any) -> Iterator[tuple[Dataset, Dataset | None]]:
    """Until the final one; an answer without a status means that the association is gone or the PACS is silent."""
    try:
        for status, result in answers:
            if "Status" not in status:
                raise _Lost("the association was lost")
            yield status, result
    except (RuntimeError, ValueError) as error:  # the association ended before the request was sent
        raise _Lost(f"the association was lost ({error})") from error
