"""Which studies may be hits."""

from datetime import date
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from index import Filters

from ..errors import RequestError
from .messages import Message, Uid

__all__ = ["MAX_EXCLUDED", "FlatFilters", "Modality", "SearchFilters", "Sex", "View", "Years"]

Modality = Literal["CR", "DX"]
View = Literal["frontal", "lateral", "PA", "AP"]
Sex = Literal["F", "M", "O"]
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


class FlatFilters(SearchFilters):
    """The same as fields of a form or an address, among others."""

    model_config = ConfigDict(extra="ignore")
