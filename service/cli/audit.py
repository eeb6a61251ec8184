"""``alta audit``: who did what, and whether what is written of it is whole."""

import json
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from .commands import Commands
from .console import console
from .settings import archive_settings

__all__ = ["audit"]

audit = Commands("Who asked what, about which study, when and from where.")


@audit.command("list")
def show(
    study: Annotated[str | None, typer.Option(help="Only about this StudyInstanceUID.")] = None,
    caller: Annotated[str | None, typer.Option(help="Only of this caller, such as key:ID or oidc:SUBJECT.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, such as image_to_text.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(metavar="TIME", help="Only from then on: 2024-01-31, or 2024-01-31T08:00:00; UTC."),
    ] = None,
    last: Annotated[int, typer.Option(min=0, help="Only the newest so many; 0: all.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines, every field, for other tools.")] = False,
) -> None:
    """Entries of the audit, a line each, the oldest first. Studies are shown by their pseudonym."""
    from index import open_catalog
    from index.access.audit import list_entries

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
            typer.echo(json.dumps(entry) if as_json else _line(entry))


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


def _line(entry: dict[str, Any]) -> str:
    said = [f"{entry['id']} {entry['at'][:19]}Z {entry['caller']} {entry['action']}"]
    said += [f"{name}={entry[name]}" for name in ("status", "results", "address") if entry[name] is not None]
    if entry["study_key"] is not None:
        said.append(f"study={entry['study_key'][:12]}…")
    if entry["request_id"] is not None:
        said.append(f"request={entry['request_id']}")
    return " ".join(said)
