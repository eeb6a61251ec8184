"""``alta archive delete | restore``: one study, out of the archive and in again."""

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from model.errors import UnknownStudy

from .archive import archive
from .console import console
from .operator import operator
from .settings import archive_settings

if TYPE_CHECKING:
    from index.keeping.delete_study import Deletion

__all__ = ["delete", "restore", "say_what_was_sent_back"]

StudyUid = Annotated[str, typer.Argument(help="The StudyInstanceUID (0020,000D).")]


@archive.command("delete")
def delete(
    study_instance_uid: StudyUid,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted; delete nothing.")] = False,
) -> None:
    """Delete a study, its reports and the archive's own copies; searches leave it out within two seconds.

    Nothing of it comes back by any door until `alta archive restore`. Files in folders that belong to others stay
    there. Index files and backups hold it until they are made again: `alta archive forget` reaches those.
    """
    from index import ReceivedStore, open_catalog
    from index.access.audit import Event, record_events, study_key
    from index.keeping.delete_study import delete_study, preview_deletion

    settings = archive_settings()
    store = ReceivedStore(settings.received_dir, settings.min_free_bytes)
    with closing(open_catalog(settings.catalog_url)) as catalog:
        if dry_run or not yes:
            _show("To be deleted", preview_deletion(catalog, study_instance_uid, store))
            if dry_run:
                return
            if not typer.confirm("Delete this study?"):
                raise typer.Exit(1)
        deletion = delete_study(catalog, study_instance_uid, store)
        record_events(catalog, [Event(operator(), "study-deleted", study_key(catalog, study_instance_uid))])
    _show("Deleted", deletion)
    console.print("Undo: alta archive restore, then ingest its folder again or have it sent again.")


@archive.command("restore")
def restore(study_instance_uid: StudyUid) -> None:
    """Let a deleted study in again. It comes with the next ingest of its folder, or is sent or pulled once more."""
    from index import ReceivedStore, open_catalog
    from index.access.audit import Event, record_events, study_key
    from index.keeping.delete_study import restore_study

    settings = archive_settings()
    store = ReceivedStore(settings.received_dir, settings.min_free_bytes)
    with closing(open_catalog(settings.catalog_url)) as catalog:
        if not restore_study(catalog, study_instance_uid, store):
            raise UnknownStudy("Expected the StudyInstanceUID of a study that was deleted.")
        record_events(catalog, [Event(operator(), "study-restored", study_key(catalog, study_instance_uid))])
    console.print("It is let in again. Next: alta ingest, or have it sent again.")


def say_what_was_sent_back(by_route: Mapping[str, int]) -> None:
    if by_route:
        told = ", ".join(f"{count} by {route}" for route, count in by_route.items())
        console.print(f"Results that were sent back, and are the receivers' to remove: {told}.")


def _show(title: str, deletion: "Deletion") -> None:
    counts = {name: count for name, count in vars(deletion).items() if name != "sent_back"}
    told = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
    console.print(f"{title}: {told}.")
    say_what_was_sent_back(Counter(one.route for one in deletion.sent_back))
