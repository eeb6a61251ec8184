"""Studies that are sent as files of a form, deleted, and let in again."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from index import ReceivedStore
from index.access.keys import WRITE
from index.keeping.delete_study import delete_study as delete
from index.keeping.delete_study import preview_deletion
from index.keeping.delete_study import restore_study as restore
from index.multipart import media_type
from model.errors import UnknownStudy

from ..access import note_for_audit, requires
from ..deps import Receiving, ResourcesDep
from ..errors import RequestError
from ..openapi import problem_responses
from ..receiving import Stored, body_of
from ..receiving.stow import status_of
from ..resources import Resources
from ..schemas import DeletionReply, StoredFile, StudiesReply
from .studies import StudyUid

__all__ = ["router"]

FORM: Final = "multipart/form-data"
LOCATION: Final = {"Location": {"description": "The study, where all are of one.", "schema": {"type": "string"}}}
ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "Every file was taken in.", "headers": LOCATION},
    202: {"model": StudiesReply, "description": "Some were refused: `files` says which, and why.", "headers": LOCATION},
    409: {"model": StudiesReply, "description": "Every one was refused."},
}
FILES: Final = {
    "type": "array",
    "items": {"type": "string", "format": "binary"},
    "description": "DICOM files (PS3.10).",
}
BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {"type": "object", "required": ["files"], "properties": {"files": FILES}},
                "example": {"files": ["(pa.dcm)", "(lateral.dcm)"]},
            }
        },
    }
}


async def _form(request: Request) -> None:
    kind, _ = media_type(request.headers.get("content-type", ""))
    if kind != FORM:
        raise RequestError(f"Expected Content-Type {FORM}, found {kind[:80] or 'none'}.", "wrong-media-type")


router = APIRouter(prefix="/v1/studies", tags=["receiving"], dependencies=[requires(WRITE), Receiving])


@router.post(
    "",
    dependencies=[Depends(_form)],
    responses=ANSWERS | problem_responses(400, 403, 408, 413, 415, 503),
    openapi_extra=BODY,
)
def store_studies(resources: ResourcesDep, request: Request, response: Response) -> StudiesReply:
    """Take in DICOM files, each as if it came alone. Sent again, they count as accepted.

    Each is on the disk before the next one is read. What was accepted is found once it is embedded.
    """
    stored = resources.receiver.store(request.headers["content-type"], body_of(request))
    if not stored:
        raise RequestError("The body has no file.", "bad-multipart")
    reply = StudiesReply(
        files=[_file(number, one) for number, one in enumerate(stored, start=1)],
        studies=sorted({one.reference.study_instance_uid for one in stored if one.reference and not one.refusal}),
    )
    note_for_audit(*reply.studies, results=len(stored))
    response.status_code = status_of(stored)
    if len(reply.studies) == 1:
        response.headers["Location"] = f"/v1/studies/{reply.studies[0]}"
    return reply


@router.delete("/{study_instance_uid}", responses=problem_responses(403, 404, 422, 503))
def delete_study(
    resources: ResourcesDep,
    study_instance_uid: StudyUid,
    dry_run: Annotated[bool, Query(description="Tell what would be deleted; delete nothing.")] = False,
) -> DeletionReply:
    """Delete a study: its rows, reports, embeddings and the archive's own copies. Searches leave it out at once.

    Nothing of it comes back, by whatever door, until it is restored. Files in folders that the archive only reads stay
    there. To reach index files and backups as well, an administrator forgets the patient. Results that were sent to
    other systems stay with them: the reply lists those.
    """
    note_for_audit(study_instance_uid)
    act = preview_deletion if dry_run else delete
    return DeletionReply.of(study_instance_uid, act(resources.catalog, study_instance_uid, _store(resources)), dry_run)


@router.post("/{study_instance_uid}/restore", status_code=204, responses=problem_responses(403, 404, 422, 503))
def restore_study(resources: ResourcesDep, study_instance_uid: StudyUid) -> None:
    """Let a deleted study in again: the next ingest of its folder brings it back, or sending it once more."""
    note_for_audit(study_instance_uid)
    if not restore(resources.catalog, study_instance_uid, _store(resources)):
        raise UnknownStudy("Expected the StudyInstanceUID of a study that was deleted.")


def _store(resources: Resources) -> ReceivedStore:
    return ReceivedStore(resources.settings.received_dir, resources.settings.min_free_bytes)


def _file(number: int, one: Stored) -> StoredFile:
    return StoredFile(
        file=number,
        status="refused" if one.refusal else "accepted",
        reason=one.refusal,
        study_instance_uid=one.reference.study_instance_uid if one.reference else None,
        sop_instance_uid=one.reference.sop_instance_uid if one.reference else None,
    )
