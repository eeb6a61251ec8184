"""Archived studies and their reports."""

from datetime import date
from typing import Self
from urllib.parse import quote

from pydantic import BaseModel, Field

from index import ReportRecord, StudyRecord

from .messages import EXAMPLE_UID

__all__ = ["Report", "Study", "StudyReply"]


class Report(BaseModel):
    indication: str | None = Field(default=None, examples=["Cough."])
    comparison: str | None = Field(default=None, examples=["None."])
    findings: str | None = Field(default=None, examples=["Small left pleural effusion."])
    impression: str | None = Field(default=None, examples=["Effusion."])
    text: str = Field(description="The whole report.", examples=["FINDINGS: Small left pleural effusion."])
    language: str | None = Field(
        default=None, description="Primary tag of BCP 47, as its source or its words say.", examples=["en"]
    )

    @classmethod
    def of(cls, record: ReportRecord) -> Self:
        return cls(
            indication=record.indication,
            comparison=record.comparison,
            findings=record.findings,
            impression=record.impression,
            text=record.text,
            language=record.language,
        )


class Study(BaseModel):
    study_instance_uid: str = Field(examples=[EXAMPLE_UID])
    accession_number: str | None = None
    study_date: date | None = None
    modality: str | None = Field(default=None, examples=["DX"])
    views: list[str] = Field(examples=[["frontal", "lateral"]])
    sex: str | None = Field(default=None, examples=["F"])
    age: float | None = Field(default=None, description="Patient's age at the study, in years.")
    institution: str | None = Field(default=None, description="InstitutionName.", examples=["St. Elsewhere"])
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
            institution=record.institution,
            image_url=f"/v1/studies/{quote(record.study_instance_uid, safe='')}/image",
        )


class StudyReply(BaseModel):
    study: Study
    report: Report | None

    @classmethod
    def of(cls, record: StudyRecord) -> Self:
        return cls(study=Study.of(record), report=Report.of(record.report) if record.report else None)
