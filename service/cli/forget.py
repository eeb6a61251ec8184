"""``alta archive forget | remember | priors``: whom the archive forgets, and how old a prior study may be."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from model.errors import InputError

from .archive import archive
from .console import console, progress_bar, staged_progress
from .delete import say_what_was_sent_back
from .operator import operator
from .settings import archive_settings, shown_database

if TYPE_CHECKING:
    from index.keeping.forget import Forgotten
    from index.keeping.forgotten import NamedPatient

__all__ = ["forget", "priors", "remember"]

PatientId = Annotated[str, typer.Option("--patient", help="The Patient ID, as in the images (0010,0020).")]
Issuer = Annotated[
    str | None,
    typer.Option(help='Issuer of the Patient ID (0010,0021), where the images name one; "" for those that do not.'),
]


@archive.command("forget")
def forget(
    patient: PatientId,
    issuer: Issuer = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed; remove nothing.")] = False,
) -> None:
    """Remove a patient from the database, the index, the archive's own files and every backup, and prove it.

    Running services leave the patient out within two seconds. Killed, it is completed by running it again. Images in
    folders that belong to others are listed, not touched. Exit code 1 if anything is left.
    """
    from index import open_catalog
    from index.access.audit import Event, record_events
    from index.intake.received import ReceivedStore
    from index.keeping.forget import forget_patient, preview_forget

    from ..engines import engines_of

    named = _named(patient, issuer)
    settings = archive_settings()
    store = ReceivedStore(settings.received_dir, settings.min_free_bytes)
    with closing(open_catalog(settings.catalog_url)) as catalog:
        if dry_run or not yes:
            preview = preview_forget(catalog, named, store)
            _show(preview, f"To be removed from {shown_database(settings)}")
            _say_if_unknown(preview)
            if dry_run:
                return
            if not typer.confirm("Remove this patient for good?"):
                raise typer.Exit(1)
        with staged_progress() as report:
            outcome = forget_patient(
                catalog,
                named,
                store=store,
                generations=settings.generations_dir,
                engines=engines_of(settings),
                report=report,
            )
        record_events(catalog, [Event(operator(), "patient-forgotten")])
        _show(outcome, f"Removed from {shown_database(settings)}")
    if not outcome.complete:
        console.print("[red]Something is left, or cannot be looked at.[/red] Mend what the notes say and run it again.")
        raise typer.Exit(1)
    _say_if_unknown(outcome)
    console.print("Nothing is left. What comes again under this ID is refused: alta archive refused")


@archive.command("remember")
def remember(patient: PatientId, issuer: Issuer = None) -> None:
    """Let a patient in again who was forgotten; named as then. The next ingest takes in what was refused."""
    from index import open_catalog
    from index.access.audit import Event, record_events
    from index.keeping.forgotten import remember_patient

    with closing(open_catalog(archive_settings().catalog_url)) as catalog:
        known = remember_patient(catalog, _named(patient, issuer))
        if known:
            record_events(catalog, [Event(operator(), "patient-remembered")])
    if not known:
        raise InputError("No patient was forgotten under this ID and issuer.", "unknown-patient")
    console.print("The patient may come in again. Next: alta ingest")


@archive.command("priors")
def priors(
    within: Annotated[int | None, typer.Option(min=1, help="The most days between a study and its prior.")] = None,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="A prior of any age.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many studies would be embedded again; change nothing.")
    ] = False,
) -> None:
    """Show or change how old a prior study may be, for the whole archive.

    A change makes stale every study whose prior becomes another one. Killed, it is finished by running it again.
    """
    from index import open_catalog
    from index.prior_change import change_prior_window, count_prior_changes, read_prior_window

    if within is not None and unlimited:
        raise InputError("Expected either --within or --unlimited, found both.", "bad-prior-window")
    with closing(open_catalog(archive_settings().catalog_url)) as catalog:
        if within is None and not unlimited:
            window = read_prior_window(catalog)
            console.print(f"A prior is {_days(window.within_days)}.")
            if window.change is not None:
                console.print(f"[yellow]A change to {_days(window.change.within_days)} was not finished.[/yellow]")
        elif dry_run:
            with progress_bar("comparing") as progress:
                count = count_prior_changes(catalog, within, progress=progress)
            console.print(f"With priors {_days(within)}, {count} studies would be embedded again.")
        else:
            with progress_bar("changing") as progress:
                count = change_prior_window(catalog, within, progress=progress)
            console.print(f"A prior is {_days(within)}. {count} studies have another one now. Next: alta embed")


def _days(within: int | None) -> str:
    return "of any age" if within is None else f"at most {within} days old"


def _named(patient: str, issuer: str | None) -> "NamedPatient":
    from index.keeping.forgotten import NamedPatient

    if not patient.strip():
        raise InputError("Expected a Patient ID, found none.", "unknown-patient")
    return NamedPatient(patient, issuer)


def _say_if_unknown(outcome: "Forgotten") -> None:
    """A mistyped ID must not pass for a patient who was removed."""
    if not outcome.in_place and not any(place.found for place in outcome.places):
        console.print(
            "[yellow]Nothing of this patient was found.[/yellow] Unless they were forgotten before, the ID or issuer is"
            " wrong: alta archive remember takes it back."
        )


def _show(outcome: "Forgotten", title: str) -> None:
    table = Table(title=escape(title))
    for name in ("place", "found", "left", "note"):
        table.add_column(name, overflow="fold")
    for place in outcome.places:
        left = "?" if place.left is None else str(place.left)
        table.add_row(escape(place.name), "" if place.found is None else str(place.found), left, escape(place.note))
    console.print(table)
    say_what_was_sent_back(outcome.sent_back)
    if outcome.in_place:
        console.print(f"{len(outcome.in_place)} files lie where others keep them, and are theirs to remove:")
        for path in outcome.in_place:
            console.print(f"  {path}", markup=False, soft_wrap=True)
