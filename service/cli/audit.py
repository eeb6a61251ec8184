"""``alta audit``: who did what, and whether what is written of it is whole."""

import json
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from .console import console
from .settings import archive_settings

__all__ = ["audit"]

audit = typer.Typer(no_args_is_help=True, help="Who asked what, about which study, when and from where.")

SHOWN = ("id", "at", "caller", "action", "study_key", "address", "status", "results", "request_id")


@audit.command("list")
def show(
    study: Annotated[str | None, typer.Option(help="Only about this StudyInstanceUID.")] = None,
    caller: Annotated[str | None, typer.Option(help="Only of this caller, such as key:ID or oidc:SUBJECT.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, such as image_to_text.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only from this moment on (UTC).")] = None,
    last: Annotated[int, typer.Option(min=0, help="Only the newest so many; 0: all.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines, every field, for other tools.")] = False,
) -> None:
    """Entries of the audit, the oldest first. Studies are shown by their pseudonym."""
    from index import open_catalog
    from index.access.audit import list_entries

    table = Table()
    for column in SHOWN:
        table.add_column(column, overflow="fold")
    with closing(open_catalog(archive_settings().catalog_url)) as catalog:
        entries = list_entries(
            catalog,
            study=study,
            caller=caller,
            action=action,
            since=None if since is None else since.replace(tzinfo=UTC),
            last=last or None,
        )
        for entry in entries:
            entry["at"] = entry["at"].isoformat(timespec="microseconds")
            if as_json:
                typer.echo(json.dumps(entry))
            else:
                table.add_row(*(_cell(column, entry[column]) for column in SHOWN))
    if not as_json:
        console.print(table)


@audit.command("verify")
def verify(
    expect: Annotated[
        str | None, typer.Option(help="The digest that an earlier run showed and somebody noted elsewhere.")
    ] = None,
) -> None:
    """Check that no entry was changed, put in or taken out. Exit code 1: one was.

    Whoever owns the database could write the whole chain anew: note the digest somewhere else, and ask for it later.
    """
    from index import open_catalog
    from index.access.audit import verify_audit

    with closing(open_catalog(archive_settings().catalog_url)) as catalog:
        found = verify_audit(catalog, expect)
    if found.broken_at is not None:
        console.print(f"BROKEN at entry {found.broken_at}: {found.reason}.")
        console.print(f"Whole before it: {found.entries} entries, digest {found.head}", soft_wrap=True)
    else:
        console.print(f"Whole: {found.entries} entries.")
        console.print(f"Digest of the last one, to be noted elsewhere: {found.head}", soft_wrap=True)
    if found.anchor_found is False:
        console.print("The digest expected is NOT in it: the audit was written anew, or its end was taken away.")
    elif found.anchor_found:
        console.print("The digest expected is in it.")
    if not found.whole:
        raise typer.Exit(1)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    return f"{value[:12]}…" if column == "study_key" else escape(str(value))
