"""A study of the archive by its accession number, for worklists, which know no StudyInstanceUID."""

from typing import Annotated

from fastapi import APIRouter, Query

from index import find_accession
from index.access.keys import SEARCH

from ..access import note_for_audit, requires
from ..deps import MomentDep, QueryFilters, QueryRanked, ResourcesDep, only_fields
from ..openapi import problem_responses
from ..query import read_archived_study
from ..schemas import FlatFilters, FlatRanked, OfAccession, SearchOptions, SearchReply
from ..search import ask

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["studies"], dependencies=[requires(SEARCH)])


@router.get(
    "/similar",
    responses=problem_responses(404, 409, 422, 503),
    dependencies=[only_fields(FlatRanked, FlatFilters, OfAccession, of_study=False)],
)
def similar_by_accession(
    resources: ResourcesDep,
    moment: MomentDep,
    of: Annotated[OfAccession, Query()],
    options: QueryRanked,
    filters: QueryFilters,
) -> SearchReply:
    """Studies that resemble the one of the archive with an accession number. Several may have it, of different sites
    or years: then 409, and `accession_institution` or `accession_date` tell them apart. `query` names the study."""
    uid = find_accession(resources.catalog, of.accession_number, of.accession_institution, of.accession_date)
    note_for_audit(uid)
    encoder = moment.inference.encoder
    asked = read_archived_study(uid, encoder.fingerprint, encoder.transform, resources.decoder, resources.catalog)
    return ask(resources, moment, asked, SearchOptions(**options.model_dump()), filters.for_index())
