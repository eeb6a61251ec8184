"""Files and reports to catalog rows: every file met becomes a row, accepted or refused with its reason.

A run can be killed at any moment and started again: each batch is one transaction, and a file that has not
changed since its row was written is not read again.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from ..batches import batched
from ..catalog import Catalog
from ..dicom import Refusal
from ..keeping.deleted import DELETED
from ..keeping.forgotten import FORGOTTEN, discard_refused
from ..progress import Progress
from ..reports.matching import match_all_reports, match_reports
from ..reports.readers import read_reports
from ..reports.rows import record_reports
from ..reports.texts import ReportText
from ..returns.arrivals import note_arrivals
from ..returns.own import OWN_RESULT
from ..sources import FolderSource, ManifestSource, StudySource
from ..tables import MATCHED, REFUSED, WITHDRAWN, Instance, Patient, Report, Study
from .arrival import Arrival
from .examine import Examined, Source, examiner
from .known import split_known
from .received import ReceivedStore, Waiting
from .record import Recorded, corrections, path_key, record
from .summary import IngestSummary

__all__ = ["IngestSummary", "ingest", "ingest_folder", "ingest_manifest", "ingest_received"]

logger = logging.getLogger(__name__)

Examine = Callable[[Sequence[Source]], list[Examined]]

BATCH: Final = 64


def ingest(
    catalog: Catalog,
    source: StudySource,
    *,
    reports: Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    retry_refused: bool = False,
    may_read: Callable[[Path], bool] | None = None,
) -> IngestSummary:
    """Take in what a source gives, and reports from a file or folder (``read_reports``, ``may_read``) beside it.

    ``workers``: processes that decode, 0 for none. ``retry_refused``: read unchanged files again that an earlier run
    refused. Raises what the source raises, and InputError for reports: no-such-file, bad-table.
    """
    given = (
        list(read_reports(reports, may_read)) if reports else []
    )  # before the long part, so that a bad table ends it early
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
    with catalog.write() as session:  # and whatever else waits, such as since a patient was forgotten
        summary.report_rows.update(match_all_reports(catalog, session))
    _count_reports(catalog, summary)
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
    examine: Examine | None = None,
) -> IngestSummary:
    """Take in what a store has received and the catalog does not know yet, in the order in which it came.

    An instance that was sent again with other content takes the place of the old one, whose embedding becomes stale.
    ``examine``: an ``examiner`` that is open already, for callers that do this often; else one of ``workers``.
    """
    summary = IngestSummary()
    with nullcontext(examine) if examine else examiner(workers) as examine:
        _take_in_received(catalog, store, (), examine, summary, progress=progress)
    _count_reports(catalog, summary)
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
        arrived: dict[str, set[Arrival]] = {}
        for item in waiting:
            if item.arrival is not None:
                arrived.setdefault(path_key(item.path), set()).add(item.arrival)
            last.pop(item.path, None)  # kept several times: its last place in the order counts
            last[item.path] = item
        sources = [Source(path, replaces=True) for path in last]
        sources += [source for source in fetched if source.path not in last]
        done = 0
        for batch in batched(sources, BATCH):
            named = _take_in(catalog, batch, examine, summary, retry_refused)
            if corrected := [path for path in _corrected(catalog, named) if store.owns(path)]:
                _take_in(catalog, [Source(path, replaces=True) for path in corrected], examine, summary, False)
            own = {path_key(s.path): s.path for s in batch if store.owns(s.path)}
            discard_refused(catalog, own, (FORGOTTEN, DELETED, OWN_RESULT))
            note_arrivals(catalog, {key: frozenset(arrived[key]) for key in map(_key, batch) if key in arrived})
            done += len(batch)
            if progress:
                progress(done, len(sources))
        for item in waiting:
            store.done(item)


def _key(source: Source) -> str:
    return path_key(source.path)


def _take_in(
    catalog: Catalog, batch: Sequence[Source], examine: Examine, summary: IngestSummary, retry_refused: bool
) -> set[int]:
    """Returns the ids of the studies that are new or named otherwise now."""
    fresh, known = split_known(catalog, batch, summary, retry_refused)
    examined = {item.source.path: item for item in [*known, *examine(fresh)]}
    return _record(catalog, [examined[source.path] for source in batch if source.path in examined], summary)


def _corrected(catalog: Catalog, studies: set[int]) -> list[Path]:
    """Instances that were refused while their studies had another patient, which these have no longer."""
    if not studies:
        return []
    query = corrections(sa.select(Instance.path), studies)
    query = query.where(Instance.patient_key == Patient.key, Study.id.in_(studies), Study.patient_id == Patient.id)
    with catalog.session() as session:
        return [Path(path) for path in session.scalars(query)]


def _record(catalog: Catalog, examined: Sequence[Examined], summary: IngestSummary) -> set[int]:
    named: set[int] = set()
    for batch in batched(examined, BATCH):
        with catalog.write() as session:
            done: Recorded = record(catalog, session, batch)
            # In one transaction: a file that its row calls a report is not read again.
            reports = record_reports(catalog, session, [item.report for item in batch if item.report], set())
            matched = match_reports(catalog, session, {*reports.rows, *reports.reopened}, done.studies, done.accessions)
            summary.report_rows.update(reports.rows, matched)
        summary.accepted += done.accepted
        summary.updated += done.updated
        summary.unchanged += done.unchanged
        summary.studies_new += done.studies_new
        summary.refused.update(done.refused)
        named.update(done.studies)
    return named


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
    met: set[str] = set()
    for batch in batched(reports, BATCH):
        usable = _without_strays(catalog, batch, summary)
        with catalog.write() as session:
            recorded = record_reports(catalog, session, usable, met)
            matched = match_reports(catalog, session, {*recorded.rows, *recorded.reopened})
            summary.report_rows.update(recorded.rows, matched)


def _count_reports(catalog: Catalog, summary: IngestSummary) -> None:
    """What became of those that were met, once all of them are matched."""
    for status, reason in _report_outcomes(catalog, summary.report_rows):
        if status == MATCHED:
            summary.reports_matched += 1
        elif status == REFUSED:
            summary.reports_refused[reason or ""] += 1
        elif status == WITHDRAWN:
            summary.reports_withdrawn += 1
        else:
            summary.reports_unmatched += 1


def _report_outcomes(catalog: Catalog, ids: set[int]) -> Iterator[sa.Row[str, str | None]]:
    with catalog.session() as session:
        for batch in batched(sorted(ids), 1000):
            query = sa.select(Report.status, Report.reason).where(Report.id.in_(batch))
            yield from session.execute(query)
