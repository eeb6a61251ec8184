"""``alta ingest``, ``archive`` and ``db``: files to rows, and what the rows say."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from model.errors import InputError

from .commands import Commands
from .console import console, print_file, progress_bar
from .dry_run import preview_sources
from .settings import archive_settings, shown_database
from .summary import show_summary

__all__ = ["archive", "db", "ingest"]

archive = Commands("What was refused or cannot be found; delete studies, forget patients, limit priors.")
db = Commands("The database: its schema, backups and copies.")


def ingest(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of DICOM files (any mix), zip files of them, CSV manifests of pictures."),
    ] = None,
    reports: Annotated[
        Path | None,
        typer.Option(help="Reports: a file or folder of CSV, JSON Lines, texts, HL7 v2, FHIR, structured reports."),
    ] = None,
    retry_refused: Annotated[
        bool, typer.Option("--retry-refused", help="Examine refused files again, after a decoder was mended.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be taken in and what refused; write nothing.")
    ] = False,
) -> None:
    """Take studies and reports into the archive. Running it again takes in only what is new or changed.

    Files stay where they are and are read there again; of zip files the archive keeps its own copies.
    """
    from index import ReceivedStore, create_schema, open_catalog, source_of
    from index.intake.ingest import ingest as take_in
    from index.sources import NoStudies

    if not sources and reports is None:
        raise InputError("Say what to take in: folders, zip files, manifests, or --reports.", "no-source")
    sources = sources or []
    for path in sources:
        if not path.exists():
            raise InputError(f"There is no file or folder {path}.", "no-such-file")
    if dry_run:
        preview_sources(sources, reports)
        return
    settings = archive_settings()
    create_schema(settings.catalog_url)
    catalog = open_catalog(settings.catalog_url)
    store = ReceivedStore(settings.received_dir, settings.min_free_bytes)
    for number, path in enumerate(sources or filter(None, [reports])):
        source = source_of(path.absolute(), store, reports) if sources else NoStudies(path)
        given = None if number else reports  # once is enough: those that match none wait
        with progress_bar("ingesting") as progress:
            summary = take_in(catalog, source, reports=given, progress=progress, retry_refused=retry_refused)
        show_summary(summary, f"{path} -> {shown_database(settings)}")
    catalog.close()


@archive.command("refused")
def refused(
    reason: Annotated[str | None, typer.Option(help="Only this reason.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Files shown.")] = 50,
) -> None:
    """Files that were not taken in, a line each, and below each its reason."""
    from index import open_catalog, refusal_counts, refused_files

    settings = archive_settings()
    with closing(open_catalog(settings.catalog_url)) as catalog:
        counts = refusal_counts(catalog)
        rows = refused_files(catalog, reason=reason, limit=limit)
    if reason is not None and reason not in counts:
        raise InputError(f"No file was refused as {reason}. Reasons: {', '.join(counts) or 'none'}.", "unknown-reason")
    console.print(f"Refused files in {shown_database(settings)}:", markup=False, soft_wrap=True)
    for row in rows:
        print_file(row.path, f"{row.reason}: {row.detail}")
    of = counts.total() if reason is None else counts[reason]
    if len(rows) < of:
        console.print(f"{len(rows)} of {of} are shown; the others: --limit {of}, or one reason: --reason")
    console.print(f"In all: {', '.join(f'{slug} {count}' for slug, count in counts.most_common()) or 'none'}.")


@archive.command("label")
def label() -> None:
    """Read the findings of reports that came before there were labels, or were read by older rules."""
    from index import label_pending, open_catalog

    settings = archive_settings()
    with closing(open_catalog(settings.catalog_url)) as catalog, progress_bar("labelling") as progress:
        done = label_pending(catalog, progress)
    console.print(f"Labelled {done} reports.")


@db.command("upgrade")
def upgrade(
    backed_up: Annotated[
        bool, typer.Option("--backed-up", help="A backup was made by the release before: bring its schema up.")
    ] = False,
) -> None:
    """Create the schema, or bring one of an older release up to date. The only way back is a backup of before."""
    from index import migrate
    from index.looking import holds_older_rows

    settings = archive_settings()
    older = holds_older_rows(settings.catalog_url)
    if older and not backed_up:
        raise InputError(
            f"{shown_database(settings)} has the schema {older} of an older release, and is not empty. Brought up, it"
            " is of no use to that release any more: first back it up with that release (alta db backup FILE), then say"
            " alta db upgrade --backed-up",
            "not-backed-up",
        )
    migrate(settings.catalog_url)
    console.print(f"The schema of {shown_database(settings)} is up to date.", markup=False)
