"""What each kind of job does: one function, which calls what the command line calls."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from index import (
    EmbedSummary,
    GenerationInfo,
    ReceivedStore,
    Reindex,
    begin_reindex,
    embed_pending,
    end_reindex,
    label_pending,
    list_generations,
    prune,
    source_of,
    verify_generation,
)
from index.intake.ingest import ingest
from index.jobs.holding import Holding
from model.errors import ArchiveError

from ..engines import engines_of
from ..generations import build_configured
from .requests import EmbedJob, IndexBuildJob, IngestJob, PruneJob, ReindexJob, VerifyJob
from .roots import WithinRoots, path_within
from .workbench import Workbench

__all__ = ["KINDS", "Kind", "Stopped"]

Result = dict[str, Any]


class Stopped(Exception):
    """The work ended early because ``Holding.stop`` was set. What was committed stays; the rest can be done later."""

    def __init__(self, result: Result | None = None) -> None:
        super().__init__("The job was stopped.")
        self.result = result


@dataclass(frozen=True)
class Kind:
    """exclusive: of the kinds that share it one job runs at a time. run: returns counts, about no patient; raises
    Stopped, AltaError."""

    request: type[Any]
    exclusive: str
    run: Callable[[Workbench, Any, Holding], Result]


def _embed(bench: Workbench, asked: EmbedJob, holding: Holding) -> Result:
    return _embedded(bench, asked.batch_size, asked.retry_failed, holding)


def _embedded(bench: Workbench, batch_size: int, retry_failed: bool, holding: Holding) -> Result:
    label_pending(bench.catalog, _stopping(holding))
    summary = EmbedSummary()
    embed_pending(
        bench.catalog,
        bench.encoder,
        batch_size=batch_size,
        workers=bench.decoders,
        retry_failed=retry_failed,
        progress=holding.progress,
        stop=holding.stop,
        summary=summary,
    )
    result: Result = {"images": summary.images, "reports": summary.reports, "failed": dict(summary.failed)}
    if holding.stop.is_set():
        raise Stopped(result)
    return result


def _build(bench: Workbench, asked: IndexBuildJob, holding: Holding) -> Result:
    progress = _stopping(holding)
    return _generation(
        build_configured(
            bench.settings,
            bench.catalog,
            bench.fingerprint,
            engine=asked.engine,
            keep=asked.keep,
            progress=progress,
        )
    )


def _reindex(bench: Workbench, asked: ReindexJob, holding: Holding) -> Result:
    begin_reindex(bench.catalog, Reindex(bench.fingerprint, str(bench.settings.model_path.absolute())))
    # Stopped, it is another worker's to go on with; its embeddings are kept from pruning until it is called off.
    embedded = _embedded(bench, asked.batch_size, False, holding)
    live = build_configured(
        bench.settings,
        bench.catalog,
        bench.fingerprint,
        engine=asked.engine,
        keep=asked.keep,
        progress=_stopping(holding),
        moving=True,
    )
    end_reindex(bench.catalog)
    return {"embedded": embedded, **_generation(live)}


def _ingest(bench: Workbench, asked: IngestJob, holding: Holding) -> Result:
    roots = bench.settings.ingest_roots
    # Where it leads to here and now: the service judged its name alone.
    path = path_within(roots, asked.path)
    reports = None if asked.reports is None else path_within(roots, asked.reports)
    store = ReceivedStore(bench.settings.received_dir, bench.settings.min_free_bytes)
    source = WithinRoots(source_of(path, store, reports), roots)
    done = ingest(
        bench.catalog,
        source,
        reports=reports,
        progress=_stopping(holding),
        workers=bench.decoders,
        retry_refused=asked.retry_refused,
        may_read=source.may_read,
    )
    return {
        "accepted": done.accepted,
        "updated": done.updated,
        "unchanged": done.unchanged,
        "refused": dict(done.refused),
        "outside_roots": source.outside,
        "studies_new": done.studies_new,
        "reports_matched": done.reports_matched,
        "reports_unmatched": done.reports_unmatched,
        "reports_withdrawn": done.reports_withdrawn,
        "reports_refused": dict(done.reports_refused),
    }


def _prune(bench: Workbench, asked: PruneJob, holding: Holding) -> Result:
    done = prune(
        bench.catalog,
        bench.settings.generations_dir,
        models=[bench.fingerprint],
        keep=asked.keep,
        engines=engines_of(bench.settings),
    )
    return {
        "generations": done.generations,
        "embeddings": sum(done.embeddings.values()),
        "failures": done.failures,
        "removals": done.removals,
    }


def _verify(bench: Workbench, asked: VerifyJob, holding: Holding) -> Result:
    kept = list_generations(bench.catalog, "live", "retired")
    damaged: dict[int, ArchiveError] = {}
    for number, info in enumerate(kept, start=1):
        try:
            verify_generation(bench.catalog, bench.settings.generations_dir, info, engines=engines_of(bench.settings))
        except ArchiveError as error:
            damaged[info.id] = error
        _stopping(holding)(number, len(kept))
    if damaged:
        first = next(iter(damaged.values()))
        raise ArchiveError(f"Generations {sorted(damaged)} are damaged. {first.message}", first.slug)
    return {"generations": [info.id for info in kept]}


def _generation(info: GenerationInfo) -> Result:
    return {
        "generation": info.id,
        "images": info.image_rows,
        "reports": info.report_rows,
        "engine": info.engine,
        "recall": info.recall,
    }


def _stopping(holding: Holding) -> Callable[[int, int], None]:
    """Progress of work that has no other ear for ``stop``: told after every batch, it ends the work there."""

    def progress(done: int, total: int) -> None:
        holding.progress(done, total)
        if holding.stop.is_set():
            raise Stopped

    return progress


KINDS: Final[Mapping[str, Kind]] = {
    "embed": Kind(EmbedJob, "embed", _embed),
    "index-build": Kind(IndexBuildJob, "index", _build),
    "reindex": Kind(ReindexJob, "index", _reindex),
    "ingest": Kind(IngestJob, "ingest", _ingest),
    "prune": Kind(PruneJob, "index", _prune),
    "verify": Kind(VerifyJob, "verify", _verify),
}
