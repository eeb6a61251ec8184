"""Files and reports to catalog rows: every file met becomes a row, accepted or refused with its reason.

A run can be killed at any moment and started again: each batch is one transaction, and a file that has not
changed since its row was written is not read again.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from .batches import batched
from .catalog import Catalog
from .decoder_pool import LOST
from .dicom import InstanceFacts, Refusal
from .examine import Examined, Source, examiner
from .matching import match_reports, record_reports
from .progress import Progress
from .received import ReceivedStore, Waiting
from .record import Recorded, path_key, record
from .reports import ReportText, read_reports
from .slots import UNKNOWN
from .sources import FolderSource, ManifestSource, StudySource
from .tables import ACCEPTED, MATCHED, REFUSED, Instance, Report, Study

__all__ = ["IngestSummary", "ingest", "ingest_folder", "ingest_manifest", "ingest_received"]

logger = logging.getLogger(__name__)

Examine = Callable[[Sequence[Source]], list[Examined]]

BATCH: Final = 64
# Refusals to judge again in every run: some hang on other rows, which may have changed; a decoder may have ended
# for want of the machine's memory or time.
PASSING_REASONS: Final = ("duplicate", "conflicting", "conflicting-patient", "not-a-report", *LOST)


@dataclass
class IngestSummary:
    """What one run met. accepted: new; updated: content or facts changed; refused: by reason (slug), whether the
    refusal is new or known from an earlier run. The reports likewise."""

    accepted: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    studies_new: int = 0
    reports_matched: int = 0
    reports_unmatched: int = 0
    reports_refused: Counter[str] = field(default_factory=Counter)


def ingest(
    catalog: Catalog,
    source: StudySource,
    *,
    reports: Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    retry_refused: bool = False,
) -> IngestSummary:
    """Take in what a source gives, and reports from a file or folder (``read_reports``) beside it.

    ``workers``: processes that decode, 0 for none. ``retry_refused``: read unchanged files again that an earlier run
    refused. Raises what the source raises, and InputError for reports: no-such-file, bad-table.
    """
    given = list(read_reports(reports)) if reports else []  # before the long part, so that a bad table ends it early
    summary = IngestSummary()
    done = 0
    with examiner(workers) as examine:
        for batch in batched(source.files(), BATCH):
            if source.store is None:
                _take_in(catalog, batch, examine, summary, retry_refused)
            else:
                _take_in_received(catalog, source.store, batch, examine, summary, retry_refused)
            done += len(batch)
            total = max(done, source.known())
            logger.info("%s: ingested %d of %d files, refused %d", source.name, done, total, summary.refused.total())
            if progress:
                progress(done, total)
    _ingest_reports(catalog, chain(given, source.reports()), summary)
    return summary


def ingest_folder(
    catalog: Catalog,
    folder: Path,
    reports: Path | None = None,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
    retry_refused: bool = False,
) -> IngestSummary:
    """``ingest`` of a folder (``FolderSource``) and of reports from a CSV or JSON Lines file, or another folder."""
    return ingest(
        catalog,
        FolderSource(folder, besides=reports),
        reports=reports,
        progress=progress,
        workers=workers,
        retry_refused=retry_refused,
    )


def ingest_manifest(
    catalog: Catalog,
    csv: Path,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
    retry_refused: bool = False,
) -> IngestSummary:
    """``ingest`` of what a CSV lists (``ManifestSource``).

    Refused files are judged again in every run, because what the manifest says of them may have changed;
    ``retry_refused`` adds nothing.
    """
    return ingest(catalog, ManifestSource(csv), progress=progress, workers=workers, retry_refused=retry_refused)


def ingest_received(
    catalog: Catalog,
    store: ReceivedStore,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
) -> IngestSummary:
    """Take in what a store has received and the catalog does not know yet, in the order in which it came.

    An instance that was sent again with other content takes the place of the old one, whose embedding becomes stale.
    """
    summary = IngestSummary()
    with examiner(workers) as examine:
        _take_in_received(catalog, store, (), examine, summary, progress=progress)
    with catalog.write() as session:
        match_reports(catalog, session)
    return summary


def _take_in_received(
    catalog: Catalog,
    store: ReceivedStore,
    fetched: Sequence[Source],
    examine: Examine,
    summary: IngestSummary,
    retry_refused: bool = False,
    progress: Progress | None = None,
) -> None:
    """All that waits in the store, and those of the ``fetched`` files that do not wait, because they are known.

    All, not only the fetched ones: what came earlier under the same SOP instance UID has to have its row first.
    """
    with store.one_at_a_time():
        waiting = store.waiting()
        last: dict[Path, Waiting] = {}
        for item in waiting:
            last.pop(item.path, None)  # kept several times: its last place in the order counts
            last[item.path] = item
        sources = [Source(path, replaces=True) for path in last]
        sources += [source for source in fetched if source.path not in last]
        done = 0
        for batch in batched(sources, BATCH):
            _take_in(catalog, batch, examine, summary, retry_refused)
            done += len(batch)
            if progress:
                progress(done, len(sources))
        for item in waiting:
            store.done(item)


def _take_in(
    catalog: Catalog, batch: Sequence[Source], examine: Examine, summary: IngestSummary, retry_refused: bool
) -> None:
    fresh, known = _split_known(catalog, batch, summary, retry_refused)
    examined = {item.source.path: item for item in [*known, *examine(fresh)]}
    _record(catalog, [examined[source.path] for source in batch if source.path in examined], summary)


def _record(catalog: Catalog, examined: Sequence[Examined], summary: IngestSummary) -> None:
    for batch in batched(examined, BATCH):
        with catalog.write() as session:
            done: Recorded = record(catalog, session, batch)
        summary.accepted += done.accepted
        summary.updated += done.updated
        summary.unchanged += done.unchanged
        summary.studies_new += done.studies_new
        summary.refused.update(done.refused)


def _split_known(
    catalog: Catalog, batch: Sequence[Source], summary: IngestSummary, retry_refused: bool
) -> tuple[list[Source], list[Examined]]:
    """Files to examine, and manifest rows whose file is known but whose facts may have changed. The rest is counted."""
    with catalog.session() as session:
        keys = [path_key(source.path) for source in batch]
        query = sa.select(Instance).where(Instance.path_key.in_(keys))
        query = query.options(joinedload(Instance.study).joinedload(Study.patient))
        rows = {row.path_key: row for row in session.scalars(query)}
    fresh: list[Source] = []
    known: list[Examined] = []
    for source in batch:
        row = rows.get(path_key(source.path))
        if row is None or not _same_file(source.path, row):
            fresh.append(source)
        elif row.status == ACCEPTED and source.given is None:
            summary.unchanged += 1
        elif row.status == ACCEPTED and source.given is not None and _same_identity(catalog, source.given, row):
            known.append(_from_row(source, row))
        elif row.status == REFUSED and not retry_refused and not _may_pass_now(source, row):
            summary.refused[row.reason or ""] += 1
        else:
            fresh.append(source)
    return fresh, known


def _may_pass_now(source: Source, row: Instance) -> bool:
    """Whether a refused file that has not changed itself is to be judged again."""
    if source.replaces and row.reason == "superseded":  # and now it is sent again
        return True
    return source.given is not None or source.refusal is not None or row.reason in PASSING_REASONS


def _same_file(path: Path, row: Instance) -> bool:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return False
    return row.size is not None and (status.st_size, status.st_mtime_ns) == (row.size, row.modified_ns)


def _same_identity(catalog: Catalog, given: InstanceFacts, row: Instance) -> bool:
    """Whether a manifest still names the study and the patient that are archived.

    If not, the file is read again: its header may hold the rest of the patient's identity, which no row keeps.
    """
    study = row.study
    if study is None or study.study_instance_uid != given.study_instance_uid:
        return False
    if not given.patient_id:
        return True
    return catalog.patient_key(given.patient_id) in (study.patient.key, study.patient.id_key)


def _from_row(source: Source, row: Instance) -> Examined:
    assert source.given is not None
    own = ("rows", "columns", "view_position", "acquired", "derived", "instance_number")
    missing = {name: getattr(row, name) for name in own if getattr(source.given, name) is None}
    if source.given.view == UNKNOWN and row.view:
        missing["view"] = row.view
    facts = replace(source.given, **missing)
    return Examined(source, row.size, row.modified_ns, row.sha256, facts)


def _without_strays(catalog: Catalog, batch: Sequence[ReportText], summary: IngestSummary) -> list[ReportText]:
    """A batch without those text files whose names say nothing to the archive; these are refused."""
    accessions = [report.accession_number for report in batch if report.by_name and report.accession_number]
    with catalog.session() as session:
        query = sa.select(Study.accession_number).where(Study.accession_number.in_(accessions))
        known = set(session.scalars(query))
    found: list[ReportText] = []
    strays: list[Examined] = []
    for report in batch:
        if not report.by_name or report.study_instance_uid or report.accession_number in known:
            found.append(report)
        else:
            message = "Expected a text named by an accession number or study instance UID of the archive."
            strays.append(Examined(Source(Path(report.source)), refusal=Refusal("not-a-report", message)))
    _record(catalog, strays, summary)
    keys = [path_key(Path(report.source)) for report in found if report.by_name]
    if keys:
        with catalog.write() as session:
            # Refused once because its study had not come yet; a report row speaks for it now.
            session.execute(sa.delete(Instance).where(Instance.path_key.in_(keys), Instance.reason == "not-a-report"))
    return found


def _ingest_reports(catalog: Catalog, reports: Iterable[ReportText], summary: IngestSummary) -> None:
    ids: set[int] = set()
    met: set[str] = set()
    for batch in batched(reports, BATCH):
        usable = _without_strays(catalog, batch, summary)
        with catalog.write() as session:
            ids.update(record_reports(catalog, session, usable, met))
    with catalog.write() as session:
        ids.update(match_reports(catalog, session))
    for status, reason in _report_outcomes(catalog, ids):
        if status == MATCHED:
            summary.reports_matched += 1
        elif status == REFUSED:
            summary.reports_refused[reason or ""] += 1
        else:
            summary.reports_unmatched += 1


def _report_outcomes(catalog: Catalog, ids: set[int]) -> Iterator[sa.Row[str, str | None]]:
    with catalog.session() as session:
        for batch in batched(sorted(ids), 1000):
            query = sa.select(Report.status, Report.reason).where(Report.id.in_(batch))
            yield from session.execute(query)
