"""Reports to rows, and rows to their studies: by study instance UID, else by an accession number that is unique."""

import hashlib
from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .reports import SECTIONS, ReportText
from .tables import MATCHED, REFUSED, UNMATCHED, Report, Study

__all__ = ["match_reports", "record_reports"]


def record_reports(session: Session, reports: Sequence[ReportText], met: set[str]) -> list[int]:
    """Write a row for each report; returns the row ids. ``met``: identities this run has met, extended here.

    A report with new text replaces the one of the same study from an earlier run; within one run the first stands.
    """
    rows: list[Report] = []
    identities = [_identity(report, met) for report in reports]
    known = {row.identity: row for row in session.scalars(sa.select(Report).where(Report.identity.in_(identities)))}
    for report, identity in zip(reports, identities, strict=True):
        row = known.get(identity)
        if row is None:
            row = known[identity] = Report(identity=identity, status=UNMATCHED)
            session.add(row)
        if row.sha256 != report.sha256 or row.status == REFUSED:
            _fill(row, report)
        rows.append(row)
    session.flush()
    return [row.id for row in rows]


def match_reports(session: Session) -> list[int]:
    """Give every unmatched report its study, if it has come; returns the row ids that changed."""
    by_uid = (
        sa.select(Report, Study.id)
        .join(Study, Study.study_instance_uid == Report.study_instance_uid)
        .where(Report.status == UNMATCHED)
    )
    by_accession = (
        sa.select(Report, Study.id)
        .join(Study, Study.accession_number == Report.accession_number)
        .where(Report.status == UNMATCHED, Report.study_instance_uid.is_(None))
    )
    candidates: dict[Report, list[int]] = {}
    for query in (by_uid, by_accession):
        for report, study_id in session.execute(query.order_by(Report.id)):
            candidates.setdefault(report, []).append(study_id)
    holders = _holders(session, [found[0] for found in candidates.values() if len(found) == 1])
    for report, found in candidates.items():
        if len(found) > 1:
            report.reason = "ambiguous-accession"
            report.detail = f"{len(found)} studies have accession number {report.accession_number}."
        elif found[0] in holders:
            _refuse_second(report, holders[found[0]])
        else:
            report.study_id, report.status, report.reason, report.detail = found[0], MATCHED, None, None
            holders[found[0]] = report
    session.flush()
    return [report.id for report in candidates]


def _identity(report: ReportText, met: set[str]) -> str:
    study = report.study_instance_uid or report.accession_number
    if report.refusal or not study:
        return _hash("refused", report.source, report.sha256)
    kind = "uid" if report.study_instance_uid else "accession"
    identity = _hash(kind, study)
    if identity in met:
        identity = _hash(kind, study, report.sha256)
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
