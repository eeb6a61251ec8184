"""Reports that are sent: FHIR R4 DiagnosticReports, one or a Bundle of them, or one as plain JSON."""

import hashlib
import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response

from index.access.keys import WRITE
from index.multipart import media_type
from index.reports.readers import reports_of_resource
from index.reports.sent import take_reports
from model.errors import InputError

from ..access import note_for_audit, requires
from ..deps import Receiving, ResourcesDep
from ..errors import RequestError
from ..openapi import problem_responses
from ..schemas import ReportReply, ReportRequest, ReportsReply

__all__ = ["router"]

MEDIA_TYPES: Final = ("application/fhir+json", "application/json")
MAX_REPORTS: Final = 1000  # of one request: they are one transaction, and others wait for it
EXAMPLE: Final = {
    "resourceType": "DiagnosticReport",
    "identifier": [{"system": "urn:oid:1.2.3.4.5", "value": "F100"}],
    "status": "final",
    "code": {"text": "XR Chest 2 Views"},
    "subject": {"identifier": {"value": "P1"}},
    "issued": "2024-03-01T12:00:00Z",
    "imagingStudy": [{"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3.1"}}],
    "presentedForm": [{"contentType": "text/plain", "data": "RklORElOR1M6IENsZWFyIGx1bmdzLg=="}],
    "conclusion": "No acute disease.",
}
SCHEMA: Final = {"type": "object", "description": "DiagnosticReport, or a Bundle.", "examples": [EXAMPLE]}
BODY: Final = {"requestBody": {"required": True, "content": {kind: {"schema": SCHEMA} for kind in MEDIA_TYPES}}}
ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "Every report was taken in."},
    202: {"model": ReportsReply, "description": "Some were refused: `status` of each says which, `detail` why."},
    409: {"model": ReportsReply, "description": "Every one was refused."},
}

ONE_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The report was taken in, or a newer one is held."},
    409: {"model": ReportsReply, "description": "It was refused: `detail` says why."},
}


async def _sent(request: Request) -> bytes:
    kind, _ = media_type(request.headers.get("content-type", ""))
    if kind not in MEDIA_TYPES:
        message = f"Expected Content-Type {' or '.join(MEDIA_TYPES)}, found {kind[:80] or 'none'}."
        raise RequestError(message, "wrong-media-type")
    return await request.body()


router = APIRouter(prefix="/v1/reports", tags=["receiving"], dependencies=[requires(WRITE), Receiving])


@router.post("/fhir", responses=ANSWERS | problem_responses(400, 403, 413, 415, 422, 503), openapi_extra=BODY)
def fhir(resources: ResourcesDep, body: Annotated[bytes, Depends(_sent)], response: Response) -> ReportsReply:
    """Take in reports, all in one transaction: what is answered for is in the database.

    A report is matched to its study, or waits for it. A newer version replaces, `cancelled` and `entered-in-error`
    withdraw, an older version changes nothing. References are followed inside the Bundle only.
    """
    try:
        resource = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError("The body is no well-formed JSON.", "bad-request") from None
    try:
        # By its content: a body that is sent again has the same source.
        reports = reports_of_resource(resource, f"fhir {hashlib.sha256(body).hexdigest()[:16]}")
    except InputError as error:
        raise RequestError(error.message, "bad-fhir") from None
    if len(reports) > MAX_REPORTS:
        raise RequestError(f"Expected at most {MAX_REPORTS} reports, found {len(reports)}.", "bad-fhir")
    outcomes = take_reports(resources.catalog, reports)
    note_for_audit(*(outcome.study_instance_uid for outcome in outcomes), results=len(outcomes))
    refused = sum(outcome.refused for outcome in outcomes)
    response.status_code = 200 if not refused else 409 if refused == len(outcomes) else 202
    return ReportsReply(reports=[ReportReply.of(outcome) for outcome in outcomes])


@router.post("", responses=ONE_ANSWER | problem_responses(400, 403, 413, 422, 503))
def report(resources: ResourcesDep, sent: ReportRequest, response: Response) -> ReportsReply:
    """Take in one report as JSON. Once this is answered it is in the database.

    It is matched to its study, or waits for it. A newer version replaces (`issued`, then `status`), `withdrawn` deletes
    what is held, an older version changes nothing.
    """
    digest = hashlib.sha256(sent.model_dump_json().encode("utf-8", "backslashreplace")).hexdigest()
    (outcome,) = take_reports(resources.catalog, [sent.as_report(f"json {digest[:16]}")])
    note_for_audit(outcome.study_instance_uid, results=1)
    response.status_code = 409 if outcome.refused else 200
    return ReportsReply(reports=[ReportReply.of(outcome)])
