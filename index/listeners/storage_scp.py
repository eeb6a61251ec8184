"""The Storage and Verification SCP: what modalities and a PACS send with C-STORE goes to the received store.

"Success" is answered only when the object is safe on the disk (``ReceivedStore.keep``). Peers are not believed: who
may call, how large an object and a PDU may be, and how long one may take, is limited here.
"""

import io
import logging
import re
import time
import weakref
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made when the module is imported
    BasicTextSRStorage,
    ComprehensiveSRStorage,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedSRStorage,
    Verification,
)
from pynetdicom.transport import ThreadedAssociationServer

from model.errors import ArchiveError, InputError

from ..dicom import image_syntaxes
from ..intake.arrival import DICOM, Arrival
from ..intake.examine import MAX_FILE_BYTES
from ..intake.received import ReceivedStore
from ..reports.texts import derived_uid
from .association_limits import MAX_PDU, Memory, Tally, limited

__all__ = ["IMAGE_CLASSES", "REPORT_CLASSES", "REPORT_SYNTAXES", "StorageScp", "ae_title_of", "keep_sent"]

logger = logging.getLogger(__name__)

# Not Secondary Capture: dose pages, screenshots and annotated copies come as such, with modality CR or DX.
IMAGE_CLASSES: Final = (ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation)
REPORT_CLASSES: Final = (BasicTextSRStorage, EnhancedSRStorage, ComprehensiveSRStorage)
# Not deflated: a small dataset could unpack to any size in this process.
REPORT_SYNTAXES: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

MAX_ASSOCIATIONS: Final = 32
MAX_HELD: Final = 2 * 2**30  # bytes of objects in memory at once, of all associations together
TIMEOUT: Final = 60.0  # seconds without anything, and for one PDU
IMPLEMENTATION: Final = UID(derived_uid("implementation"))  # PS3.7 D.3.3.2; always the same

# PS3.4 B.2.3
SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
NOT_OF_ITS_CLASS: Final = 0xA900
NOT_UNDERSTOOD: Final = 0xC000
PROCESSING_FAILURE: Final = 0x0110

_config.LOG_HANDLER_LEVEL = "none"  # its handlers would write headers, and thereby names, to the log


class StorageScp:
    """Listens for C-STORE and C-ECHO of CR and DX images and of structured reports.

    ae_title: ours, which callers have to name. allowed: their AE titles; None: anybody. kept: called, in the thread of
    the association, with the SOP instance UID and the place of each object that is safe, before its sender hears so.
    fetching: what comes was asked for (C-MOVE), and did not arrive by its sender's own doing.
    Raises InputError: bad-ae-title.
    """

    def __init__(
        self,
        store: ReceivedStore,
        *,
        ae_title: str = "ALTA",
        allowed: Collection[str] | None,
        kept: Callable[[str, Path], None] = lambda uid, path: None,
        fetching: bool = False,
        max_object_bytes: int = MAX_FILE_BYTES,
        max_held_bytes: int = MAX_HELD,
        max_associations: int = MAX_ASSOCIATIONS,
        timeout: float = TIMEOUT,
    ) -> None:
        self._store = store
        self._kept = kept
        self._fetching = fetching
        self._limit = max_object_bytes
        self._memory = Memory(max_held_bytes)
        self._max_connections = 2 * max_associations  # each costs two threads before it has said anything
        self._timeout = timeout
        self._server: ThreadedAssociationServer | None = None
        self._tallies: weakref.WeakKeyDictionary[Association, Tally] = weakref.WeakKeyDictionary()
        self._entity = AE(ae_title_of(ae_title))
        self._entity.require_called_aet = True
        if allowed is not None:
            self._entity.require_calling_aet = [ae_title_of(title) for title in allowed]
        self._entity.maximum_pdu_size = MAX_PDU
        self._entity.maximum_associations = max_associations
        self._entity.network_timeout = timeout
        self._entity.acse_timeout = min(timeout, 30.0)
        self._entity.dimse_timeout = timeout
        self._entity.add_supported_context(Verification)
        for image in IMAGE_CLASSES:
            self._entity.add_supported_context(image, image_syntaxes())
        for report in REPORT_CLASSES:
            self._entity.add_supported_context(report, list(REPORT_SYNTAXES))

    def start(self, host: str = "127.0.0.1", port: int = 11112) -> int:
        """Listen, in threads of this process. Port 0: any that is free. Returns the port.

        Raises ArchiveError: cannot-listen.
        """
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_CONN_CLOSE, self._closed),
            (evt.EVT_DIMSE_RECV, self._message_read),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_C_STORE, self._store_one),
        ]
        # What peers do wrong is told by this module in a line each, not with tracebacks.
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
        try:
            self._server = self._entity.start_server((host, port), block=False, evt_handlers=handlers)
        except OSError as error:
            why = error.strerror or error
            message = f"Cannot listen on {host}, port {port}: {why}. Choose another port to listen on."
            raise ArchiveError(message, "cannot-listen") from error
        assert self._server is not None
        self._server.verify_request = self._has_room  # type: ignore[method-assign]
        return int(self._server.server_address[1])

    def stop(self, patience: float = 30.0) -> None:
        """Take no new association, let those that are open end within ``patience`` seconds, then abort them."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.shutdown()
        deadline = time.monotonic() + patience
        for association in server.active_associations:
            association.join(max(0.0, deadline - time.monotonic()))
        for association in server.active_associations:
            association.abort()

    def _store_one(self, event: Any) -> Dataset | int:
        tally = self._tallies.get(event.assoc)

        def kept(uid: str, path: Path) -> None:
            if tally:
                tally.stored += 1
                tally.size += path.stat().st_size
            self._kept(uid, path)

        sender = Arrival(DICOM, event.assoc.requestor.ae_title.strip())
        answer = keep_sent(event, self._store, kept, self._limit, None if self._fetching else sender)
        if tally:
            tally.refused += answer != SUCCESS
            self._memory.give_back(tally.held)
            tally.held = 0
        return answer

    def _has_room(self, request: Any, client_address: Any) -> bool:
        room = len(self._tallies) < self._max_connections
        if not room:
            logger.warning(
                "a connection from %s is one too many: there are %d", client_address[0], self._max_connections
            )
        return room

    def _opened(self, event: Any) -> None:
        wrapped = event.assoc.dul.socket
        tally = self._tallies[event.assoc] = Tally(str(event.address[0]), wrapped.socket)
        waiting = event.assoc.dimse.msg_queue
        wrapped.recv = limited(tally, self._limit + 2 * MAX_PDU, self._timeout, self._memory, waiting.qsize)

    def _message_read(self, event: Any) -> None:
        if tally := self._tallies.get(event.assoc):
            if isinstance(event.message, C_STORE_RQ):
                tally.held += tally.unread
            else:
                self._memory.give_back(tally.unread)
            tally.unread = 0
            tally.peer = f"{event.assoc.requestor.ae_title} at {event.assoc.requestor.address}"

    def _rejected(self, event: Any) -> None:
        caller = event.assoc.requestor
        called = caller.primitive.called_ae_title
        logger.warning("an association of %r at %s for %r was rejected", caller.ae_title, caller.address, called)

    def _closed(self, event: Any) -> None:
        tally = self._tallies.pop(event.assoc, None)
        if tally:
            self._memory.give_back(tally.unread + tally.held)
            tally.unread = tally.held = 0
            tally.connection.close()  # pynetdicom leaves one open whose peer went first
        if tally and (tally.stored or tally.refused):
            seconds = time.monotonic() - tally.began
            message = "%s: %d objects stored (%.1f MB), %d refused, in %.1f s"
            level = logging.DEBUG if self._fetching else logging.INFO  # who fetches tells of it in its own words
            logger.log(level, message, tally.peer, tally.stored, tally.size / 1e6, tally.refused, seconds)


def keep_sent(
    event: Any,
    store: ReceivedStore,
    kept: Callable[[str, Path], None],
    limit: int = MAX_FILE_BYTES,
    arrival: Arrival | None = None,
) -> Dataset | int:
    """Keep the object of a C-STORE request and tell ``kept`` its SOP instance UID and place; the status to answer."""
    try:
        data = _as_file(event)
        status, comment = _mismatch(event, data) or (SUCCESS, "")
        if status == SUCCESS:
            kept(str(event.request.AffectedSOPInstanceUID), store.keep(data, limit, arrival=arrival))
            return SUCCESS
    except ArchiveError as error:
        status, comment = OUT_OF_RESOURCES if error.slug == "storage-full" else NOT_UNDERSTOOD, error.message
    except Exception as error:
        logger.exception("an object could not be received")
        status, comment = PROCESSING_FAILURE, f"{type(error).__name__} while storing"
    sender = event.assoc.remote
    logger.warning("%s: an object was refused, %04X: %s", sender["ae_title"], status, comment)
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = comment[:64]  # VR LO
    return answer


def ae_title_of(text: str) -> str:
    """An AE title without blanks around it (PS3.5 6.2: at most 16 characters). Raises InputError: bad-ae-title."""
    title = text.strip(" ")
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", title):
        raise InputError(f"Expected an AE title of 1 to 16 ASCII characters, found {text!r}.", "bad-ae-title")
    return title


def _as_file(event: Any) -> bytes:
    """PS3.10 7.1, the same for the same object whoever sends it: its hash is its name."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = event.request.AffectedSOPClassUID
    meta.MediaStorageSOPInstanceUID = event.request.AffectedSOPInstanceUID
    meta.TransferSyntaxUID = event.context.transfer_syntax
    meta.ImplementationClassUID = IMPLEMENTATION
    meta.ImplementationVersionName = "ALTA"
    buffer = DicomBytesIO()
    buffer.write(bytes(128) + b"DICM")
    write_file_meta_info(buffer, meta, enforce_standard=True)
    buffer.write(event.request.DataSet.getbuffer())
    return buffer.getvalue()


def _mismatch(event: Any, data: bytes) -> tuple[int, str] | None:
    """Why the archive could not even tell what the object is; else None. What its pixels are worth is judged later."""
    try:
        header = dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=["PatientID", *_IDENTIFIERS])
        sop_class, instance, study = (_raw_text(header, name) for name in _IDENTIFIERS)
    except Exception as error:  # whatever a broken dataset makes of its reader
        return NOT_UNDERSTOOD, f"The dataset cannot be read: {type(error).__name__}"
    if not study or not instance:
        return NOT_UNDERSTOOD, "StudyInstanceUID or SOPInstanceUID is absent"
    request = event.request
    if (sop_class, instance) != (str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)):
        return NOT_OF_ITS_CLASS, "The dataset's SOP class or instance is not the request's"
    return None


_IDENTIFIERS: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")


def _raw_text(header: Dataset, keyword: str) -> str:
    """Not converted: that would check the value and warn, in a thread."""
    if keyword not in header:
        return ""
    value = header.get_item(keyword).value
    return (value if isinstance(value, bytes) else str(value or "").encode()).decode("ascii", "replace").strip(" \0")
