"""``alta pull dicomweb``: studies of a configured DICOMweb server."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from model.errors import InputError

from ..settings import Settings
from .console import console
from .doors import pull
from .pulling import DAY, fetch_by_date
from .settings import archive_settings, shown_database

if TYPE_CHECKING:
    from index.sources.dicomweb_http import Origin

__all__ = ["dicomweb"]


@pull.command("dicomweb")
def dicomweb(
    origin: Annotated[str, typer.Argument(help="Name or URL of a server in ALTA_DICOMWEB_ORIGINS.")],
    first: Annotated[
        datetime, typer.Option("--from", formats=DAY, metavar="DATE", help="First study date, such as 2024-01-31.")
    ],
    last: Annotated[datetime, typer.Option("--to", formats=DAY, metavar="DATE", help="Last study date.")],
    modality: Annotated[
        list[str] | None, typer.Option(help="Only studies with images of this modality; may be given several times.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be fetched, and fetch nothing.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Fetch what the archive has as well, to notice what was changed.")
    ] = False,
) -> None:
    """Fetch studies by their date, with their structured reports. Kill it at any time; it fetches what is missing."""
    from index import create_schema, open_catalog
    from index.dicom import MODALITIES
    from index.intake.ingest import ingest_received
    from index.intake.received import ReceivedStore
    from index.sources.dicomweb import DicomWebSource
    from index.sources.dicomweb_peer import DicomWebPeer

    settings = archive_settings()
    chosen = _configured(settings, origin)
    create_schema(settings.catalog_url)
    catalog = open_catalog(settings.catalog_url)
    peer = DicomWebPeer(chosen)
    store = ReceivedStore(settings.received_dir, settings.min_free_bytes)
    try:
        if not dry_run and store.waiting():  # else what a killed run had fetched would be fetched once more
            left = ingest_received(catalog, store)
            console.print(f"Taken in first, kept by an earlier run: {left.accepted + left.updated} files.")
        fetch_by_date(
            catalog,
            lambda days: DicomWebSource(
                catalog,
                peer,
                store,
                first.date(),
                last.date(),
                modalities=modality or MODALITIES,
                again=again,
                days=days,
            ),
            peer=chosen.name,
            database=shown_database(settings),
            dry_run=dry_run,
        )
    finally:
        peer.close()
        catalog.close()


def _configured(settings: Settings, wanted: str) -> "Origin":
    from index.sources.dicomweb_http import Origin

    for name, url in settings.dicomweb_origins.items():
        if wanted == name or wanted.rstrip("/") == url.rstrip("/"):
            secret = settings.dicomweb_credentials.get(name)
            return Origin(name, url, secret.get_secret_value() if secret else None)
    known = ", ".join(f"{name} ({url})" for name, url in settings.dicomweb_origins.items()) or "none"
    raise InputError(
        f"Expected a server in ALTA_DICOMWEB_ORIGINS, found {wanted!r}. Configured: {known}.", "unknown-origin"
    )
