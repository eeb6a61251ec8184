"""What goes over the wire. Words are DICOM's; every number says what it is."""

from datetime import date
from typing import Annotated, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

import index
from index import Filters, ReportRecord, StudyRecord
from index.reports.sent import ReportOutcome

from .errors import RequestError

__all__ = [
    "MAX_EXCLUDED",
    "Health",
    "Hit",
    "LabelScore",
    "Modality",
    "ModelCard",
    "Name",
    "Notice",
    "PairScore",
    "Problem",
    "PromptSet",
    "Provenance",
    "Query",
    "QueryFile",
    "Report",
    "ReportReply",
    "ReportsReply",
    "SearchFilters",
    "SearchReply",
    "Sex",
    "Study",
    "StudyReply",
    "TextQuery",
    "Uid",
    "View",
    "Years",
    "ZeroShotReply",
    "ZeroShotRequest",
]

Uid = Annotated[str, StringConstraints(pattern=r"^[0-9.]{1,64}$")]  # PS3.5 9.1
Modality = Literal["CR", "DX"]
View = Literal["frontal", "lateral", "PA", "AP"]
Sex = Literal["F", "M", "O"]
Years = Annotated[int, Field(ge=0, le=150)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Phrase = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]

MAX_EXCLUDED = 1000  # each becomes a parameter of one SQL statement

EXAMPLE_UID = "2.25.297410839285610394857261049586730194857"


class Message(BaseModel):
    """Base of all messages: unknown fields of a request are refused rather than ignored."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """RFC 9457 problem details. Some problems have members of their own, such as `errors` or `files`."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "/problems/empty-index",
                    "title": "Nothing to search in yet",
                    "status": 503,
                    "detail": "No generation is live. Run `alta index build`.",
                    "instance": "/v1/search/text-to-image",
                    "request_id": "0b0f6c1e6d0b4f0e9f6f0b8f5c1d2e3f",
                }
            ]
        },
    )

    type: str = Field(description="Stable; GET it for an explanation.")
    title: str
    status: int
    detail: str = Field(description="What was expected, what was found, what to do.")
    instance: str = Field(description="Path of the request.")
    request_id: str = Field(description="Also in the `X-Request-ID` header and in the service's log.")


class Notice(Message):
    """The request was carried out, though not quite as sent."""

    code: str = Field(description="Stable name.", examples=["text-truncated"])
    detail: str


class SearchFilters(Message):
    """Which studies of the archive may be hits. Filters are joined by AND, values of one filter by OR."""

    modality: list[Modality] | None = Field(default=None, description="DICOM modality.", examples=[["DX"]])
    view: list[View] | None = Field(
        default=None, description="Studies with an image of one of these views.", examples=[["lateral"]]
    )
    date_from: date | None = Field(default=None, description="Earliest study date, inclusive.", examples=["2019-01-01"])
    date_to: date | None = Field(default=None, description="Latest study date, inclusive.", examples=["2024-12-31"])
    sex: list[Sex] | None = Field(default=None, description="Patient's sex (DICOM).", examples=[["F"]])
    age_min: Years | None = Field(default=None, description="Youngest age at the study, in years.", examples=[40])
    age_max: Years | None = Field(default=None, description="Oldest age at the study, in years.", examples=[70])
    exclude_patient_of: list[Uid] | None = Field(
        default=None,
        max_length=MAX_EXCLUDED,
        description="StudyInstanceUIDs in the archive: no study of their patients is a hit.",
    )
    exclude_study: list[Uid] | None = Field(
        default=None, max_length=MAX_EXCLUDED, description="StudyInstanceUIDs that are no hits."
    )

    def for_index(self) -> Filters:
        """Raises RequestError: bad-filter."""
        if self.date_from and self.date_to and self.date_from > self.date_to:
            raise RequestError(f"date_from {self.date_from} is after date_to {self.date_to}.", "bad-filter")
        if self.age_min is not None and self.age_max is not None and self.age_min > self.age_max:
            raise RequestError(f"age_min {self.age_min} is over age_max {self.age_max}.", "bad-filter")
        return Filters(
            modalities=tuple(self.modality or ()),
            views=tuple(self.view or ()),
            date_from=self.date_from,
            date_to=self.date_to,
            sexes=tuple(self.sex or ()),
            age_min=self.age_min,
            age_max=self.age_max,
            exclude_patient_of=tuple(self.exclude_patient_of or ()),
            exclude_studies=tuple(self.exclude_study or ()),
        )


class TextQuery(Message):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "left pleural effusion with basal atelectasis", "top_k": 5, "filters": {"sex": ["F"]}}
            ]
        }
    )

    text: str = Field(max_length=20_000, description="A phrase or a report section.")
    top_k: int | None = Field(default=None, ge=1, description="How many hits; the service has a default and a limit.")
    filters: SearchFilters = Field(default_factory=SearchFilters)


class QueryFile(BaseModel):
    """What was recognised in one uploaded file. Files are named by position: their names may be about a patient."""

    field: Literal["files", "prior_files"]
    position: int = Field(description="From 0, in the order sent.")
    status: Literal["used", "unused", "refused"]
    format: Literal["dicom", "picture"] | None = None
    slot: str | None = Field(default=None, description="Encoder slot the image fills.", examples=["current_frontal"])
    view: str | None = Field(default=None, description="frontal, lateral or unknown.")
    view_position: str | None = Field(default=None, description="DICOM ViewPosition.", examples=["PA"])
    view_source: str | None = Field(
        default=None,
        description="Where the view comes from: client (`views` of the request), header, classifier (what the picture"
        " shows) or assumed (a picture that does not show its view clearly counts as frontal). A header may say that"
        " the view is oblique, which is neither; none where nothing tells it.",
        examples=["header"],
    )
    modality: str | None = Field(default=None, examples=["DX"])
    reason: str | None = Field(default=None, description="Problem slug of a refused file.", examples=["wrong-modality"])
    detail: str | None = Field(default=None, description="Why the file was refused or is unused.")


class Query(BaseModel):
    """How the uploaded files were read."""

    study_instance_uid: str | None = Field(default=None, description="None where only JPEG or PNG files were sent.")
    slots: list[str] = Field(description="Encoder slots that were filled.", examples=[["current_frontal"]])
    prior_source: Literal["uploaded", "archive"] | None = Field(
        default=None,
        description="Where the prior study came from. Archive: found there by the Patient ID of the header.",
    )
    files: list[QueryFile]


class Report(BaseModel):
    indication: str | None = Field(default=None, examples=["Cough."])
    comparison: str | None = Field(default=None, examples=["None."])
    findings: str | None = Field(default=None, examples=["Small left pleural effusion."])
    impression: str | None = Field(default=None, examples=["Effusion."])
    text: str = Field(description="The whole report.", examples=["FINDINGS: Small left pleural effusion."])

    @classmethod
    def of(cls, record: ReportRecord) -> Self:
        return cls(
            indication=record.indication,
            comparison=record.comparison,
            findings=record.findings,
            impression=record.impression,
            text=record.text,
        )


class Study(BaseModel):
    study_instance_uid: str = Field(examples=[EXAMPLE_UID])
    accession_number: str | None = None
    study_date: date | None = None
    modality: str | None = Field(default=None, examples=["DX"])
    views: list[str] = Field(examples=[["frontal", "lateral"]])
    sex: str | None = Field(default=None, examples=["F"])
    age: float | None = Field(default=None, description="Patient's age at the study, in years.")
    image_url: str = Field(
        examples=[f"/v1/studies/{EXAMPLE_UID}/image"],
        description="PNG rendering of the frontal image, relative to the service.",
    )

    @classmethod
    def of(cls, record: StudyRecord) -> Self:
        return cls(
            study_instance_uid=record.study_instance_uid,
            accession_number=record.accession_number,
            study_date=record.study_date,
            modality=record.modality,
            views=list(record.views),
            sex=record.sex,
            age=record.age,
            image_url=f"/v1/studies/{quote(record.study_instance_uid, safe='')}/image",
        )


class Hit(BaseModel):
    rank: int = Field(description="From 1.")
    score: float = Field(
        examples=[0.71], description="Cosine of the query's and the candidate's embedding, -1 to 1. No probability."
    )
    score_kind: Literal["cosine"] = "cosine"
    study: Study
    report: Report | None

    @classmethod
    def of(cls, hit: index.Hit) -> Self:
        record = hit.study
        report = Report.of(record.report) if record.report else None
        return cls(rank=hit.rank, score=hit.score, study=Study.of(record), report=report)


class SearchReply(BaseModel):
    query: Query | None = Field(default=None, description="For image queries.")
    model_fingerprint: str = Field(
        examples=["5f" * 32], description="Names the encoders; scores of different ones cannot be compared."
    )
    generation: int = Field(examples=[7], description="Generation of the index that was searched.")
    own_patient_excluded: bool = Field(
        default=False, description="Whether the query's own patient was known and left out of the hits."
    )
    hits: list[Hit] = Field(description="Best first. Fewer than top_k when the filters leave fewer.")
    warnings: list[Notice]


class StudyReply(BaseModel):
    study: Study
    report: Report | None

    @classmethod
    def of(cls, record: StudyRecord) -> Self:
        return cls(study=Study.of(record), report=Report.of(record.report) if record.report else None)


class PromptSet(Message):
    """A finding as phrasings for its presence and for its absence; each side becomes one direction."""

    name: Name
    positive: list[Phrase] = Field(min_length=1, max_length=64)
    negative: list[Phrase] = Field(min_length=1, max_length=64)


class ZeroShotRequest(Message):
    """Give `labels`, or `prompts`, or neither for the built-in ensembles of the CheXpert findings."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"labels": ["Pneumothorax", "Pleural Effusion", "No Finding"]},
                {
                    "prompts": [
                        {
                            "name": "rib fracture",
                            "positive": ["acute rib fracture", "displaced fracture of a rib"],
                            "negative": ["no rib fracture", "the ribs are intact"],
                        }
                    ]
                },
            ]
        }
    )

    labels: list[Name] = Field(default_factory=list, max_length=100)
    prompts: list[PromptSet] = Field(default_factory=list, max_length=100)


class PairScore(BaseModel):
    name: str = Field(examples=["Pneumothorax"])
    prompts: Literal["built-in", "given"]
    positive_cosine: float = Field(examples=[0.41])
    negative_cosine: float = Field(examples=[0.12])
    score: float = Field(
        examples=[0.57], description="exp(positive) / (exp(positive) + exp(negative)), see `score_kind`."
    )


class LabelScore(BaseModel):
    name: str = Field(examples=["Pneumothorax"])
    prompts: Literal["built-in", "given"] = Field(description="Built-in: the label is a finding with an ensemble.")
    cosine: float = Field(examples=[0.41])
    score: float = Field(examples=[0.38], description="Softmax of the cosines over the labels sent, see `score_kind`.")
    best: bool = Field(description="The label with the highest cosine.")


class ZeroShotReply(BaseModel):
    query: Query
    model_fingerprint: str
    score_kind: str = Field(description="What `score` is, in a sentence.")
    findings: list[PairScore] = Field(description="For prompts and the built-in findings.")
    labels: list[LabelScore] = Field(description="For labels, in the order sent.")
    warnings: list[Notice]


class ReportReply(BaseModel):
    """What became of one report that was sent."""

    entry: int = Field(description="Position in the Bundle, from 1; 1 for a report by itself.")
    status: Literal["matched", "unmatched", "withdrawn", "outdated", "refused"] = Field(
        description="`unmatched`: waits for its study. `outdated`: the archive holds a newer version; nothing changed."
    )
    reason: str | None = Field(description="Stable name, where there is something to say.", examples=["empty-report"])
    detail: str | None
    study_instance_uid: str | None = Field(description="The study it is matched to.")

    @classmethod
    def of(cls, outcome: ReportOutcome) -> Self:
        number = outcome.source.rpartition("#")[2]
        return cls(
            entry=int(number) if number.isdecimal() else 1,
            status=outcome.status,  # type: ignore[arg-type]
            reason=outcome.reason,
            detail=outcome.detail,
            study_instance_uid=outcome.study_instance_uid,
        )


class ReportsReply(BaseModel):
    reports: list[ReportReply] = Field(description="One for each DiagnosticReport, in their order.")


class Provenance(BaseModel):
    """Where the encoders come from, as their checkpoint says."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    trained_on: str
    license: str
    notice: str = Field(description="What the encoders may be used for.")


class ModelCard(BaseModel):
    fingerprint: str
    dimension: int = Field(description="Width of an embedding.")
    context_length: int = Field(description="Tokens of a text that are read, special tokens included.")
    findings: list[str] = Field(description="Names with built-in prompt ensembles.")
    provenance: Provenance
    max_files: int
    max_upload_mb: int
    max_top_k: int


class Health(BaseModel):
    status: Literal["ok", "degraded", "unavailable"]
    reasons: list[str] = Field(description="Why searches cannot be answered, or not from the newest index.")
    generation: int | None = None
