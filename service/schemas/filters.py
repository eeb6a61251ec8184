"""Which studies may be hits."""

from datetime import date
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from index import Filters
from index.reports.language import primary_language
from model.findings import FINDINGS

from ..errors import RequestError
from .messages import Message, Uid

__all__ = ["MAX_EXCLUDED", "FlatFilters", "Modality", "OfAccession", "SearchFilters", "Sex", "View", "Years"]

Modality = Literal["CR", "DX"]
View = Literal["frontal", "lateral", "PA", "AP"]
Sex = Literal["F", "M", "O"]
Institution = Annotated[str, Field(max_length=64)]  # PS3.5 6.2: LO
Years = Annotated[int, Field(ge=0, le=150)]

MAX_EXCLUDED = 1000  # each becomes a parameter of one SQL statement


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
    finding: list[str] | None = Field(
        default=None,
        max_length=20,
        description="Studies whose report asserts one of these findings: the fourteen of CheXpert, under"
        " the names that zero-shot has for them.",
        examples=[["Pleural Effusion"]],
    )
    without_finding: list[str] | None = Field(
        default=None,
        max_length=20,
        description="Studies whose report was read, and neither asserts nor suspects one of these findings.",
        examples=[["Support Devices"]],
    )
    institution: list[Institution] | None = Field(
        default=None, max_length=100, description="InstitutionName, as written.", examples=[["St. Elsewhere"]]
    )
    language: list[str] | None = Field(
        default=None,
        max_length=20,
        description="Language of the report: tags of BCP 47, of which the first part counts.",
        examples=[["en"]],
    )
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
            findings=_findings("finding", self.finding),
            without_findings=_findings("without_finding", self.without_finding),
            institutions=tuple(self.institution or ()),
            languages=_languages(self.language),
            exclude_patient_of=tuple(self.exclude_patient_of or ()),
            exclude_studies=tuple(self.exclude_study or ()),
        )


def _findings(field: str, names: list[str] | None) -> tuple[str, ...]:
    for name in names or ():
        if name not in FINDINGS:
            raise RequestError(f"Expected {field} among {', '.join(FINDINGS)}; found {name[:64]!r}.", "bad-filter")
    return tuple(names or ())


def _languages(tags: list[str] | None) -> tuple[str, ...]:
    found = []
    for tag in tags or ():
        language = primary_language(tag)
        if language is None:
            raise RequestError(
                f"Expected language as a BCP 47 tag such as en or pt-BR, found {tag[:64]!r}.", "bad-filter"
            )
        found.append(language)
    return tuple(found)


class FlatFilters(SearchFilters):
    """The same as fields of a form or an address, among others."""

    model_config = ConfigDict(extra="ignore")


class OfAccession(Message):
    """Which study is meant by an accession number, as fields of an address."""

    model_config = ConfigDict(extra="ignore")

    accession_number: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description="DICOM AccessionNumber.", examples=["A17"]
    )
    accession_institution: Institution | None = Field(
        default=None, description="InstitutionName of that study, where several have the number.", examples=["North"]
    )
    accession_date: date | None = Field(
        default=None, description="Date of that study, where several have the number.", examples=["2024-03-01"]
    )
