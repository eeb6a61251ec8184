"""Each part of the reply: one question to the archive, the jobs or the disk, shaped for the wire."""

import shutil
from datetime import UTC, datetime
from typing import Final

from index import GenerationInfo, count_since, list_generations, reindex_under_way
from index.figures.archive import Embedded, archive_size, embedded_counts, refused_counts
from index.figures.arrivals import count_arrivals
from index.figures.sizes import database_bytes, folder_bytes, received_bytes
from index.figures.without_frontal import count_without_frontal
from index.generations.check import MINIMUM_RECALL, SELF_SEARCHES
from index.generations.table import LIVE, REMOVED, RETIRED
from index.jobs.overview import overview
from index.jobs.records import JobRecord
from index.keeping.backup import list_backups
from index.returns.listing import count_returns
from index.tables import IMAGE, REPORT

from ..resources import Resources
from ..schemas import (
    ArchiveSizeNow,
    BackupsNow,
    DiskNow,
    EmbeddingNow,
    GenerationReply,
    GenerationsNow,
    JobNow,
    JobsNow,
    KindNow,
    Reason,
    ReasonCount,
    RefusedNow,
    SearchedNow,
    SizesNow,
    ThroughputNow,
    VerificationNow,
    WorkerNow,
)

__all__ = [
    "archive",
    "backups",
    "disk",
    "embedding",
    "generations",
    "jobs",
    "refused",
    "returned",
    "searched",
    "sizes",
    "throughput",
]

CHECKED: Final = (LIVE, RETIRED)


def searched(resources: Resources) -> SearchedNow:
    """Raises ArchiveError where what is live cannot be searched, or only a generation before it."""
    moment = resources.moment()
    if moment.problem is not None:
        raise moment.problem
    snapshot = moment.snapshot
    if snapshot is None:
        return SearchedNow(generation=None, images=0, reports=0)
    return SearchedNow(generation=snapshot.info.id, images=snapshot.rows(IMAGE), reports=snapshot.rows(REPORT))


def generations(resources: Resources) -> GenerationsNow:
    kept = [info for info in list_generations(resources.catalog) if info.state != REMOVED]
    live = next((info for info in kept if info.state == LIVE), None)
    beside, left_out = {IMAGE: 0, REPORT: 0}, {IMAGE: 0, REPORT: 0}
    if live is not None:
        with resources.catalog.session() as session:
            since = count_since(session.connection(), live)
        beside, left_out = ({kind: counts[place] for kind, counts in since.items()} for place in (0, 1))
    return GenerationsNow(
        live=None if live is None else _generation(live),
        others=[_generation(info) for info in kept if info is not live],
        image_beside=beside[IMAGE],
        report_beside=beside[REPORT],
        image_left_out=left_out[IMAGE],
        report_left_out=left_out[REPORT],
        last_verification=_verification(overview(resources.catalog).last_verify),
    )


def jobs(resources: Resources) -> JobsNow:
    found = overview(resources.catalog)
    return JobsNow(
        **found.states,
        waiting_since=found.waiting_since,
        under_way=[JobNow.of(job) for job in found.running],
        ended=[JobNow.of(job) for job in found.ended],
        workers=[
            # Without what makes the name of a process unique among all that ever were.
            WorkerNow(name=":".join(each.name.split(":")[:2]), last_seen_at=each.last_seen_at, job_id=each.job_id)
            for each in found.workers
        ],
    )


def backups(resources: Resources) -> BackupsNow:
    found = list_backups(resources.catalog)
    there = [backup.created_at for backup in found if backup.reachable]
    return BackupsNow(count=len(found), missing=len(found) - len(there), last_at=max(there, default=None))


def disk(resources: Resources) -> DiskNow:
    settings = resources.settings
    folder = next(each for each in (settings.data_dir, *settings.data_dir.absolute().parents) if each.exists())
    usage = shutil.disk_usage(folder)
    return DiskNow(total=usage.total, free=usage.free, kept_free=settings.min_free_bytes)


def archive(resources: Resources) -> ArchiveSizeNow:
    return ArchiveSizeNow.model_validate(vars(archive_size(resources.catalog)))


def returned(resources: Resources) -> dict[str, int]:
    return count_returns(resources.catalog)


def refused(resources: Resources) -> RefusedNow:
    found = refused_counts(resources.catalog)
    return RefusedNow(files=ReasonCount.of_all(found.files), reports=ReasonCount.of_all(found.reports))


def embedding(resources: Resources) -> EmbeddingNow:
    fingerprint = resources.encoders.configured.encoder.fingerprint
    moving = reindex_under_way(resources.catalog)
    counts = embedded_counts(resources.catalog, fingerprint)
    return EmbeddingNow(
        model_fingerprint=fingerprint,
        image=_kind(counts[IMAGE]),
        report=_kind(counts[REPORT]),
        without_frontal=count_without_frontal(resources.catalog),
        reindex_to=None if moving is None else moving.model_fingerprint,
    )


def throughput(resources: Resources) -> ThroughputNow:
    until = datetime.now(UTC)
    fingerprint = resources.encoders.configured.encoder.fingerprint
    taken_in, embedded = count_arrivals(resources.catalog, fingerprint, until)
    return ThroughputNow(
        until=until,
        taken_in=list(taken_in.hours),
        taken_in_week=taken_in.week,
        embedded=list(embedded.hours),
        embedded_week=embedded.week,
    )


def sizes(resources: Resources) -> SizesNow:
    settings = resources.settings
    received = received_bytes(settings.received_dir)
    return SizesNow(
        database=database_bytes(resources.catalog),
        generations=folder_bytes(settings.generations_dir),
        received=received.bytes,
        received_estimated=received.estimated,
    )


def _generation(info: GenerationInfo) -> GenerationReply:
    checked = info.state in CHECKED
    return GenerationReply(
        id=info.id,
        state=info.state,  # type: ignore[arg-type]
        model_fingerprint=info.model_fingerprint,
        engine=info.engine,
        image_rows=info.image_rows,
        report_rows=info.report_rows,
        # How many ``check_part`` looks for: it lets no generation pass where one does not find itself.
        self_found=sum(min(info.rows(kind), SELF_SEARCHES) for kind in (IMAGE, REPORT)) if checked else None,
        recall=info.recall,
        least_recall=MINIMUM_RECALL,
        built_at=info.created_at,
        live_since=info.activated_at,
        detail=info.detail,
    )


def _verification(job: JobRecord | None) -> VerificationNow | None:
    if job is None or job.finished_at is None:
        return None
    error = None if job.error is None else Reason.of(job.error)
    return VerificationNow(state=job.state, finished_at=job.finished_at, error=error)  # type: ignore[arg-type]


def _kind(found: Embedded) -> KindNow:
    return KindNow(
        due=found.due, embedded=found.embedded, missing=found.missing, failed=ReasonCount.of_all(found.failed)
    )
