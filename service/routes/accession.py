"""A study of the archive by its accession number, for worklists, which know no StudyInstanceUID."""

from typing import Annotated

from fastapi import APIRouter, Query

from index import find_accession, find_study
from index.access.keys import SEARCH

from ..access import note_for_audit, requires
from ..deps import MomentDep, QueryFilters, QueryRanked, ResourcesDep, only_fields
from ..openapi import problem_responses
from ..query import read_archived_study
from ..resources import Resources
from ..schemas import FlatFilters, FlatRanked, OfAccession, SearchOptions, SearchReply, StudyReply
from ..search import ask
from ..written import written

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["studies"], dependencies=[requires(SEARCH)])


@router.get(
    "/studies",
    responses=problem_responses(404, 409, 422),
    dependencies=[only_fields(OfAccession, of_study=False)],
)
def study_by_accession(resources: ResourcesDep, of: Annotated[OfAccession, Query()]) -> StudyReply:
    """The one study of the archive with an accession number, and its report. Several may have it, of different sites
    or years: then 409, and `accession_institution` or `accession_date` tell them apart."""
    return StudyReply.of(find_study(resources.catalog, _uid(resources, of)))


@router.get(
    "/similar",
    responses=problem_responses(404, 409, 422, 503),
    dependencies=[only_fields(FlatRanked, FlatFilters, OfAccession, of_study=False)],
)
@written
def similar_by_accession(
    resources: ResourcesDep,
    moment: MomentDep,
    of: Annotated[OfAccession, Query()],
    options: QueryRanked,
    filters: QueryFilters,
) -> SearchReply:
    """Studies that resemble the one of the archive with an accession number. Several may have it, of different sites
    or years: then 409, and `accession_institution` or `accession_date` tell them apart. `query` names the study."""
    uid = _uid(resources, of)
    encoder = moment.inference.encoder
    asked = read_archived_study(uid, encoder.fingerprint, encoder.transform, resources.decoder, resources.catalog)
    return ask(resources, moment, asked, SearchOptions(**options.model_dump()), filters.for_index())


def _uid(resources: Resources, of: OfAccession) -> str:
    uid = find_accession(resources.catalog, of.accession_number, of.accession_institution, of.accession_date)
    note_for_audit(uid)
    return uid
