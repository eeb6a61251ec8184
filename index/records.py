"""Archived studies as callers see them, read in one plain query: it is done for every hit of every search."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from .rows_of import rows_of
from .slots import UNKNOWN
from .tables import ACCEPTED, MATCHED, Instance, Patient, Report, Study

__all__ = ["ReportRecord", "StudyRecord", "read_records"]


@dataclass(frozen=True)
class ReportRecord:
    """A report: the sections that were found, and the whole text. language: a primary tag of BCP 47."""

    text: str
    indication: str | None = None
    comparison: str | None = None
    findings: str | None = None
    impression: str | None = None
    language: str | None = None


@dataclass(frozen=True)
class StudyRecord:
    """One study. ``views``: PA, AP, LATERAL, ... , else frontal, lateral or unknown; ``age`` in years."""

    study_instance_uid: str
    accession_number: str | None
    study_date: date | None
    modality: str
    views: tuple[str, ...]
    sex: str | None
    age: float | None
    description: str | None
    report: ReportRecord | None
    patient_key: str  # a pseudonym; still not for the outside, it links studies
    institution: str | None = None


_IDS: sa.BindParameter[int] = sa.bindparam("ids", expanding=True)

_VIEWS = (
    sa.select(rows_of(Instance.view_position, Instance.view))
    .where(Instance.study_id == Study.id, Instance.status == ACCEPTED)
    .scalar_subquery()
)
_STUDIES = (
    sa.select(
        Study.id,
        Study.study_instance_uid,
        Study.accession_number,
        Study.study_date,
        Study.modality,
        Study.patient_sex,
        Study.patient_age,
        Study.description,
        Study.institution,
        Patient.key,
        _VIEWS,
        Report.text,
        Report.indication,
        Report.comparison,
        Report.findings,
        Report.impression,
        Report.language,
    )
    .join(Patient, Patient.id == Study.patient_id)
    .outerjoin(Report, sa.and_(Report.study_id == Study.id, Report.status == MATCHED))
    .where(Study.id.in_(_IDS))
)


def read_records(connection: sa.Connection, study_ids: Sequence[int]) -> dict[int, StudyRecord]:
    """Records by study row id; ids that no longer exist are absent."""
    if not study_ids:
        return {}
    records = {}
    for row in connection.execute(_STUDIES, {"ids": study_ids}).all():
        study_id, uid, accession, day, modality, sex, age, description, institution, patient, views, text, *about = row
        records[study_id] = StudyRecord(
            study_instance_uid=uid,
            accession_number=accession,
            study_date=day,
            modality=modality,
            views=tuple(sorted({position or group or UNKNOWN for position, group in views or ()})),
            sex=sex,
            age=age,
            description=description,
            report=None if text is None else ReportRecord(text, *about),
            patient_key=patient,
            institution=institution,
        )
    return records
