"""Search: by the images of a study, by text, or both, among images and reports of the archive."""

from fastapi import APIRouter

from index.access.keys import SEARCH

from ..access import requires
from ..deps import (
    AskedStudy,
    FormFilters,
    FormOptions,
    FormPreset,
    MomentDep,
    OptionalStudy,
    ResourcesDep,
    only_fields,
)
from ..openapi import form_example, problem_responses
from ..schemas import FlatFilters, FlatOptions, FlatPreset, PageQuery, SearchOptions, SearchReply, TextQuery
from ..search import ask, next_page
from ..written import written

__all__ = ["router"]

STUDY_PROBLEMS = (404, 413, 415, 422, 503)

STUDY_FORM = form_example(files=["(pa.dcm)", "(lateral.dcm)"], top_k=5, sex=["F"], age_min=40)

router = APIRouter(prefix="/v1/search", tags=["search"], dependencies=[requires(SEARCH)])


@router.post(
    "",
    responses=problem_responses(*STUDY_PROBLEMS),
    openapi_extra=form_example(files=["(film.png)"], views=["AP"], text="large left pneumothorax", top_k=5),
    dependencies=[only_fields(FlatOptions, FlatFilters)],
)
@written
def search(
    resources: ResourcesDep, moment: MomentDep, study: OptionalStudy, options: FormOptions, filters: FormFilters
) -> SearchReply:
    """Studies of the archive by what is sent: `files` or `study_instance_uid`, `text`, or one of the former with `text`
    for studies that resemble it and show that, rather without what is in `without`."""
    return ask(resources, moment, study, options, filters.for_index())


@router.post("/page", responses=problem_responses(410, 422, 503))
@written
def page(resources: ResourcesDep, query: PageQuery) -> SearchReply:
    """The hits that follow a page. What arrived since the first one is on none of them."""
    return next_page(resources, resources.moment(), query.cursor)


@router.post(
    "/image-to-text",
    responses=problem_responses(*STUDY_PROBLEMS),
    openapi_extra=STUDY_FORM,
    dependencies=[only_fields(FlatPreset, FlatFilters)],
)
@written
def image_to_text(
    resources: ResourcesDep, moment: MomentDep, study: AskedStudy, options: FormPreset, filters: FormFilters
) -> SearchReply:
    """Reports of the archive that fit a study best: `POST /v1/search` by report."""
    return ask(resources, moment, study, SearchOptions(**options.model_dump(), rank_by="report"), filters.for_index())


@router.post(
    "/image-to-image",
    responses=problem_responses(*STUDY_PROBLEMS),
    openapi_extra=STUDY_FORM,
    dependencies=[only_fields(FlatPreset, FlatFilters)],
)
@written
def image_to_image(
    resources: ResourcesDep, moment: MomentDep, study: AskedStudy, options: FormPreset, filters: FormFilters
) -> SearchReply:
    """Studies of the archive whose images resemble a study most: `POST /v1/search` by image."""
    return ask(resources, moment, study, SearchOptions(**options.model_dump(), rank_by="image"), filters.for_index())


@router.post("/text-to-image", responses=problem_responses(400, 413, 422, 503))
@written
def text_to_image(resources: ResourcesDep, query: TextQuery) -> SearchReply:
    """Studies of the archive that show what a text says; by their images unless `rank_by` says otherwise."""
    options = SearchOptions(**query.model_dump(exclude={"filters"}))
    return ask(resources, resources.moment(), None, options, query.filters.for_index())
