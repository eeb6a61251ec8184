"""What routes ask for, as annotated types."""

from datetime import date
from typing import Annotated

from fastapi import Depends, File, Form, Request, UploadFile

from index import Filters

from .errors import RequestError
from .query import QueryStudy, Upload, read_study
from .resources import Moment, Resources
from .schemas import MAX_EXCLUDED, Modality, SearchFilters, Sex, Uid, View, Years

__all__ = [
    "ExcludeOwnPatient",
    "FormFilters",
    "FormTopK",
    "MomentDep",
    "Receiving",
    "ResourcesDep",
    "UploadedStudy",
]


def _resources(request: Request) -> Resources:
    return request.app.state.resources


ResourcesDep = Annotated[Resources, Depends(_resources)]


def _moment(resources: ResourcesDep) -> Moment:
    return resources.moment()


MomentDep = Annotated[Moment, Depends(_moment)]  # one a request, however often it is asked for


async def _receiving(resources: ResourcesDep) -> None:
    if not resources.settings.receive:
        raise RequestError("Nothing can be sent to this service.", "receiving-disabled")


Receiving = Depends(_receiving)

FormTopK = Annotated[
    int | None, Form(ge=1, description="How many hits; the service has a default and a limit.", examples=[5])
]


def _form_filters(
    modality: Annotated[
        list[Modality] | None, Form(description="DICOM modality of the study.", examples=[["DX"]])
    ] = None,
    view: Annotated[
        list[View] | None, Form(description="Studies with an image of one of these views.", examples=[["frontal"]])
    ] = None,
    date_from: Annotated[
        date | None, Form(description="Earliest study date, inclusive.", examples=["2019-01-01"])
    ] = None,
    date_to: Annotated[date | None, Form(description="Latest study date, inclusive.", examples=["2024-12-31"])] = None,
    sex: Annotated[list[Sex] | None, Form(description="Patient's sex (DICOM).", examples=[["F"]])] = None,
    age_min: Annotated[Years | None, Form(description="Youngest age at the study, in years.", examples=[40])] = None,
    age_max: Annotated[Years | None, Form(description="Oldest age at the study, in years.", examples=[70])] = None,
    exclude_patient_of: Annotated[
        list[Uid] | None,
        Form(
            max_length=MAX_EXCLUDED,
            description="StudyInstanceUIDs in the archive: no study of their patients is a hit.",
        ),
    ] = None,
    exclude_study: Annotated[
        list[Uid] | None, Form(max_length=MAX_EXCLUDED, description="StudyInstanceUIDs that are no hits.")
    ] = None,
) -> Filters:
    """The form's flat spelling of ``SearchFilters``."""
    return SearchFilters(
        modality=modality,
        view=view,
        date_from=date_from,
        date_to=date_to,
        sex=sex,
        age_min=age_min,
        age_max=age_max,
        exclude_patient_of=exclude_patient_of,
        exclude_study=exclude_study,
    ).for_index()


FormFilters = Annotated[Filters, Depends(_form_filters)]

ExcludeOwnPatient = Annotated[
    bool,
    Form(description="No study of the query's own patient is a hit, where a DICOM header names the patient."),
]

Files = Annotated[list[UploadFile], File(description="DICOM, JPEG or PNG images of one study.")]
PriorFiles = Annotated[list[UploadFile] | None, File(description="Images of an earlier study of the same patient.")]
Views = Annotated[
    list[str] | None,
    Form(
        description="One word a file, in the same order: frontal, lateral, PA, AP, LL, RL, or auto for what the DICOM"
        " header says. JPEG and PNG files count as frontal unless named otherwise.",
        examples=[["PA", "LL"]],
    ),
]


def _uploaded_study(
    resources: ResourcesDep,
    moment: MomentDep,
    files: Files,
    views: Views = None,
    prior_files: PriorFiles = None,
    prior_views: Views = None,
    find_prior: Annotated[
        bool, Form(description="Without `prior_files`: look for the patient's prior study in the archive.")
    ] = True,
) -> QueryStudy:
    return read_study(
        Upload("files", files, views or ()),
        Upload("prior_files", prior_files or (), prior_views or ()),
        moment.inference.encoder.transform,
        resources.decoder,
        resources.catalog if find_prior else None,
    )


UploadedStudy = Annotated[QueryStudy, Depends(_uploaded_study)]
