"""What a source would bring, and what of it would be refused; nothing is kept and nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from ..batches import batched
from ..catalog import Catalog
from ..progress import Progress
from ..reports.readers import read_reports
from ..reports.texts import ReportText
from ..sources import StudySource
from ..tables import ACCEPTED, AS_REPORT, Instance, Study
from .examine import Examined, examiner
from .ingest import BATCH
from .known import split_known
from .received import ReceivedStore
from .record import path_key, record
from .refusals import RefusedFile
from .summary import IngestSummary

__all__ = ["DraftStore", "Preview", "preview"]


class DraftStore(ReceivedStore):
    """A store for a preview: knows what the real one holds, keeps everything else in a folder to be thrown away."""

    def __init__(self, folder: Path, real: ReceivedStore) -> None:
        super().__init__(folder)
        self.real = real

    def find(self, sha256: str) -> Path | None:
        return self.real.find(sha256)

    def empty(self) -> None:
        """Throw away what was kept so far."""
        for item in self.waiting():
            item.path.unlink(missing_ok=True)
            self.done(item)


@dataclass
class Preview:
    """``summary.reports_unmatched``: the usable reports; which studies they belong to is not looked up.

    refused: the files newly refused, each with its reason. reports: those that files of the source are.
    """

    summary: IngestSummary = field(default_factory=IngestSummary)
    refused: list[RefusedFile] = field(default_factory=list)
    reports: list[ReportText] = field(default_factory=list, repr=False)


def preview(
    catalog: Catalog,
    source: StudySource,
    *,
    reports: Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Preview:
    """Examine what a source gives as ``ingest`` would. A source that fetches has to have a ``DraftStore``.

    Each batch is recorded in a transaction that is taken back. Raises what ``ingest`` raises.
    """
    assert source.store is None or isinstance(source.store, DraftStore)
    given = list(read_reports(reports)) if reports else []
    found = Preview()
    seen: dict[str, str | None] = {}
    studies: set[str] = set()
    done = 0
    with examiner(workers) as examine:
        for batch in batched(source.files(), BATCH):
            fresh, known = split_known(catalog, batch, found.summary, retry_refused=False)
            examined = [*known, *examine(fresh)]
            found.reports += [item.report for item in examined if item.report]
            _record_and_take_back(catalog, examined, found, seen, studies)
            if isinstance(source.store, DraftStore):
                source.store.empty()
            done += len(batch)
            if progress:
                progress(done, max(done, source.known()))
    found.summary.studies_new = len(studies)
    for report in [*given, *source.reports(), *found.reports]:
        if report.refusal:
            found.summary.reports_refused[report.refusal.slug] += 1
        else:
            found.summary.reports_unmatched += 1
    return found


def _record_and_take_back(
    catalog: Catalog, examined: Sequence[Examined], found: Preview, seen: dict[str, str | None], studies: set[str]
) -> None:
    uids = {item.facts.study_instance_uid for item in examined if item.facts}
    with catalog.session() as session:
        there = set(session.scalars(sa.select(Study.study_instance_uid).where(Study.study_instance_uid.in_(uids))))
    keys = [path_key(item.source.path) for item in examined]
    with catalog.write() as session:
        done = record(catalog, session, examined)
        query = sa.select(Instance, Study.study_instance_uid).outerjoin(Study).where(Instance.path_key.in_(keys))
        rows = [(row, uid) for row, uid in session.execute(query)]
        session.expunge_all()
        session.rollback()
    found.summary.updated += done.updated
    found.summary.unchanged += done.unchanged
    found.summary.accepted += done.accepted
    found.summary.refused.update(done.refused)
    for row, uid in rows:
        if row.status == AS_REPORT:
            continue
        if row.status != ACCEPTED:
            if row.reason != "superseded":  # it was accepted until another of the batch took its place
                found.refused.append(RefusedFile(row.path, row.reason or "", row.detail or ""))
            continue
        if row.sop_instance_uid in seen and done.accepted:  # an earlier batch, taken back since, had it
            reason = "duplicate" if seen[row.sop_instance_uid] == row.sha256 else "conflicting"
            found.summary.accepted -= 1
            found.summary.refused[reason] += 1
            found.refused.append(RefusedFile(row.path, reason, "The same instance was met before in this run."))
            continue
        seen[row.sop_instance_uid or ""] = row.sha256
        if uid is not None and uid not in there:
            studies.add(uid)
