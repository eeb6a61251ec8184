"""Reports to rows: what makes two of them one report, and which version of it a row holds.

A report is known by the number that its sender gave it, else by the study that it names. A newer version of it takes
the place of the older in the same row; an older one that comes late changes nothing. Every version is the whole
report: an addendum comes with the text that it adds to, and replaces it. Of two rows that name one study, ``matching``
decides.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..catalog import Catalog
from ..dicom import clean
from ..embedding.removal import forget_embeddings
from ..keeping.deleted import without_deleted
from ..keeping.forgotten import without_forgotten
from ..tables import MATCHED, REFUSED, REPORT, UNMATCHED, WITHDRAWN, Report
from .labels import label_reports, unlabel
from .texts import SECTIONS, ReportText
from .versions import Standing, Version, compare

__all__ = ["RecordedReports", "record_reports", "reopen_refused", "withdraw"]


@dataclass
class RecordedReports:
    """rows: the row id of each report, in their order. reopened: others that may be matched now that one has moved."""

    rows: list[int]
    reopened: list[int]


def record_reports(catalog: Catalog, session: Session, reports: Sequence[ReportText], met: set[str]) -> RecordedReports:
    """Write a row for each report. ``met``: identities this run has met, extended here.

    A report without a version that has new text replaces the one of the same study from an earlier run; within one run
    the first stands.
    """
    reports = without_deleted(catalog, session, without_forgotten(catalog, session, reports))
    rows: list[Report] = []
    reopened: list[int] = []
    patients = [catalog.patient_key(report.patient_id) if report.patient_id else None for report in reports]
    identities = [_identity(report, patient, met) for report, patient in zip(reports, patients, strict=True)]
    named = [_hash(identity, patient or "") for identity, patient in zip(identities, patients, strict=True)]
    query = sa.select(Report).where(Report.identity.in_({*identities, *named}))
    known = {row.identity: row for row in session.scalars(query)}
    for report, patient, identity, with_patient in zip(reports, patients, identities, named, strict=True):
        row = known.get(identity)
        others = row is not None and patient is not None and row.patient_key not in (None, patient)
        if others and Version.of(report).stated and not report.number:
            # No version of that report: one of two senders has the wrong study. A table that says so was corrected.
            identity, row = with_patient, known.get(with_patient)
        if row is None:
            numbering = _hash(report.numbering or "") if report.number else None
            row = known[identity] = Report(identity=identity, status=UNMATCHED, numbering=numbering)
            session.add(row)
            _take(session, row, report, patient)
        elif _is_due(row, report):
            reopened += _take(session, row, report, patient)
        rows.append(row)
    session.flush()
    label_reports(session, [row for row in dict.fromkeys(rows) if row.labelled is None])
    return RecordedReports([row.id for row in rows], reopened)


def withdraw(session: Session, row: Report, by: str) -> None:
    """Leave nothing of a report but that it was withdrawn. Its study's embedding is the caller's business."""
    nothing = ReportText(row.source)
    for name in ("text", "sha256", *SECTIONS):
        setattr(row, name, getattr(nothing, name))
    row.status, row.reason, row.detail = WITHDRAWN, None, f"Withdrawn by {by}."
    row.language = row.labelled = None
    if row.id is not None:
        unlabel(session, [row.id])


def reopen_refused(session: Session, study_id: int) -> list[int]:
    """Let the reports that gave way to another one of a study be matched again; returns their row ids."""
    rows = session.scalars(sa.select(Report).where(Report.study_id == study_id, Report.status == REFUSED)).all()
    for row in rows:
        row.study_id, row.status, row.reason, row.detail = None, UNMATCHED, None, None
    return [row.id for row in rows]


def _is_due(row: Report, report: ReportText) -> bool:
    """Whether a report that is known has something to say."""
    if report.refusal:
        return True
    standing = compare(Version.of(report), Version.of(row))
    if standing is Standing.EQUAL and report.sha256 == row.sha256 and row.reason == "superseded":
        return False  # it gave way once, and nothing new has come
    return standing is not Standing.OLDER


def _take(session: Session, row: Report, report: ReportText, patient: str | None) -> list[int]:
    """Give a row this version; returns the other rows that may be matched now."""
    moved = _name(row, report, patient)
    changed = row.sha256 != report.sha256
    held = row.study_id
    row.source, row.stage, row.issued_at = clean(report.source), report.stage, report.issued_at
    if row.status == MATCHED and held is not None and (moved or changed or report.withdrawn):
        forget_embeddings(session, [held], REPORT)
    if report.withdrawn:
        row.study_id = None  # matching finds it again, and withdraws what older versions it has there
        withdraw(session, row, report.source)
        return []
    if changed or report.language not in (None, row.language):
        row.language, row.labelled = report.language, None
    for name in ("text", "sha256", *SECTIONS):
        setattr(row, name, getattr(report, name))
    if report.refusal:
        row.study_id, row.status = None, REFUSED
        row.reason, row.detail = report.refusal.slug, report.refusal.message
    elif row.status != MATCHED:
        reason = (row.reason, row.detail) if row.status == UNMATCHED else (None, None)
        row.study_id, row.status, (row.reason, row.detail) = None, UNMATCHED, reason
    elif moved and held is not None:
        row.study_id, row.status = None, UNMATCHED
        return reopen_refused(session, held)
    return []


def _name(row: Report, report: ReportText, patient: str | None) -> bool:
    """Take over the study and patient that a version names, where it does; returns whether they are others now."""
    before = (row.study_instance_uid, row.accession_number)
    if report.study_instance_uid or report.accession_number:
        row.study_instance_uid, row.accession_number = report.study_instance_uid, report.accession_number
    if patient or not report.number:
        row.patient_key = patient
    return bool(report.number) and before != (row.study_instance_uid, row.accession_number)


def _identity(report: ReportText, patient: str | None, met: set[str]) -> str:
    if report.refusal or not (report.number or report.study_instance_uid or report.accession_number):
        return _hash("refused", report.source, report.sha256)
    if report.number:
        parts = ["number", report.numbering or "", report.number]
    elif report.study_instance_uid:
        parts = ["uid", report.study_instance_uid]
    else:
        parts = ["accession", report.accession_number or "", *filter(None, [patient])]
    identity = _hash(*parts)
    if identity in met and not Version.of(report).stated:
        identity = _hash(*parts, report.sha256)
    met.add(identity)
    return identity


def _hash(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "backslashreplace")).hexdigest()
