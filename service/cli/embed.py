"""``alta embed``: rows to embeddings, once or as studies arrive, here or on a Ray cluster."""

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from model.errors import InputError

from .console import console, progress_bar, staged_progress
from .settings import archive_settings
from .without_frontal import tell_without_frontal

if TYPE_CHECKING:
    from index import Catalog, EmbedSummary  # not when the program starts: --help is instant

__all__ = ["embed", "until_told"]


def embed(
    batch_size: Annotated[int, typer.Option(min=1, help="Studies or reports that are encoded at once.")] = 32,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode images. Default: one a core, at most 16.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try studies again that failed before.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on as studies arrive, until SIGTERM or Ctrl-C. Beside `alta receive`.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(help="Address of a Ray cluster that does the work, such as `auto` or `ray-head:6379`."),
    ] = None,
) -> None:
    """Embed every study and report that has no current embedding. Kill it at any time; it goes on where it was."""
    from index import EmbedSummary, embed_pending, label_pending, live_generation, open_catalog

    if watch and (ray or retry_failed):
        raise InputError("--watch works on this host alone and without --retry-failed.", "bad-option")
    if ray is not None:
        _on_cluster(ray, batch_size, workers, retry_failed)
        return
    from model.alta_encoder import load_encoder

    settings = archive_settings()
    catalog = open_catalog(settings.catalog_url)
    encoder = load_encoder(settings.model_path, settings.device, settings.dtype)
    live = live_generation(catalog)
    if live is not None and live.model_fingerprint != encoder.fingerprint:
        theirs, ours = escape(live.model_path or "an unknown place"), escape(str(settings.model_path))
        console.print(
            f"[yellow]The live generation is of other encoders, those in {theirs};"
            f" searches do not see what {ours} embeds.[/yellow]"
        )
    with staged_progress() as report:
        label_pending(catalog, lambda done, total: report("labelling", done, total))
    if watch:
        from index.embedding.watch import embed_as_it_comes

        with until_told() as stop:
            console.print("Embedding what arrives. Ctrl-C or SIGTERM ends it.")
            summary = embed_as_it_comes(catalog, encoder, stop, batch_size=batch_size, workers=workers, tell=_tell)
    else:
        summary = EmbedSummary()
        with staged_progress() as report:
            embed_pending(
                catalog,
                encoder,
                batch_size=batch_size,
                workers=workers,
                retry_failed=retry_failed,
                progress=lambda done, total: report("embedding", done, total, f"bound by {summary.bound_by}"),
                summary=summary,
            )
    _show(summary, catalog)
    catalog.close()


def _on_cluster(address: str, batch_size: int, workers: int | None, retry_failed: bool) -> None:
    from index import label_pending, open_catalog
    from index.embedding.ray_job import embed_on_ray
    from model.alta_encoder import load_encoder
    from model.checkpoint import read_fingerprint

    settings = archive_settings()
    with closing(open_catalog(settings.catalog_url)) as catalog:
        label_pending(catalog)
    model = settings.model_path.absolute()
    with progress_bar("embedding") as progress:
        summary = embed_on_ray(
            address,
            settings.catalog_url,
            partial(load_encoder, model, settings.device, settings.dtype),
            read_fingerprint(model),
            batch_size=batch_size,
            workers=workers,
            retry_failed=retry_failed,
            progress=progress,
        )
    with closing(open_catalog(settings.catalog_url)) as catalog:
        _show(summary, catalog)


@contextmanager
def until_told() -> Iterator[Event]:
    """An event that SIGTERM and Ctrl-C set; a second one ends the process as ever."""
    stop = Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def told(*_: object) -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.set()

    for number in before:
        signal.signal(number, told)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(summary: "EmbedSummary") -> None:
    console.print(f"{summary.images} studies, {summary.reports} reports, {summary.failed.total()} failed.")


def _pace(summary: "EmbedSummary") -> str:
    rate = summary.done / max(summary.seconds, 1e-9)
    return f"{rate:.1f} a second, {summary.encoding_s / max(summary.seconds, 1e-9):.0%} of the time in the encoder"


def _show(summary: "EmbedSummary", catalog: "Catalog") -> None:
    console.print(f"Embedded {summary.images} studies and {summary.reports} reports.")
    if summary.done:
        console.print(f"{_pace(summary)}.")
    if summary.failed:
        reasons = ", ".join(f"{slug} {count}" for slug, count in summary.failed.most_common())
        console.print(f"[yellow]Failed: {reasons}.[/yellow] Mend the cause, then: alta embed --retry-failed")
    tell_without_frontal(catalog)
    console.print("Next: alta index build")
