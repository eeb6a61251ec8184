"""Documents to their destinations: C-STORE, STOW-RS, a FHIR server, a webhook. Each has limits of its own, and says in
a word why something was not taken."""

import json
import logging
import uuid
from typing import Any, Final
from urllib.parse import quote

import requests
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import EnhancedSRStorage  # type: ignore[attr-defined]  # made when the module is imported

from index.sources.dicomweb_http import TIMEOUT, FetchFailed, Origin, PeerError, Retry, open_session
from model.errors import AltaError

from ..dicom_association import associated
from ..jobs.webhooks import post_signed, webhook_client
from ..return_settings import DicomNode, ReturnRoute
from .structured_report import written

__all__ = ["NotTaken", "send_dicom", "send_resource", "send_webhook", "store_over_http"]

ALREADY_THERE: Final = 0x0111  # PS3.7 C.5.8: duplicate SOP instance; ours are the same when sent again
TRANSFERRED: Final = (0x0000, 0xB000, 0xB006, 0xB007, ALREADY_THERE)  # PS3.4 B.2.3: success, and warnings after it
SILENCE_S: Final = 60.0  # after which a peer that says nothing is given up
ONCE: Final = Retry(attempts=1)  # trying again is the queue's business
ANSWER_BYTES: Final = 2**20
FHIR_JSON: Final = "application/fhir+json"


class NotTaken(AltaError):
    """slug: why. away: the destination as a whole does not answer, or refuses us: others would fare no better."""

    def __init__(self, slug: str, *, away: bool = False) -> None:
        super().__init__(f"The destination did not take it: {slug}.", slug)
        self.away = away


def send_dicom(document: Dataset, node: DicomNode, aet: str) -> None:
    """C-STORE (PS3.4 B), over TLS where the node says so and then only. Raises NotTaken."""
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # its messages name what is sent
    entity = AE(aet)
    entity.connection_timeout, entity.acse_timeout = 10, 30
    entity.dimse_timeout = entity.network_timeout = SILENCE_S
    entity.add_requested_context(EnhancedSRStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    try:
        context = node.tls.context() if node.tls else None
    except ValueError:  # a file that was right at the start is not there any more
        raise NotTaken("certificate-unreadable", away=True) from None
    with associated(entity, node, context, SILENCE_S) as association:
        if context is not None and context.unverified:
            raise NotTaken("bad-certificate", away=True)
        if association.is_rejected:
            raise NotTaken("association-rejected", away=True)
        if not association.is_established:
            raise NotTaken("not-reached", away=True)
        if not association.accepted_contexts:
            raise NotTaken("sr-not-accepted", away=True)
        try:
            answer = association.send_c_store(document)
        except ValueError as error:  # pynetdicom cannot encode it: of this document, not of the destination
            raise NotTaken("not-made: ValueError") from error
        except RuntimeError as error:
            raise NotTaken("association-lost", away=True) from error
        if "Status" not in answer:
            raise NotTaken("association-lost", away=True)
        if answer.Status not in TRANSFERRED:
            raise _refused(answer.Status)


def store_over_http(document: Dataset, url: str, credentials: str | None) -> None:
    """STOW-RS (PS3.18 10.5). Raises NotTaken."""
    boundary = uuid.uuid4().hex
    body = (
        f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        + written(document)
        + f"\r\n--{boundary}--\r\n".encode()
    )
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Accept": "application/dicom+json",
    }
    status, answer = _request("POST", f"{url.rstrip('/')}/studies", credentials, body, headers)
    if status == 401:
        raise NotTaken("http-401", away=True)
    if status in (200, 202, 409):  # PS3.18 table 10.5.3-1: what of the parts, is in the module
        reason = _failure(answer)
        if reason == ALREADY_THERE or (reason is None and status != 409):
            return
        raise NotTaken(f"http-{status}") if reason is None else _refused(reason)
    raise NotTaken(f"http-{status}", away=status >= 500 or status in (403, 404, 429))


def send_resource(resource: dict[str, Any], route: ReturnRoute, credentials: str | None) -> None:
    """PUT under an id of ours (update as create), or by the identifier where the server gives ids (conditional update):
    either way what is sent twice is one resource, and a newer state its next version. Raises NotTaken."""
    base = f"{route.to.rstrip('/')}/DiagnosticReport"
    headers = {"Content-Type": FHIR_JSON, "Accept": FHIR_JSON, "Prefer": "return=minimal"}
    address = f"{base}/{resource['id']}"
    if route.method == "conditional":
        named = resource["identifier"][0]
        address = f"{base}?identifier={quote(named['system'] + '|' + named['value'], safe='')}"
        resource = {name: value for name, value in resource.items() if name != "id"}
    body = json.dumps(resource).encode()
    status, _ = _request("PUT", address, credentials, body, headers)
    if status not in (200, 201):
        raise NotTaken(f"http-{status}", away=status >= 500 or status in (401, 403, 404, 429))


def send_webhook(message: str, message_id: str, url: str, key: bytes) -> None:
    """POST, signed as Standard Webhooks says; redirects are not followed. Raises NotTaken."""
    with webhook_client() as client:
        error = post_signed(client, url, message_id, message, key)
    if error is not None:
        raise NotTaken(error, away=True)


def _request(method: str, url: str, credentials: str | None, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """Status, and the answer as far as it is read. Certificates are verified, redirects stay at the origin."""

    def call() -> tuple[int, bytes]:
        with (
            open_session(Origin("return", url, credentials)) as session,
            session.request(
                method, url, data=body, headers=headers, timeout=TIMEOUT, stream=True, allow_redirects=False
            ) as response,
        ):
            return response.status_code, _first(response.iter_content(2**16))

    try:
        return ONCE(call)
    except (FetchFailed, PeerError) as error:  # slugs: timeout, connection-lost, bad-certificate
        raise NotTaken(error.slug, away=True) from None
    except requests.RequestException:
        raise NotTaken("not-reached", away=True) from None


def _refused(status: int) -> NotTaken:
    """Of a status of C-STORE or STOW-RS. A7xx is out of resources (PS3.4 B.2.3): others would fare no better."""
    return NotTaken(f"status-{status:04X}", away=status & 0xFF00 == 0xA700)


def _first(chunks: Any) -> bytes:
    found = b""
    for chunk in chunks:
        found += chunk
        if len(found) > ANSWER_BYTES:
            break
    return found


def _failure(answer: bytes) -> int | None:
    """FailureReason of the one instance, from a Store Instances Response Module; None where it did not fail."""
    try:
        failed = json.loads(answer).get("00081198", {}).get("Value", [])
        return int(failed[0]["00081197"]["Value"][0]) if failed else None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
