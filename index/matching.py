"""Reports to rows, and rows to their studies: by study instance UID, else by an accession number that is unique.

Accession numbers are unique to a site at best, so a second study may come with one that was matched already. A report
that names its patient is matched to a study of that patient only.
"""

import hashlib
from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager

from .catalog import Catalog
from .record import nobody_key
from .removal import forget_embeddings
from .reports import SECTIONS, ReportText
from .tables import MATCHED, REFUSED, REPORT, UNMATCHED, Patient, Report, Study

__all__ = ["match_reports", "record_reports"]


def record_reports(catalog: Catalog, session: Session, reports: Sequence[ReportText], met: set[str]) -> list[int]:
    """Write a row for each report; returns the row ids. ``met``: identities this run has met, extended here.

    A report with new text replaces the one of the same study from an earlier run; within one run the first stands.
    """
    rows: list[Report] = []
    patients = [catalog.patient_key(report.patient_id) if report.patient_id else None for report in reports]
    identities = [_identity(report, patient, met) for report, patient in zip(reports, patients, strict=True)]
    known = {row.identity: row for row in session.scalars(sa.select(Report).where(Report.identity.in_(identities)))}
    for report, patient, identity in zip(reports, patients, identities, strict=True):
        row = known.get(identity)
        if row is None:
            row = known[identity] = Report(identity=identity, status=UNMATCHED)
            session.add(row)
        if row.sha256 != report.sha256 or row.status == REFUSED:
            _fill(row, report)
        row.patient_key = patient
        rows.append(row)
    session.flush()
    return [row.id for row in rows]


def match_reports(catalog: Catalog, session: Session) -> list[int]:
    """Give every unmatched report its study, if it has come, and take it from one that it no longer clearly names.

    Returns the ids of the rows looked at.
    """
    candidates: dict[Report, list[Study]] = {}
    for query in (_by_uid(), _by_accession()):
        for report, study in session.execute(query.order_by(Report.id)):
            candidates.setdefault(report, []).append(study)
    possible = {report: _possible(catalog, report, found) for report, found in candidates.items()}
    chosen = {report: found[0] for report, found in possible.items() if len(found) == 1}
    lost: dict[int, str] = {}  # study: hash of the report it had
    for report in candidates:
        if report.study_id is not None and (report not in chosen or chosen[report].id != report.study_id):
            lost[report.study_id] = report.sha256
            report.study_id, report.status = None, UNMATCHED
    session.flush()  # before others take their place, or two matched ones meet in the unique index
    holders = _holders(session, [study.id for study in chosen.values()])
    for report, found in possible.items():
        if report not in chosen:
            report.reason, report.detail = _why_unmatched(report, len(found))
            continue
        study_id = chosen[report].id
        if holders.get(study_id, report) is not report:
            _refuse_second(report, holders[study_id])
        else:
            report.study_id, report.status, report.reason, report.detail = study_id, MATCHED, None, None
            holders[study_id] = report
    session.flush()
    forget_embeddings(session, [study for study, had in lost.items() if _text_of(holders, study) != had], REPORT)
    return [report.id for report in candidates]


def _by_uid() -> sa.Select[Report, Study]:
    """Unmatched reports, and matched ones whose study now is of another patient than they name."""
    return (
        sa.select(Report, Study)
        .join(Study, Study.study_instance_uid == Report.study_instance_uid)
        .join(Study.patient)
        .options(contains_eager(Study.patient))
        .where(sa.or_(Report.status == UNMATCHED, sa.and_(Report.status == MATCHED, _patient_differs())))
    )


def _by_accession() -> sa.Select[Report, Study]:
    """Unmatched reports, and matched ones whose accession number several studies have or whose patient differs."""
    several = (
        sa.select(Study.accession_number)
        .where(Study.accession_number.is_not(None))
        .group_by(Study.accession_number)
        .having(sa.func.count() > 1)
    )
    doubtful = sa.and_(Report.status == MATCHED, sa.or_(_patient_differs(), Report.accession_number.in_(several)))
    return (
        sa.select(Report, Study)
        .join(Study, Study.accession_number == Report.accession_number)
        .join(Study.patient)
        .options(contains_eager(Study.patient))
        .where(Report.study_instance_uid.is_(None), sa.or_(Report.status == UNMATCHED, doubtful))
    )


def _patient_differs() -> sa.ColumnElement[bool]:
    """In a join of report and patient; NULL, which is no match, for a report that names none."""
    return sa.and_(Patient.key != Report.patient_key, sa.func.coalesce(Patient.id_key, "") != Report.patient_key)


def _possible(catalog: Catalog, report: Report, candidates: list[Study]) -> list[Study]:
    """The studies of the patient whom the report names, if it names one."""
    if report.patient_key is None:
        return candidates
    of_patient = [study for study in candidates if report.patient_key in (study.patient.key, study.patient.id_key)]
    # Images without a Patient ID contradict nobody, and yield to those that have it.
    return of_patient or [s for s in candidates if s.patient.key == nobody_key(catalog, s.study_instance_uid)]


def _why_unmatched(report: Report, possible: int) -> tuple[str, str]:
    if not possible:
        return "conflicting-patient", "The study that the report names is archived under another patient."
    return "ambiguous-accession", f"{possible} studies have accession number {report.accession_number}."


def _text_of(holders: dict[int, Report], study_id: int) -> str | None:
    return holders[study_id].sha256 if study_id in holders else None


def _identity(report: ReportText, patient: str | None, met: set[str]) -> str:
    study = report.study_instance_uid or report.accession_number
    if report.refusal or not study:
        return _hash("refused", report.source, report.sha256)
    parts = ["uid", study] if report.study_instance_uid else ["accession", study, *filter(None, [patient])]
    identity = _hash(*parts)
    if identity in met:
        identity = _hash(*parts, report.sha256)
    met.add(identity)
    return identity


def _fill(row: Report, report: ReportText) -> None:
    for name in ("source", "text", "study_instance_uid", "accession_number", "sha256", *SECTIONS):
        setattr(row, name, getattr(report, name))
    if report.refusal:
        row.study_id, row.status, row.reason, row.detail = (
            None,
            REFUSED,
            report.refusal.slug,
            report.refusal.message,
        )
    elif row.status == REFUSED:
        row.status, row.reason, row.detail = UNMATCHED, None, None


def _holders(session: Session, study_ids: Iterable[int]) -> dict[int, Report]:
    ids = list(study_ids)
    found: dict[int, Report] = {}
    for start in range(0, len(ids), 1000):
        query = sa.select(Report).where(Report.status == MATCHED, Report.study_id.in_(ids[start : start + 1000]))
        found |= {row.study_id: row for row in session.scalars(query) if row.study_id is not None}
    return found


def _refuse_second(report: Report, holder: Report) -> None:
    same = report.sha256 == holder.sha256
    report.status, report.reason = REFUSED, "duplicate-report" if same else "conflicting-report"
    report.detail = f"The study has {'the same' if same else 'another'} report from {holder.source}."


def _hash(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "backslashreplace")).hexdigest()
