"""Search: by images or by text, among reports or images of the archive."""

from typing import Literal

import numpy as np
from fastapi import APIRouter

from index import Filters
from model.errors import TextError

from ..deps import ExcludeOwnPatient, FormFilters, FormTopK, MomentDep, ResourcesDep, UploadedStudy
from ..observing import stage
from ..openapi import problem_responses
from ..query import QueryStudy
from ..resources import Moment, Resources
from ..schemas import Hit, Notice, SearchReply, TextQuery

__all__ = ["router"]

IMAGE_PROBLEMS = (413, 415, 422, 503)

router = APIRouter(prefix="/v1/search", tags=["search"])


@router.post("/image-to-text", responses=problem_responses(*IMAGE_PROBLEMS))
def image_to_text(
    resources: ResourcesDep,
    moment: MomentDep,
    study: UploadedStudy,
    filters: FormFilters,
    top_k: FormTopK = None,
    exclude_own_patient: ExcludeOwnPatient = True,
) -> SearchReply:
    """Reports of the archive that fit the uploaded study best."""
    return _search_with_study(resources, moment, "report", study, filters, top_k, exclude_own_patient)


@router.post("/image-to-image", responses=problem_responses(*IMAGE_PROBLEMS))
def image_to_image(
    resources: ResourcesDep,
    moment: MomentDep,
    study: UploadedStudy,
    filters: FormFilters,
    top_k: FormTopK = None,
    exclude_own_patient: ExcludeOwnPatient = True,
) -> SearchReply:
    """Studies of the archive whose images resemble the uploaded study most."""
    return _search_with_study(resources, moment, "image", study, filters, top_k, exclude_own_patient)


@router.post("/text-to-image", responses=problem_responses(400, 413, 422, 503))
def text_to_image(resources: ResourcesDep, moment: MomentDep, query: TextQuery) -> SearchReply:
    """Studies of the archive whose images show what the text says."""
    top_k = resources.top_k(query.top_k)
    if not query.text.strip():
        raise TextError("Expected at least one word, found none.", "text-empty")
    warnings = moment.inference.length_warnings((query.text,))
    vector = moment.inference.text(query.text)
    return _search(moment, "image", vector, query.filters.for_index(), top_k, warnings)


def _search_with_study(
    resources: Resources,
    moment: Moment,
    kind: Literal["image", "report"],
    study: QueryStudy,
    filters: Filters,
    top_k: int | None,
    exclude_own_patient: bool,
) -> SearchReply:
    hits_wanted = resources.top_k(top_k)
    vector = moment.inference.study(study.images)
    filters = study.without_itself(filters)
    if exclude_own_patient:
        filters = study.without_its_patient(filters, resources.catalog)
    reply = _search(moment, kind, vector, filters, hits_wanted, study.warnings)
    reply.query = study.query
    reply.own_patient_excluded = exclude_own_patient and bool(study.patients)
    return reply


def _search(
    moment: Moment,
    kind: Literal["image", "report"],
    vector: np.ndarray,
    filters: Filters,
    top_k: int,
    warnings: list[Notice],
) -> SearchReply:
    fingerprint = moment.inference.encoder.fingerprint
    snapshot = moment.searched()
    with stage("search"):
        hits = snapshot.search(kind, vector, top_k, filters, fingerprint)
    return SearchReply(
        model_fingerprint=fingerprint,
        generation=snapshot.info.id,
        hits=[Hit.of(hit) for hit in hits],
        warnings=warnings,
    )
