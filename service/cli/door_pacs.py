"""``alta pull pacs``: studies of a PACS by Query/Retrieve."""

import ipaddress
from contextlib import suppress
from datetime import datetime
from typing import Annotated

import typer

from model.errors import InputError

from .doors import pull
from .pulling import DAY, fetch_by_date
from .settings import archive_settings, shown_database

__all__ = ["pacs"]


@pull.command("pacs")
def pacs(
    host: Annotated[str, typer.Option(help="Host of the PACS.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Its DICOM port.")],
    called_aet: Annotated[str, typer.Option(help="Its AE title.")],
    first: Annotated[
        datetime, typer.Option("--from", formats=DAY, metavar="DATE", help="First study date, such as 2024-01-31.")
    ],
    last: Annotated[datetime, typer.Option("--to", formats=DAY, metavar="DATE", help="Last study date.")],
    aet: Annotated[str, typer.Option(help="Our AE title, as the PACS knows it.")] = "ALTA",
    modality: Annotated[
        list[str] | None, typer.Option(help="Only studies with images of this modality; may be given several times.")
    ] = None,
    get: Annotated[bool, typer.Option("--get", help="Fetch by C-GET; nobody has to reach us then.")] = False,
    listen_host: Annotated[
        str, typer.Option(help="Address where the PACS sends to (C-MOVE); 0.0.0.0 for a PACS on another host.")
    ] = "127.0.0.1",
    listen_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port where the PACS sends to, as it is entered there.")
    ] = 11112,
    sender: Annotated[
        list[str] | None, typer.Option(help="AE title under which the PACS sends, if it is not --called-aet.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be fetched, and fetch nothing.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Fetch what the archive has as well, to notice what was changed.")
    ] = False,
) -> None:
    """Fetch studies by their date, with their structured reports. Kill it at any time; it fetches what is missing."""
    from index import ReceivedStore, create_schema, open_catalog
    from index.dicom import MODALITIES
    from index.listeners.storage_scp import StorageScp
    from index.sources.pacs import PacsSource
    from index.sources.pacs_peer import PacsNode, PacsPeer

    if not get and _is_loopback(listen_host) and not _is_loopback(host):
        message = f"{host} cannot send to {listen_host}. Say --listen-host 0.0.0.0, or fetch with --get."
        raise InputError(message, "unreachable-listener")
    settings = archive_settings()
    create_schema(settings.catalog_url)
    catalog = open_catalog(settings.catalog_url)
    store = ReceivedStore(settings.received_dir, settings.min_free_bytes)
    peer = PacsPeer(PacsNode(host, port, called_aet, aet), store, use_get=get)
    scp = StorageScp(store, ae_title=aet, allowed=sender or [called_aet], kept=peer.received, fetching=True)
    try:
        if not get and not dry_run:
            scp.start(listen_host, listen_port)
        fetch_by_date(
            catalog,
            lambda days: PacsSource(
                catalog,
                peer,
                store,
                first.date(),
                last.date(),
                modalities=modality or MODALITIES,
                again=again,
                days=days,
            ),
            peer=called_aet,
            database=shown_database(settings),
            dry_run=dry_run,
        )
    finally:
        peer.close()
        scp.stop(patience=5)
        catalog.close()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return False
