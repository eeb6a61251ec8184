"""``alta returns``: what went back for studies that were sent here, what waits and why, and a look at a document."""

import json
import os
from contextlib import closing
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from model.errors import InputError

from .commands import Commands
from .console import console
from .settings import archive_settings

if TYPE_CHECKING:
    from ..return_settings import ReturnRoute
    from ..settings import Settings

__all__ = ["returns"]

returns = Commands("Results that go back where studies came from (ALTA_RETURN_ROUTES).")


class State(StrEnum):
    WAITING = "waiting"
    SENT = "sent"
    GIVEN_UP = "given-up"
    SUPERSEDED = "superseded"


StudyUid = Annotated[str, typer.Argument(help="StudyInstanceUID.")]
RouteName = Annotated[str | None, typer.Option("--route", help="Only those of this route.")]


@returns.command("list")
def list_command(
    state: Annotated[State | None, typer.Option(metavar="STATE", help=f"Only those {', '.join(State)}.")] = None,
    route: RouteName = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows shown, the newest first.")] = 20,
) -> None:
    """What was sent, what waits, and what was given up, the newest first."""
    from index import open_catalog
    from index.returns.listing import count_returns, list_returns

    with closing(open_catalog(archive_settings().catalog_url)) as catalog:
        found = list_returns(catalog, state=state, route=route, limit=limit)
        counts = count_returns(catalog)
    table = Table()
    table.add_column("study", overflow="fold", min_width=40)
    for name in ("route", "state", "attempts", "since", "next attempt", "last error"):
        table.add_column(name, overflow="fold")
    for one in found:
        due = f"{one.next_attempt_at:%Y-%m-%d %H:%M:%S}" if one.state == State.WAITING else ""
        since = f"{one.created_at:%Y-%m-%d %H:%M}"
        table.add_row(
            one.study_instance_uid, one.route, one.state, str(one.attempts), since, due, escape(one.error or "")
        )
    console.print(table)
    console.print(", ".join(f"{count} {name}" for name, count in counts.items()) + " in all. Times are UTC.")


@returns.command("retry")
def retry(
    study: Annotated[str | None, typer.Option(help="Only those of this StudyInstanceUID.")] = None,
    route: RouteName = None,
    every: Annotated[bool, typer.Option("--all", help="All that wait or were given up.")] = False,
) -> None:
    """Try again now what waits or was given up. What was sent stays sent."""
    from index import open_catalog
    from index.returns.listing import retry_returns

    if not (study or route or every):
        raise InputError("Say what to try again: --study UID, --route NAME, or --all.", "bad-option")
    with closing(open_catalog(archive_settings().catalog_url)) as catalog:
        count = retry_returns(catalog, study_instance_uid=study, route=route)
    console.print(f"{count} are due now; `alta worker --watch` sends them.")


@returns.command("show")
def show(
    study: StudyUid,
    route: Annotated[str, typer.Option("--route", help="As what it would go back: a route's name.")],
    output: Annotated[Path | None, typer.Option(help="Write the document here, whole.")] = None,
) -> None:
    """Make the document that would go back for a study, and show or write it. Nothing is sent, nothing is stored.

    Its UIDs are of its own: sent to a PACS by hand, it is never taken for the one that goes back.
    """
    from index import open_catalog
    from model.alta_encoder import load_encoder
    from model.checkpoint import read_fingerprint

    from ..returns.material import Desk

    settings = archive_settings()
    chosen = _route(settings, route)
    with closing(open_catalog(settings.catalog_url)) as catalog:
        if chosen.kind == "webhook":
            from ..returns.message import webhook_message

            data = webhook_message(catalog, chosen, study, "", datetime.now(UTC))[0].encode()
            shown = data.decode()
        else:
            desk = Desk(
                settings,
                catalog,
                encoder=lambda: load_encoder(settings.model_path, settings.device, settings.dtype),
                fingerprint=lambda: read_fingerprint(settings.model_path),
            )
            with closing(desk):
                material = desk.material(study, chosen.name, chosen.similar, datetime.now(UTC), trial=True)
            if chosen.kind == "fhir":
                from ..returns.diagnostic_report import diagnostic_report

                systems = {"patient_system": chosen.patient_system, "accession_system": chosen.accession_system}
                shown = json.dumps(diagnostic_report(material, **systems), indent=1)
                data = shown.encode()
            else:
                from ..returns.structured_report import structured_report, written

                document = structured_report(material)
                shown, data = str(document), written(document)
    if output is None:
        console.print(shown, markup=False, highlight=False, soft_wrap=True)
        return
    with open(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    console.print(
        f"Wrote {len(data)} bytes to {output}. It names the patient, as the study does.", markup=False, soft_wrap=True
    )


def _route(settings: "Settings", name: str) -> "ReturnRoute":
    for route in settings.return_routes:
        if route.name == name:
            return route
    known = ", ".join(route.name for route in settings.return_routes) or "none"
    raise InputError(
        f"Expected the name of a route of ALTA_RETURN_ROUTES, found {name[:40]!r}; known: {known}.", "bad-option"
    )
