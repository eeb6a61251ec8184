"""What routes ask for, as annotated types."""

from inspect import signature
from typing import Annotated

from fastapi import Depends, File, Form, Query, Request, UploadFile, params
from pydantic import BaseModel

from .access import note_for_audit
from .errors import RequestError
from .query import AskedFilm, QueryStudy, Upload, read_archived_study, read_asked_film, read_study
from .resources import Moment, Resources
from .schemas import EXAMPLE_UID, FlatFilters, FlatOptions, FlatPreset, FlatRanked, Uid

__all__ = [
    "AskedFilmDep",
    "AskedStudy",
    "CheckImage",
    "FormFilters",
    "FormOptions",
    "FormPreset",
    "MomentDep",
    "OptionalStudy",
    "QueryFilters",
    "QueryRanked",
    "Receiving",
    "ResourcesDep",
    "Views",
    "only_fields",
]


async def _resources(request: Request) -> Resources:
    return request.app.state.resources


ResourcesDep = Annotated[Resources, Depends(_resources)]


def _moment(resources: ResourcesDep) -> Moment:
    return resources.moment()


MomentDep = Annotated[Moment, Depends(_moment)]  # one a request, however often it is asked for


async def _receiving(resources: ResourcesDep) -> None:
    if not resources.settings.receive:
        raise RequestError(
            "Nothing can be sent to this service; ALTA_RECEIVE=1 lets it take something in.", "receiving-disabled"
        )


Receiving = Depends(_receiving)

FormFilters = Annotated[FlatFilters, Form()]
QueryFilters = Annotated[FlatFilters, Query()]
FormPreset = Annotated[FlatPreset, Form()]
FormOptions = Annotated[FlatOptions, Form()]
QueryRanked = Annotated[FlatRanked, Query()]

Files = Annotated[list[UploadFile] | None, File(description="DICOM, JPEG or PNG images of one study.")]
PriorFiles = Annotated[list[UploadFile] | None, File(description="Images of an earlier study of the same patient.")]
ArchivedUid = Annotated[
    Uid | None, Form(description="A study of the archive to ask with, instead of files.", examples=[EXAMPLE_UID])
]
Views = Annotated[
    list[str] | None,
    Form(
        description="One word a file, in the same order: frontal, lateral, PA, AP, LL, RL, or auto for what the DICOM"
        " header says. JPEG and PNG files count as frontal unless named otherwise.",
        examples=[["PA", "LL"]],
    ),
]


CheckImage = Annotated[
    bool,
    Form(description="Refuse what is surely no chest radiograph, and warn of what may be none, is inverted or turned."),
]


def _asked_study(
    resources: ResourcesDep,
    moment: MomentDep,
    files: Files = None,
    study_instance_uid: ArchivedUid = None,
    views: Views = None,
    prior_files: PriorFiles = None,
    prior_views: Views = None,
    find_prior: Annotated[
        bool, Form(description="Without `prior_files`: use the patient's prior study in the archive.")
    ] = True,
    check_image: CheckImage = True,
) -> QueryStudy | None:
    encoder = moment.inference.encoder
    if study_instance_uid is None:
        if prior_files and not files:
            raise RequestError("Expected `files` beside `prior_files`, found none.", "no-file")
        if not files:
            return None
        study = read_study(
            Upload("files", files, views or ()),
            Upload("prior_files", prior_files or (), prior_views or ()),
            encoder.transform,
            resources.decoder,
            resources.catalog,
            find_prior=find_prior,
            check=check_image and resources.settings.check_images,
        )
        note_for_audit(study.query.study_instance_uid)
        return study
    note_for_audit(study_instance_uid)
    if files or prior_files:
        raise RequestError("Expected `files` or `study_instance_uid`, found both.", "bad-query")
    return read_archived_study(
        study_instance_uid,
        encoder.fingerprint,
        encoder.transform,
        resources.decoder,
        resources.catalog,
        find_prior=find_prior,
    )


def _asked_film(
    resources: ResourcesDep,
    moment: MomentDep,
    files: Files = None,
    study_instance_uid: ArchivedUid = None,
    views: Views = None,
    check_image: CheckImage = True,
) -> AskedFilm:
    note_for_audit(study_instance_uid)
    film = read_asked_film(
        Upload("files", files or (), views or ()),
        study_instance_uid,
        moment.inference.encoder.transform,
        resources.decoder,
        resources.catalog,
        check=check_image and resources.settings.check_images,
    )
    note_for_audit(film.query.study_instance_uid)
    return film


AskedFilmDep = Annotated[AskedFilm, Depends(_asked_film)]

OptionalStudy = Annotated[QueryStudy | None, Depends(_asked_study)]


def _required_study(study: OptionalStudy) -> QueryStudy:
    if study is None:
        raise RequestError("Expected `files`, or the `study_instance_uid` of an archived study; found none.", "no-file")
    return study


AskedStudy = Annotated[QueryStudy, Depends(_required_study)]

_STUDY_FIELDS = frozenset(signature(_asked_study).parameters) - {"resources", "moment"}


def only_fields(*models: type[BaseModel], of_study: bool = True) -> params.Depends:
    """Refuses every field that is not of these messages: a filter that is misspelt would filter nothing."""
    known = {name for model in models for name in model.model_fields} | (_STUDY_FIELDS if of_study else set())

    async def check(request: Request) -> None:
        sent = request.query_params if request.method == "GET" else await request.form()
        if unknown := sorted(set(sent) - known):
            names = ", ".join(name[:40] for name in unknown[:5])
            raise RequestError(f"Expected fields among {', '.join(sorted(known))}; found {names}.", "invalid-request")

    return Depends(check)
