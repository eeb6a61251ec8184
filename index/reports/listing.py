"""Which reports the archive holds, and why some of them have no study."""

from dataclasses import dataclass

import sqlalchemy as sa

from ..catalog import Catalog
from ..tables import MATCHED, REFUSED, UNMATCHED, WITHDRAWN, Report

__all__ = ["STATUSES", "ListedReport", "listed_reports", "report_counts"]

STATUSES = (MATCHED, UNMATCHED, REFUSED, WITHDRAWN)
_WAITING = "no-study-yet"


@dataclass(frozen=True)
class ListedReport:
    """reason: a stable slug, ``no-study-yet`` for one that only waits; detail: a sentence."""

    source: str
    status: str
    reason: str
    detail: str


def report_counts(catalog: Catalog) -> dict[tuple[str, str], int]:
    """Reports of the whole archive by status and reason (empty where there is none), in the order of ``STATUSES``."""
    query = sa.select(Report.status, Report.reason, sa.func.count()).group_by(Report.status, Report.reason)
    with catalog.session() as session:
        found = {(status, _reason(status, reason)): count for status, reason, count in session.execute(query)}
    return dict(sorted(found.items(), key=lambda item: (STATUSES.index(item[0][0]), -item[1], item[0][1])))


def listed_reports(
    catalog: Catalog, status: str | None = None, reason: str | None = None, limit: int = 100
) -> list[ListedReport]:
    """Reports without a study by status, reason and source: those that wait, were refused or withdrawn.

    status, reason: only those.
    """
    query = sa.select(Report).where(Report.status != MATCHED)
    if status is not None:
        query = query.where(Report.status == status)
    if reason == _WAITING:
        query = query.where(Report.status == UNMATCHED, Report.reason.is_(None))
    elif reason is not None:
        query = query.where(Report.reason == reason)
    with catalog.session() as session:
        rows = session.scalars(
            query.order_by(Report.status, Report.reason, Report.source, Report.id).limit(limit)
        ).all()
    return [ListedReport(row.source, row.status, _reason(row.status, row.reason), _detail(row)) for row in rows]


def _reason(status: str, reason: str | None) -> str:
    return reason or (_WAITING if status == UNMATCHED else "")


def _detail(row: Report) -> str:
    if row.detail or row.status != UNMATCHED:
        return row.detail or ""
    named = [
        f"{name} {value}"
        for name, value in (("UID", row.study_instance_uid), ("accession number", row.accession_number))
        if value
    ]
    return f"No study of {' and '.join(named)} is archived."
