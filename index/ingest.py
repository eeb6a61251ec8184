"""Files and reports to catalog rows: every file met becomes a row, accepted or refused with its reason.

A run can be killed at any moment and started again: each batch is one transaction, and a file that has not
changed since its row was written is not read again.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
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
from .reports import ReportText, is_uid, read_reports, read_text
from .slots import UNKNOWN
from .sources import files_in, is_text, read_manifest
from .tables import ACCEPTED, MATCHED, REFUSED, Instance, Report, Study

__all__ = ["IngestSummary", "ingest_folder", "ingest_manifest", "ingest_received"]

logger = logging.getLogger(__name__)

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


def ingest_folder(
    catalog: Catalog,
    folder: Path,
    reports: Path | None = None,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
    retry_refused: bool = False,
) -> IngestSummary:
    """Take in every DICOM chest radiograph under a folder, and reports from a CSV or JSON Lines file, or a folder.

    ``*.txt`` files under the folder that are named by an accession number or study instance UID are reports too.
    Files are referenced in place. ``workers``: processes that decode, 0 for none. ``retry_refused``: read unchanged
    files again that an earlier run refused. Raises InputError: no-such-folder, no-such-file, bad-table.
    """
    files = files_in(folder, besides=reports)
    texts = [source for source in files if is_text(source.path)]
    known_texts = {source.path for source in texts}
    images = [source for source in files if source.path not in known_texts]
    given = list(read_reports(reports)) if reports else []  # before the long part, so that a bad table ends it early
    summary = IngestSummary()
    _ingest_files(catalog, images, summary, progress, workers, retry_refused)
    named, others = _split_texts(catalog, texts)
    _record(catalog, others, summary)
    _ingest_reports(catalog, [*given, *named], summary)
    return summary


def ingest_manifest(
    catalog: Catalog,
    csv: Path,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
    retry_refused: bool = False,
) -> IngestSummary:
    """Take in the JPEG, PNG or DICOM files that a CSV lists.

    Columns: image_path (relative to the CSV), study_id or study_instance_uid; and where known patient_id, view,
    study_date or study_order or offset_days, sex, age, modality (CR), accession_number, and a report as text or report,
    or as findings and impression. Others are ignored. A study_id that is no UID becomes the accession number.
    Refused files are judged again in every run, because what the manifest says of them may have changed;
    ``retry_refused`` adds nothing. Raises InputError: no-such-file, bad-table.
    """
    manifest = read_manifest(csv)
    summary = IngestSummary()
    _ingest_files(catalog, manifest.sources, summary, progress, workers, retry_refused)
    _ingest_reports(catalog, manifest.reports, summary)
    return summary


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
    with store.one_at_a_time():
        waiting = store.waiting()
        last: dict[Path, Waiting] = {}
        for item in waiting:
            last.pop(item.path, None)  # sent several times: its last place in the order counts
            last[item.path] = item
        sources = [Source(path, replaces=True) for path in last]
        _ingest_files(catalog, sources, summary, progress, workers, retry_refused=False)
        for item in waiting:
            store.done(item)
    with catalog.write() as session:
        match_reports(catalog, session)
    return summary


def _ingest_files(
    catalog: Catalog,
    sources: Sequence[Source],
    summary: IngestSummary,
    progress: Progress | None,
    workers: int | None,
    retry_refused: bool,
) -> None:
    done = 0
    with examiner(workers) as examine:
        for batch in batched(sources, BATCH):
            fresh, known = _split_known(catalog, batch, summary, retry_refused)
            examined = {item.source.path: item for item in [*known, *examine(fresh)]}
            _record(catalog, [examined[source.path] for source in batch if source.path in examined], summary)
            done += len(batch)
            logger.info("ingested %d of %d files, refused %d", done, len(sources), summary.refused.total())
            if progress:
                progress(done, len(sources))


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


def _split_texts(catalog: Catalog, texts: Sequence[Source]) -> tuple[list[ReportText], list[Examined]]:
    """Text files that are reports, by their name, and the others, to be refused."""
    reports: list[ReportText] = []
    others: list[Examined] = []
    for batch in batched(texts, BATCH):
        read = [(source, read_text(source.path)) for source in batch]
        accessions = [report.accession_number for _, report in read if report.accession_number]
        with catalog.session() as session:
            query = sa.select(Study.accession_number).where(Study.accession_number.in_(accessions))
            known = set(session.scalars(query))
        keys = []
        for source, report in read:
            if is_uid(source.path.stem) or report.accession_number in known:
                reports.append(report)
                keys.append(path_key(source.path))
            else:
                message = "Expected a text named by an accession number or study instance UID of the archive."
                others.append(Examined(source, refusal=Refusal("not-a-report", message)))
        with catalog.write() as session:
            # Refused once because its study had not come yet; a report row speaks for it now.
            session.execute(sa.delete(Instance).where(Instance.path_key.in_(keys), Instance.reason == "not-a-report"))
    return reports, others


def _ingest_reports(catalog: Catalog, reports: Iterable[ReportText], summary: IngestSummary) -> None:
    ids: set[int] = set()
    met: set[str] = set()
    for batch in batched(reports, BATCH):
        with catalog.write() as session:
            ids.update(record_reports(catalog, session, batch, met))
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
