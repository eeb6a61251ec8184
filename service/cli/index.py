"""``alta index``: generations, from embeddings to what answers searches."""

import typer

from .console import console, progress_bar
from .settings import archive_settings

__all__ = ["index"]

index = typer.Typer(no_args_is_help=True, help="Build and inspect index generations.")


@index.command("build")
def build() -> None:
    """Build a generation beside the live one, check it, and switch to it in one transaction."""
    from index import build_generation, open_catalog
    from model.checkpoint import read_fingerprint

    settings = archive_settings()
    catalog = open_catalog(settings.catalog_url)
    with progress_bar("building") as progress:
        live = build_generation(
            catalog, settings.generations_dir, read_fingerprint(settings.model_path), progress=progress
        )
    recall = "" if live.recall is None else f", recall@10 against exact search {live.recall:.3f}"
    console.print(f"Generation {live.id} is live: {live.image_rows} studies, {live.report_rows} reports{recall}.")
    catalog.close()


@index.command("status")
def index_status() -> None:
    """The live generation and what is not embedded yet."""
    from index import live_generation, open_catalog, pending_counts
    from model.checkpoint import read_fingerprint

    settings = archive_settings()
    catalog = open_catalog(settings.catalog_url)
    fingerprint = read_fingerprint(settings.model_path)
    live = live_generation(catalog)
    if live is None:
        console.print("No generation is live. Next: alta embed, then alta index build")
    else:
        console.print(
            f"Generation {live.id}: {live.image_rows} studies, {live.report_rows} reports, engine {live.engine},"
            f" model {live.model_fingerprint[:12]}, live since {live.activated_at:%Y-%m-%d %H:%M} UTC."
        )
        if live.model_fingerprint != fingerprint:
            console.print(f"[yellow]The configured encoders are others ({fingerprint[:12]}).[/yellow]")
    pending = pending_counts(catalog, fingerprint)
    console.print("Not embedded: " + ", ".join(f"{count} ({kind})" for kind, count in pending.items()) + ".")
    catalog.close()
