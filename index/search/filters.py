"""Which studies may be hits, as SQL."""

import math
from dataclasses import dataclass
from datetime import date
from typing import Final

import sqlalchemy as sa

from model.findings import ABSENT, NO_FINDING, PRESENT

from ..tables import ACCEPTED, MATCHED, Instance, Patient, Report, ReportFinding, Study

__all__ = ["NO_FILTERS", "Filters"]


@dataclass(frozen=True)
class Filters:
    """Which studies may be hits; an empty tuple or None does not restrict.

    views: any of PA, AP, LATERAL, ... , frontal, lateral, unknown. Dates and ages are inclusive, ages in completed
    years: someone of 70.9 is 70. A study without the value asked for is left out. findings: any that the study's report
    asserts. without_findings: none that it asserts or suspects; a report that was not read says neither. institutions
    as written; languages of the report as primary tags. Exclusions name studies by UID and patients by one of their
    studies or by key.
    """

    modalities: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    sexes: tuple[str, ...] = ()
    date_from: date | None = None
    date_to: date | None = None
    age_min: float | None = None
    age_max: float | None = None
    findings: tuple[str, ...] = ()
    without_findings: tuple[str, ...] = ()
    institutions: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    exclude_studies: tuple[str, ...] = ()
    exclude_patient_of: tuple[str, ...] = ()
    exclude_patients: tuple[str, ...] = ()

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """The filters as SQL over ``Study``."""
        found: list[sa.ColumnElement[bool]] = []
        if self.modalities:
            found.append(Study.modality.in_([value.upper() for value in self.modalities]))
        if self.sexes:
            found.append(Study.patient_sex.in_([value.upper() for value in self.sexes]))
        if self.views:
            found.append(_has_view(self.views))
        if self.date_from is not None:
            found.append(Study.study_date >= self.date_from)
        if self.date_to is not None:
            found.append(Study.study_date <= self.date_to)
        if self.age_min is not None:
            found.append(Study.patient_age >= self.age_min)
        if self.age_max is not None:
            found.append(Study.patient_age < math.floor(self.age_max) + 1)
        if self.institutions:
            found.append(Study.institution.in_(self.institutions))
        if self.languages:
            found.append(_report().where(Report.language.in_(self.languages)).exists())
        if self.findings:
            found.append(Study.id.in_(_asserting(self.findings)))
        if self.without_findings:
            found.append(_says(ReportFinding.finding == NO_FINDING))  # which every report has that was read
            said = ReportFinding.finding.in_(self.without_findings), ReportFinding.assertion != ABSENT
            found.append(sa.not_(_says(*said)))
        if self.exclude_studies:
            found.append(Study.study_instance_uid.not_in(self.exclude_studies))
        if self.exclude_patient_of:
            same = sa.select(Study.patient_id).where(Study.study_instance_uid.in_(self.exclude_patient_of))
            found.append(Study.patient_id.not_in(same))
        if self.exclude_patients:
            keyed = sa.select(Patient.id).where(Patient.key.in_(self.exclude_patients))
            found.append(Study.patient_id.not_in(keyed))
        return found


NO_FILTERS: Final = Filters()


def _report() -> sa.Select[int]:
    return sa.select(Report.id).where(Report.study_id == Study.id, Report.status == MATCHED)


def _asserting(findings: tuple[str, ...]) -> sa.Select[int | None]:
    """Studies by their findings: from the few rows of a rare finding, not from every study."""
    joined = sa.select(Report.study_id).join(ReportFinding, ReportFinding.report_id == Report.id)
    said = ReportFinding.finding.in_(findings), ReportFinding.assertion == PRESENT
    return joined.where(Report.status == MATCHED, *said)


def _says(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Whether the study's report has such a row."""
    joined = _report().join(ReportFinding, ReportFinding.report_id == Report.id)
    return joined.where(*conditions).exists()


def _has_view(views: tuple[str, ...]) -> sa.ColumnElement[bool]:
    groups = [view.lower() for view in views]
    positions = [view.upper() for view in views]
    return (
        sa.select(Instance.id)
        .where(
            Instance.study_id == Study.id,
            Instance.status == ACCEPTED,
            sa.or_(Instance.view.in_(groups), Instance.view_position.in_(positions)),
        )
        .exists()
    )
