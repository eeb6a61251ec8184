"""The archive as training data: studies with a frontal image and a report, under pseudonyms."""

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.orm import Session

from model.errors import ArchiveError
from model.training.tables import StudyRow

from .catalog import WHICH, Catalog
from .studies import histories, slot_instances
from .tables import MATCHED, Report, Study

__all__ = ["archive_studies"]

PATIENTS = 200  # whose studies are read at once


def archive_studies(catalog: Catalog) -> Iterator[StudyRow]:
    """One row a study that has a matched report and a frontal image; slots are filled as for embedding.

    ``patient_id`` is the catalog's keyed pseudonym, never the Patient ID. Pictures are referenced where they lie.
    Raises ArchiveError where there is none.
    """
    found = False
    with catalog.session() as session:
        patients = list(
            session.scalars(
                sa.select(Study.patient_id)
                .join(Report, Report.study_id == Study.id)
                .where(Report.status == MATCHED)
                .distinct()
                .order_by(Study.patient_id)
            )
        )
        for start in range(0, len(patients), PATIENTS):
            for row in _rows(session, patients[start : start + PATIENTS]):
                found = True
                yield row
    if not found:
        raise ArchiveError(
            f"The catalog {catalog.url} has no study with a report and a frontal image. {WHICH} Studies and reports are"
            " taken in with `alta ingest SOURCE --reports REPORTS`.",
            "empty-archive",
        )


def _rows(session: Session, patients: list[int]) -> Iterator[StudyRow]:
    reports = {
        report.study_id: report
        for report in session.scalars(
            sa.select(Report)
            .join(Study, Report.study_id == Study.id)
            .where(Report.status == MATCHED, Study.patient_id.in_(patients))
        )
    }
    for history in histories(session, patients).values():
        for study in history:
            slots = slot_instances(history, study)
            if study.id not in reports or not slots:
                continue
            report = reports[study.id]
            sections = {"findings": report.findings or "", "impression": report.impression or ""}
            yield StudyRow(
                study_id=study.study_instance_uid,
                patient_id=study.patient.key,
                **{slot: instance.path for slot, instance in slots.items()},
                **sections,
                text="" if any(sections.values()) else report.text,
            )
