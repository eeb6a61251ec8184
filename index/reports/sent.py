"""Reports that somebody sends and waits for an answer to: taken in one transaction, each with what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from ..batches import batched
from ..catalog import Catalog
from ..keeping.deleted import DELETED
from ..keeping.forgotten import FORGOTTEN
from ..tables import MATCHED, REFUSED, WITHDRAWN, Report, Study
from .matching import match_reports
from .rows import record_reports
from .texts import ReportText

__all__ = ["OUTDATED", "ReportOutcome", "take_reports"]

OUTDATED: Final = "outdated"
# A row's own detail names files of ours, which are not the sender's business.
_SAID: Final = {
    "duplicate-report": "The study has the same report under another number.",
    "conflicting-report": "The study has another report.",
}


@dataclass(frozen=True)
class ReportOutcome:
    """What became of a report.

    status: ``matched`` to the study ``study_instance_uid``; ``unmatched``, waiting for it; ``withdrawn``; ``outdated``:
    the archive holds a newer version, and nothing changed; ``refused``. reason: a stable slug, and detail a sentence,
    where there is something to say.
    """

    source: str
    status: str
    reason: str | None = None
    detail: str | None = None
    study_instance_uid: str | None = None

    @property
    def refused(self) -> bool:
        return self.status == REFUSED


def take_reports(catalog: Catalog, reports: Sequence[ReportText]) -> list[ReportOutcome]:
    """Record and match reports; once this returns they are committed. One outcome a report, in their order."""
    with catalog.write() as session:
        recorded = record_reports(catalog, session, reports, set())
        ids = recorded.rows
        match_reports(catalog, session, {*ids, *recorded.reopened})
        found: dict[int, tuple[Report, str | None]] = {}
        for batch in batched(sorted(set(ids)), 1000):
            query = sa.select(Report, Study.study_instance_uid).outerjoin(Study).where(Report.id.in_(batch))
            found |= {row.id: (row, uid) for row, uid in session.execute(query)}
        return [_outcome(report, *found[row_id]) for report, row_id in zip(reports, ids, strict=True)]


def _outcome(report: ReportText, row: Report, study_instance_uid: str | None) -> ReportOutcome:
    if row.status == REFUSED and row.reason in (FORGOTTEN, DELETED):  # nothing of it was kept that could be compared
        return ReportOutcome(report.source, REFUSED, row.reason, row.detail)
    holds = row.sha256 == report.sha256 and (row.status == WITHDRAWN) == report.withdrawn
    if not holds or row.reason == "superseded":
        return ReportOutcome(report.source, OUTDATED, "outdated", "The archive holds a newer version of the report.")
    study = study_instance_uid if row.status == MATCHED else None
    detail = None if row.status == WITHDRAWN else _SAID.get(row.reason or "", row.detail)
    return ReportOutcome(report.source, row.status, row.reason, detail, study)
