"""``alta worker``: the process that does what was asked for with `POST /v1/jobs`."""

from contextlib import closing
from enum import StrEnum
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .console import console
from .embed import until_told
from .settings import archive_settings

if TYPE_CHECKING:
    from ..jobs.workbench import Workbench
    from ..returns import Sender

__all__ = ["JobKind", "worker"]


ENDING_S: Final = 30.0


class JobKind(StrEnum):
    """Named here too: `--help` imports no encoder. Tested against the kinds that there are."""

    EMBED = "embed"
    INDEX_BUILD = "index-build"
    REINDEX = "reindex"
    INGEST = "ingest"
    PRUNE = "prune"
    VERIFY = "verify"


def worker(
    kind: Annotated[
        list[JobKind] | None,
        typer.Option(metavar="KIND", help=f"Only jobs of this kind: {', '.join(JobKind)}; repeat it for several."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when no job waits any more.")] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Embed what arrives while there is no job, as `alta embed --watch` does, and send results back by"
            " ALTA_RETURN_ROUTES.",
        ),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode images. Default: one a core, at most 16.")
    ] = None,
) -> None:
    """Do jobs, one after the other, and tell their webhooks, until SIGTERM or Ctrl-C.

    Then the batch under way is finished and the job given back. Kill it at any time: another worker, or this one
    started again, goes on with the job two minutes later. Several may run, on several hosts.
    """
    from index import open_catalog
    from model.checkpoint import read_fingerprint
    from model.errors import InputError

    from ..jobs.webhooks import Courier
    from ..jobs.workbench import Workbench
    from ..jobs.worker import Worker
    from ..logs import configure_logging

    if watch and once:
        raise InputError("--watch goes on for ever, --once does not.", "bad-option")
    settings = archive_settings()
    configure_logging(settings.log_level, settings.log_format)
    read_fingerprint(settings.model_path)  # a wrong folder is said in one line, before anything starts
    with closing(open_catalog(settings.catalog_url)) as catalog, until_told() as told:
        courier = Courier(settings, catalog)
        ended = Event()
        threads = [Thread(target=courier.run, args=(ended,), name="webhooks", daemon=True)]
        threads[0].start()
        try:
            if not once:
                console.print("Waiting for jobs. Ctrl-C or SIGTERM ends it.")
            bench = Workbench(settings, catalog, decoders=workers)
            if watch:
                returning = Thread(target=_sender(bench).run, args=(ended,), name="returns", daemon=True)
                returning.start()
                threads.append(returning)
            Worker(bench, kinds=kind or list(JobKind), embed_arrivals=watch).run(told, once=once)
        finally:
            ended.set()
            for thread in threads:
                thread.join(ENDING_S)  # who is sending loses nothing by being cut off
        if once:
            courier.deliver_due()


def _sender(bench: "Workbench") -> "Sender":
    from ..returns import Sender
    from ..returns.material import Desk

    desk = Desk(bench.settings, bench.catalog, encoder=lambda: bench.encoder, fingerprint=lambda: bench.fingerprint)
    return Sender(bench.settings, bench.catalog, desk)
