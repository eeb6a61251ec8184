"""``alta db backup | restore | copy | backups``: the whole catalog in one file, back, and to another database."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from model.errors import InputError

from .archive import db
from .console import console, print_file, progress_bar
from .settings import archive_settings, shown_database

__all__ = ["backup", "backups", "copy", "restore"]


@db.command("backup")
def backup(
    file: Annotated[Path, typer.Argument(help="The SQLite file to write; an older backup of that name is replaced.")],
) -> None:
    """Write every row of the database, as it is at one moment, to one file, and check it.

    The archive may go on working meanwhile. The file holds reports and the secret behind the pseudonyms: it is as
    sensitive as the archive, and only its owner can read it.
    """
    from index import open_catalog
    from index.keeping.backup import back_up

    settings = archive_settings()
    with closing(open_catalog(settings.catalog_url)) as catalog, progress_bar("backing up") as progress:
        copied = back_up(catalog, file, progress=progress)
    console.print(f"{file}: {copied.rows} rows, {copied.studies} studies.", markup=False)


@db.command("restore")
def restore(file: Annotated[Path, typer.Argument(help="A file that `alta db backup` wrote.")]) -> None:
    """Fill an empty database with a backup, of this version or an older one. Nothing is written over.

    Stop the service and every job first. Patients who were forgotten stay so.
    """
    from index.keeping.backup import restore_backup

    settings = archive_settings()
    with progress_bar("restoring") as progress:
        copied = restore_backup(settings.catalog_url, file, scratch=settings.data_dir, progress=progress)
    console.print(f"{shown_database(settings)}: {copied.rows} rows, {copied.studies} studies.", markup=False)
    console.print("Next: alta index build")


@db.command("copy")
def copy(
    to: Annotated[str, typer.Option(help="URL of an empty database: postgresql://user:password@host/name")],
) -> None:
    """Copy every row into another, empty database, such as from SQLite to PostgreSQL. The old one stays as it is.

    Stop the service and every job first; that nothing was written meanwhile is checked at the end.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    from index import open_catalog
    from index.keeping.backup import copy_catalog

    try:
        shown = make_url(to).render_as_string(hide_password=True)
    except ArgumentError as error:
        raise InputError("Expected a URL such as postgresql://user:password@host/name.", "bad-url") from error
    settings = archive_settings()
    with closing(open_catalog(settings.catalog_url)) as catalog, progress_bar("copying") as progress:
        copied = copy_catalog(catalog, to, progress=progress)
    console.print(f"{shown}: {copied.rows} rows, {copied.studies} studies.", markup=False)
    console.print("Next: set ALTA_DATABASE_URL to it everywhere. The index generations stay as they are.")


@db.command("backups")
def backups(
    gone: Annotated[Path | None, typer.Option(help="Take this file off the list: it was destroyed.")] = None,
) -> None:
    """The backups that forgetting a patient has to reach."""
    from index import open_catalog
    from index.keeping.backup import drop_backup, list_backups

    with closing(open_catalog(archive_settings().catalog_url)) as catalog:
        if gone is not None and not drop_backup(catalog, gone):
            raise InputError(f"{gone} is not on the list.", "no-such-backup")
        found = list_backups(catalog)
    for info in found:
        there = "" if info.reachable else ", not there"
        print_file(str(info.path), f"made {info.created_at:%Y-%m-%d %H:%M} UTC{there}")
    if not found:
        console.print("No backup is known.")
