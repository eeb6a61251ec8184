"""A simulated study with its report and truth, and a simulated patient."""

import datetime
from dataclasses import dataclass
from typing import Literal

from .anatomy import Acquisition, Anatomy
from .findings import Finding

__all__ = ["Report", "SimulatedPatient", "SimulatedStudy", "View"]

View = Literal["frontal", "lateral"]


@dataclass(frozen=True)
class Report:
    """The four sections of a radiology report, without their headings."""

    indication: str
    comparison: str
    findings: str
    impression: str

    @property
    def text(self) -> str:
        """The sections joined under their headings, one paragraph each."""
        return (
            f"INDICATION: {self.indication}\n\nCOMPARISON: {self.comparison}\n\n"
            f"FINDINGS: {self.findings}\n\nIMPRESSION: {self.impression}"
        )


@dataclass(frozen=True)
class SimulatedStudy:
    """One dated study: what is true of it (`findings`, `resolved`), how it looks (anatomy, acquisitions), its report.

    `resolved` holds the findings of the patient's prior study that are gone now. `lateral` is None without a lateral
    view. `age` is in years at `study_date`.
    """

    study_instance_uid: str
    patient_id: str
    accession_number: str
    study_date: datetime.date
    sex: Literal["M", "F"]
    age: int
    frontal_view: Literal["PA", "AP"]
    anatomy: Anatomy
    frontal: Acquisition
    lateral: Acquisition | None
    findings: tuple[Finding, ...]
    resolved: tuple[Finding, ...]
    report: Report

    @property
    def has_lateral(self) -> bool:
        """Whether a lateral view was taken."""
        return self.lateral is not None

    @property
    def views(self) -> tuple[View, ...]:
        """The views taken, frontal first."""
        return ("frontal", "lateral") if self.has_lateral else ("frontal",)

    @property
    def finding_classes(self) -> frozenset[str]:
        """The names of the findings present, on any view; empty means no finding."""
        return frozenset(finding.name for finding in self.findings)

    def acquisition(self, view: View) -> Acquisition:
        """How `view` was taken. Raises ValueError for the lateral view of a study without one."""
        if view == "frontal":
            return self.frontal
        if self.lateral is None:
            raise ValueError(f"study {self.study_instance_uid} has no lateral view; ask `has_lateral` first")
        return self.lateral


@dataclass(frozen=True)
class SimulatedPatient:
    """A patient with 1..4 studies, oldest first."""

    patient_id: str
    sex: Literal["M", "F"]
    studies: tuple[SimulatedStudy, ...]
