"""``alta keys``: API keys of the service."""

import re
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from model.errors import InputError

from .commands import Commands
from .console import console
from .operator import operator
from .settings import archive_settings, shown_database

if TYPE_CHECKING:
    from index.access.keys import KeyRecord

__all__ = ["keys"]

keys = Commands("API keys: who may use the service.")


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is: a person, a system.")],
    scope: Annotated[list[str], typer.Option(help="search, write, admin or metrics; repeat it for several.")],
    expires: Annotated[str | None, typer.Option(help="After so many days or hours: 90d, 12h. Default: never.")] = None,
    per_minute: Annotated[
        int | None, typer.Option(min=0, help="Requests a minute; 0: no limit. Default: ALTA_REQUESTS_PER_MINUTE.")
    ] = None,
    per_day: Annotated[
        int | None, typer.Option(min=0, help="Requests a day; 0: no limit. Default: ALTA_REQUESTS_PER_DAY.")
    ] = None,
) -> None:
    """Make a key and show it, once: only its hash is kept."""
    from index import create_schema, open_catalog
    from index.access.keys import create_key

    settings = archive_settings()
    expires_at = None if expires is None else datetime.now(UTC) + _duration(expires)
    create_schema(settings.catalog_url)
    with closing(open_catalog(settings.catalog_url)) as catalog:
        text, record = create_key(
            catalog,
            name,
            scope,
            operator(),
            expires_at=expires_at,
            requests_per_minute=per_minute,
            requests_per_day=per_day,
        )
    until = f"until {_moment(record.expires_at)}" if record.expires_at else "without end"
    console.print(f"Key {record.id} for {record.name}: {', '.join(scope)}, {until}.", markup=False)
    console.print("Keep it now, it is shown only this once. Sent as `Authorization: Bearer KEY`:")
    console.print(text, markup=False, soft_wrap=True)


@keys.command("list")
def show() -> None:
    """Every key there ever was, without its secret."""
    from index import open_catalog
    from index.access.keys import list_keys
    from index.access.usage import usage_on

    settings = archive_settings()
    now = datetime.now(UTC)
    with closing(open_catalog(settings.catalog_url)) as catalog:
        records = list_keys(catalog)
        used = usage_on(catalog, now.date())
    table = Table()
    table.add_column("id", no_wrap=True)
    for column in ("name", "scopes", "state", "last used", "limits"):
        table.add_column(column, overflow="fold")
    for record in records:
        table.add_row(
            record.id,
            escape(record.name),
            " ".join(sorted(record.scopes)),
            _state(record, now),
            f"{record.last_used_on or 'never'}, {used.get(f'key:{record.id}', 0)} today",
            f"{_limit(record.requests_per_minute)} a minute, {_limit(record.requests_per_day)} a day",
        )
    console.print(f"Keys in {shown_database(settings)}:", markup=False, soft_wrap=True)
    console.print(table)


@keys.command("revoke")
def revoke(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The first part of the key, see `alta keys list`.")],
) -> None:
    """Make a key useless, on every replica within two seconds."""
    from index import open_catalog
    from index.access.keys import revoke_key

    with closing(open_catalog(archive_settings().catalog_url)) as catalog:
        record = revoke_key(catalog, identifier, operator())
    console.print(f"Key {record.id} of {record.name} is revoked.", markup=False)


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"([1-9]\d{0,4})([dh])", text)
    if found is None:
        raise InputError(f"Expected days or hours such as 90d or 12h, found {text!r}.", "bad-duration")
    return timedelta(**{"days" if found[2] == "d" else "hours": int(found[1])})


def _state(record: "KeyRecord", now: datetime) -> str:
    if record.revoked_at is not None:
        return f"revoked {_moment(record.revoked_at)}"
    if record.expires_at is None:
        return "usable"
    return f"{'usable until' if record.usable_at(now) else 'expired'} {_moment(record.expires_at)}"


def _moment(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _limit(number: int | None) -> str:
    return "default" if number is None else "any" if number == 0 else str(number)
