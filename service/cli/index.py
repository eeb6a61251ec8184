"""``alta index``: generations, from embeddings to what answers searches."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from .commands import Commands
from .console import console, progress_bar
from .settings import archive_settings
from .without_frontal import tell_without_frontal

if TYPE_CHECKING:
    from index import Catalog, GenerationInfo

__all__ = ["index"]

index = Commands("Build and inspect index generations.")

ENGINES = "flat (exact), ivf (large archives) or milvus. Default: milvus where ALTA_MILVUS_URI is set, else by size."
Engine = Annotated[str | None, typer.Option(help=ENGINES)]
Keep = Annotated[int, typer.Option(min=1, help="Generations that stay, the live one included.")]

BUILD_WHEN = 20_000  # rows beside the generation: a millisecond of every search


@index.command("build")
def build(engine: Engine = None, keep: Keep = 2) -> None:
    """Build a generation beside the live one, check it, and switch to it in one transaction."""
    from index import live_generation, open_catalog
    from model.checkpoint import read_fingerprint

    from ..generations import build_configured

    settings = archive_settings()
    catalog = open_catalog(settings.catalog_url)
    before, fingerprint = live_generation(catalog), read_fingerprint(settings.model_path)
    with progress_bar("building") as progress:
        live = build_configured(settings, catalog, fingerprint, engine=engine, keep=keep, progress=progress)
    unchanged = " It holds all there is." if before is not None and before.id == live.id else ""
    console.print(f"Generation {live.id} is live: {_described(live)}.{unchanged}")
    catalog.close()


@index.command("list")
def index_list() -> None:
    """Every generation: live, kept to go back to, failed, removed."""
    from index import list_generations, open_catalog

    catalog = open_catalog(archive_settings().catalog_url)
    table = Table("id", "state", "studies", "reports", "engine", "recall@10", "model", "live since", "detail")
    for info in list_generations(catalog):
        table.add_row(
            str(info.id),
            info.state,
            str(info.image_rows),
            str(info.report_rows),
            info.engine,
            "" if info.recall is None else f"{info.recall:.3f}",
            info.model_fingerprint[:12],
            "" if info.activated_at is None else f"{info.activated_at:%Y-%m-%d %H:%M}",
            escape(info.detail or ""),
        )
    console.print(table)
    catalog.close()


@index.command("status")
def index_status() -> None:
    """The live generation, what is searched beside it, and what is not embedded yet."""
    from index import live_generation, open_catalog, pending_counts, reindex_under_way
    from model.checkpoint import read_fingerprint

    settings = archive_settings()
    catalog = open_catalog(settings.catalog_url)
    fingerprint = read_fingerprint(settings.model_path)
    live = live_generation(catalog)
    if live is None:
        console.print("No generation is live. Next: alta embed, then alta index build")
    else:
        console.print(
            f"Generation {live.id}: {_described(live)}, model {live.model_fingerprint[:12]},"
            f" live since {live.activated_at:%Y-%m-%d %H:%M} UTC."
        )
        for kind, chosen in live.settings.items():
            console.print(f"  {kind}: " + ", ".join(f"{name} {value}" for name, value in chosen.items()), markup=False)
        _print_since(catalog, live)
        if live.model_fingerprint != fingerprint:
            console.print(f"[yellow]The configured encoders are others ({fingerprint[:12]}).[/yellow]")
    moving = reindex_under_way(catalog)
    if moving is not None:
        counts = _counts(pending_counts(catalog, moving.model_fingerprint))
        console.print(f"Reindex to {moving.model_path} is under way; not embedded with it: {counts}.", markup=False)
    console.print(f"Not embedded: {_counts(pending_counts(catalog, fingerprint))}.")
    tell_without_frontal(catalog)
    catalog.close()


@index.command("rollback")
def rollback(
    to: Annotated[int | None, typer.Option(help="Id of a retired generation. Default: the newest older one.")] = None,
) -> None:
    """Make a kept generation live again, in one transaction. What came since is searched beside it."""
    from index import live_generation, open_catalog, pending_counts
    from index import rollback as go_back
    from model.checkpoint import read_fingerprint

    from ..engines import engines_of

    settings = archive_settings()
    catalog = open_catalog(settings.catalog_url)
    before = live_generation(catalog)
    live = go_back(catalog, settings.generations_dir, to, engines=engines_of(settings))
    console.print(f"Generation {live.id} is live: {_described(live)}.")
    _print_since(catalog, live)
    missing = pending_counts(catalog, live.model_fingerprint)
    if any(missing.values()):
        console.print(f"Not embedded with its model, so not found: {_counts(missing)}.")
    if live.model_fingerprint != read_fingerprint(settings.model_path):
        where = live.model_path or "unknown: services that do not have them stay on the generation before"
        console.print(f"[yellow]Its encoders are not the configured ones.[/yellow] They lie in {escape(where)}.")
    if before is not None and before.id != live.id:
        console.print(f"Undo: alta index rollback --to {before.id}")
    catalog.close()


@index.command("verify")
def verify() -> None:
    """Compare the files of every kept generation with the hashes they were written with."""
    from index import list_generations, open_catalog, verify_generation
    from model.errors import ArchiveError

    from ..engines import engines_of

    settings = archive_settings()
    catalog = open_catalog(settings.catalog_url)
    failed = False
    for info in list_generations(catalog, "live", "retired"):
        try:
            verify_generation(catalog, settings.generations_dir, info, engines=engines_of(settings))
            console.print(f"Generation {info.id} ({info.state}) is whole.")
        except ArchiveError as error:
            failed = True
            console.print(f"[red]Generation {info.id} ({info.state}):[/red] {escape(error.message)}")
    catalog.close()
    if failed:
        raise typer.Exit(1)


@index.command("prune")
def prune(
    keep: Keep = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove old generations, and the embeddings of models that no kept one uses and that are not configured."""
    from index import open_catalog
    from index import prune as remove
    from model.checkpoint import read_fingerprint

    from ..engines import engines_of

    settings = archive_settings()
    catalog = open_catalog(settings.catalog_url)
    configured = read_fingerprint(settings.model_path)
    done = remove(
        catalog, settings.generations_dir, models=[configured], keep=keep, dry_run=dry_run, engines=engines_of(settings)
    )
    console.print("Would remove:" if dry_run else "Removed:")
    console.print(f"  generations: {', '.join(map(str, done.generations)) or 'none'}")
    for model, count in done.embeddings.items():
        console.print(f"  embeddings of model {model[:12]}: {count}")
    console.print(f"  failures of such models: {done.failures}; removals that are taken in: {done.removals}")
    catalog.close()


@index.command("reindex")
def reindex(
    model: Annotated[Path, typer.Option(help="Folder of the encoders to move to.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Studies or reports that are encoded at once.")] = 32,
    engine: Engine = None,
    keep: Keep = 2,
) -> None:
    """Embed everything with other encoders beside the serving ones, then build, check and switch.

    Kill it at any time: the same command goes on. Searches are answered by the old ones until the switch.
    """
    from index import (
        Reindex,
        begin_reindex,
        build_generation,
        embed_pending,
        end_reindex,
        live_generation,
        open_catalog,
    )
    from model.alta_encoder import load_encoder
    from model.checkpoint import read_fingerprint

    from ..engines import engines_of

    settings = archive_settings()
    catalog = open_catalog(settings.catalog_url)
    path, fingerprint = str(model.absolute()), read_fingerprint(model)
    before = live_generation(catalog)
    begin_reindex(catalog, Reindex(fingerprint, path))
    encoder = load_encoder(model, settings.device, settings.dtype)
    console.print("Searches go on with the present encoders. To go on after a stop: the same command.")
    with progress_bar("embedding") as progress:
        summary = embed_pending(catalog, encoder, batch_size=batch_size, progress=progress)
    console.print(f"Embedded {summary.images} studies and {summary.reports} reports.")
    if summary.failed:
        reasons = ", ".join(f"{slug} {count}" for slug, count in summary.failed.most_common())
        console.print(f"[yellow]Failed, so not found after the switch: {reasons}.[/yellow]")
    with progress_bar("building") as progress:
        live = build_generation(
            catalog,
            settings.generations_dir,
            fingerprint,
            engine=engine or settings.engine,
            engines=engines_of(settings),
            model_path=path,
            keep=keep,
            progress=progress,
        )
    end_reindex(catalog)
    console.print(
        f"Generation {live.id} is live: {_described(live)}. Services load its encoders and switch by themselves."
    )
    console.print(f"Next: set ALTA_MODEL_PATH={path}, so that new studies are embedded with them.", markup=False)
    if before is not None and before.id != live.id:
        console.print(f"Undo: alta index rollback --to {before.id}. Old embeddings go with: alta index prune --keep 1")
    catalog.close()


def _described(info: "GenerationInfo") -> str:
    recall = "" if info.recall is None else f", recall@10 against exact search {info.recall:.3f}"
    return f"{info.image_rows} studies, {info.report_rows} reports, engine {info.engine}{recall}"


def _print_since(catalog: "Catalog", info: "GenerationInfo") -> None:
    from index import count_since

    with catalog.session() as session:
        since = count_since(session.connection(), info)
    added, hidden = ({kind: counts[place] for kind, counts in since.items()} for place in (0, 1))
    console.print(f"Searched beside it: {_counts(added)}; left out of it: {_counts(hidden)}.")
    if max(added.values()) > BUILD_WHEN:
        console.print("[yellow]That slows every search. Next: alta index build[/yellow]")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} ({kind})" for kind, count in counts.items())
