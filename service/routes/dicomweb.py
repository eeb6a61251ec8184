"""STOW-RS (PS3.18 10.5): instances that a PACS or a router sends over HTTP."""

from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from index.access.keys import WRITE
from index.multipart import media_type
from index.sop_reference import SopReference

from ..access import note_for_audit, requires
from ..deps import Receiving, ResourcesDep
from ..errors import RequestError
from ..openapi import problem_responses
from ..receiving import DICOM, Stored, body_of
from ..receiving.stow import response_module, status_of
from ..schemas import EXAMPLE_UID
from .studies import StudyUid

__all__ = ["router"]

DICOM_JSON: Final = "application/dicom+json"
ACCEPTED: Final = (DICOM_JSON, "application/json", "application/*", "*/*")
EXAMPLE_REFERENCE: Final = SopReference("1.2.840.10008.5.1.4.1.1.1.1", f"{EXAMPLE_UID}.1", EXAMPLE_UID)
TAKEN: Final = Stored(EXAMPLE_REFERENCE)
REFUSED: Final = Stored(EXAMPLE_REFERENCE, "wrong-modality")
ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    status: {
        "description": text,
        "content": {DICOM_JSON: {"schema": {"type": "object"}, "example": response_module(example)}},
    }
    for status, text, example in (
        (200, "Every instance was taken in: Store Instances Response Module (PS3.18 annex I).", [TAKEN]),
        (202, "Some were; FailedSOPSequence says which were not, and why.", [TAKEN, REFUSED]),
        (409, "None was; FailedSOPSequence or OtherFailuresSequence says why.", [REFUSED]),
    )
}
BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            f'multipart/related; type="{DICOM}"': {
                "schema": {
                    "type": "array",
                    "items": {"type": "string", "format": "binary"},
                    "description": "One DICOM file (PS3.10) a part.",
                },
                "example": ["(pa.dcm)", "(lateral.dcm)"],
            }
        },
    }
}


class DicomJson(JSONResponse):
    media_type = DICOM_JSON


PROBLEMS: Final = problem_responses(400, 403, 406, 408, 413, 415, 422, 503)


async def _json_accepted(request: Request) -> None:
    accept = request.headers.get("accept", "")
    kinds = [media_type(item) for item in accept.split(",") if item.strip()]
    if kinds and not any(kind in ACCEPTED and parameters.get("q") not in ("0", "0.0") for kind, parameters in kinds):
        raise RequestError(f"The answer is {DICOM_JSON}, which the Accept header leaves out.", "not-acceptable")


async def _dicom_parts(request: Request) -> None:
    # PS3.18 8.7.3: the metadata-and-bulk-data forms (application/dicom+json, +xml) are others.
    kind, parameters = media_type(request.headers.get("content-type", ""))
    if kind != "multipart/related" or parameters.get("type", "").lower() != DICOM:
        message = f'Expected Content-Type multipart/related; type="{DICOM}", found {kind[:80] or "none"}.'
        raise RequestError(message, "wrong-media-type")


router = APIRouter(
    prefix="/dicomweb",
    tags=["receiving"],
    dependencies=[requires(WRITE), Receiving, Depends(_json_accepted), Depends(_dicom_parts)],
)


@router.post("/studies", response_class=DicomJson, responses=ANSWERS | PROBLEMS, openapi_extra=BODY)
def store_instances(resources: ResourcesDep, request: Request) -> JSONResponse:
    """Take in instances of any studies, each as if it came alone. Sent again, they count as stored."""
    return _store(resources, request, None)


@router.post(
    "/studies/{study_instance_uid}", response_class=DicomJson, responses=ANSWERS | PROBLEMS, openapi_extra=BODY
)
def store_study_instances(resources: ResourcesDep, request: Request, study_instance_uid: StudyUid) -> JSONResponse:
    """Take in instances of one study; those of others fail."""
    return _store(resources, request, study_instance_uid)


def _store(resources: ResourcesDep, request: Request, study: str | None) -> JSONResponse:
    stored = resources.receiver.store(request.headers["content-type"], body_of(request), study)
    if not stored:
        raise RequestError("The body has no part.", "bad-multipart")
    note_for_audit(*(one.reference.study_instance_uid for one in stored if one.reference), results=len(stored))
    return DicomJson(response_module(stored), status_of(stored))
