"""A study of the archive: its record and a rendering of its images."""

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Response

from index import find_study, study_slots
from index.access.keys import SEARCH
from model.errors import ImageError

from ..access import requires
from ..deps import MomentDep, QueryFilters, QueryRanked, ResourcesDep, only_fields
from ..errors import RequestError
from ..openapi import problem_responses
from ..query import read_archived_study
from ..render import MAX_SIZE, render_png, version_of
from ..resources import Resources
from ..schemas import EXAMPLE_UID, FlatFilters, FlatRanked, SearchOptions, SearchReply, StudyReply, Uid
from ..search import ask
from ..written import written

__all__ = ["router"]

StudyUid = Annotated[Uid, Path(description="DICOM StudyInstanceUID.", examples=[EXAMPLE_UID])]
View = Literal["frontal", "lateral"]

router = APIRouter(prefix="/v1/studies", tags=["studies"], dependencies=[requires(SEARCH)])


@router.get("/{study_instance_uid}", responses=problem_responses(404, 422))
def study(resources: ResourcesDep, study_instance_uid: StudyUid) -> StudyReply:
    """One study of the archive and its report."""
    return StudyReply.of(find_study(resources.catalog, study_instance_uid))


@router.get(
    "/{study_instance_uid}/similar",
    responses=problem_responses(404, 422, 503),
    dependencies=[only_fields(FlatRanked, FlatFilters, of_study=False)],
)
@written
def similar(
    resources: ResourcesDep,
    moment: MomentDep,
    study_instance_uid: StudyUid,
    options: QueryRanked,
    filters: QueryFilters,
) -> SearchReply:
    """Studies that resemble one of the archive."""
    encoder = moment.inference.encoder
    asked = read_archived_study(
        study_instance_uid, encoder.fingerprint, encoder.transform, resources.decoder, resources.catalog
    )
    return ask(resources, moment, asked, SearchOptions(**options.model_dump()), filters.for_index())


@router.get(
    "/{study_instance_uid}/image",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "8-bit grey PNG, at most `size` px on its longer side."},
        304: {"description": "The client's copy (`If-None-Match`) is current."},
        **problem_responses(404, 422),
    },
)
def image(
    resources: ResourcesDep,
    study_instance_uid: StudyUid,
    view: Annotated[View, Query(description="Which image of the study.")] = "frontal",
    size: Annotated[int, Query(ge=16, le=MAX_SIZE, description="Longer side in px.")] = 512,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Rendering for the screen; for diagnosis the PACS has the original."""
    return _rendering(resources, study_instance_uid, view, size, if_none_match)


def _rendering(resources: Resources, uid: str, view: View, size: int, known: str | None) -> Response:
    path = study_slots(resources.catalog, uid).get(f"current_{view}")
    if path is None:
        raise RequestError(f"The study has no {view} image.", "no-such-image")
    try:
        # A browser may keep its user's copy, a proxy may not. It asks each time whether it may show it (and the audit
        # hears of it); the tag saves rendering it again.
        headers = {"ETag": version_of(path, size), "Cache-Control": "private, no-cache"}
        if known == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(resources.decoder(render_png, path, size), media_type="image/png", headers=headers)
    except (OSError, ImageError):  # the archive references files in place; they can move or change
        raise RequestError(f"The {view} image is no longer readable where it was ingested.", "no-such-image") from None
