"""The findings that reports assert, deny or suspect, as rows beside the report they were read in.

Written with the text they come from. What an older version of the rules read, or none, is read again by
``label_pending``.
"""

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from model.findings import LABELLER_VERSION, report_findings

from ..batches import batched
from ..catalog import Catalog
from ..progress import Progress
from ..tables import REFUSED, WITHDRAWN, Report, ReportFinding
from .language import ENGLISH, detect_language

__all__ = ["label_pending", "label_reports", "unlabel"]

BATCH: Final = 500  # reports in one transaction
LONGEST: Final = 100_000  # characters of a report that are read


def label_reports(session: Session, rows: Sequence[Report]) -> None:
    """Read the findings of reports that have ids, in place of what was read before, and the language of those whose
    source does not say it. A report gets no findings that is not known to be English, or that no study will have."""
    unlabel(session, [row.id for row in rows])
    found = []
    for row in rows:
        if row.status == WITHDRAWN or (row.status == REFUSED and row.study_id is None):
            continue
        texts = [text for text in (row.findings, row.impression) if text] or [row.text]
        if row.language is None:
            row.language = detect_language(" ".join(texts))
        if row.language == ENGLISH:
            for said in report_findings(text[:LONGEST] for text in texts):
                found.append({"report_id": row.id, **vars(said)})
        row.labelled = LABELLER_VERSION
    if found:
        session.execute(sa.insert(ReportFinding), found)


def unlabel(session: Session, report_ids: Sequence[int]) -> None:
    """Forget what was read in these reports."""
    for batch in batched(report_ids, BATCH):
        session.execute(sa.delete(ReportFinding).where(ReportFinding.report_id.in_(batch)))


def label_pending(catalog: Catalog, progress: Progress | None = None) -> int:
    """Label every report whose labels are not current; returns how many. Safe to kill and to run again."""
    with catalog.session() as session:
        total = session.scalar(sa.select(sa.func.count()).select_from(Report).where(*_pending())) or 0
    done = last = 0
    while total:
        with catalog.write() as session:
            query = sa.select(Report).where(Report.id > last, *_pending()).order_by(Report.id).limit(BATCH)
            rows = session.scalars(query).all()
            if not rows:
                break
            label_reports(session, rows)
            done, last = done + len(rows), rows[-1].id
        if progress is not None:
            progress(done, max(done, total))
    return done


def _pending() -> tuple[sa.ColumnElement[bool], ...]:
    """Of reports that a study has or may get."""
    current = sa.and_(Report.labelled.is_not(None), Report.labelled >= LABELLER_VERSION)
    useful = sa.and_(Report.status != WITHDRAWN, sa.or_(Report.status != REFUSED, Report.study_id.is_not(None)))
    return sa.not_(current), useful
