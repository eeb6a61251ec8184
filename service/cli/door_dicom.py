"""``alta receive dicom``: a Storage SCP that takes in what it is sent."""

import logging
import signal
from typing import Annotated

import typer

from model.errors import InputError

from .console import console
from .doors import receive
from .settings import archive_settings, shown_database

__all__ = ["dicom"]


@receive.command("dicom")
def dicom(
    allow: Annotated[
        list[str] | None, typer.Option(help="AE title that may send; may be given several times.", metavar="AET")
    ] = None,
    allow_any: Annotated[bool, typer.Option("--allow-any", help="Let every AE title send.")] = False,
    aet: Annotated[str, typer.Option(help="Our AE title, which senders have to name.")] = "ALTA",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for senders on other hosts.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any that is free.")] = 11112,
) -> None:
    """Receive CR and DX images and structured reports by C-STORE, and take them in as they come.

    A sender hears "success" when the object is safe on the disk. SIGTERM ends open associations and takes in the rest.
    """
    from index import IngestSummary, ReceivedStore, create_schema, open_catalog
    from index.listeners.receiving import Arrivals, take_in_arrivals
    from index.listeners.storage_scp import StorageScp
    from index.returns.queue import begin_routes

    if not allow and not allow_any:
        message = "Say who may send: --allow AET, once for each sender, or --allow-any."
        raise InputError(message, "no-senders")
    settings = archive_settings()
    create_schema(settings.catalog_url)
    catalog = open_catalog(settings.catalog_url)
    begin_routes(catalog, [route.name for route in settings.return_routes])
    store = ReceivedStore(settings.received_dir, settings.min_free_bytes)
    arrivals = Arrivals()
    allowed = None if allow_any else allow
    scp = StorageScp(store, ae_title=aet, allowed=allowed, kept=lambda uid, path: arrivals.came())
    logging.getLogger("index").setLevel(logging.INFO)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: arrivals.end())

    def tell(summary: IngestSummary) -> None:
        refused = ", ".join(f"{slug} {count}" for slug, count in summary.refused.most_common()) or "none"
        console.print(
            f"Taken in: {summary.accepted} new, {summary.updated} changed, {summary.unchanged} known;"
            f" new studies {summary.studies_new}; refused: {refused}."
        )

    found = scp.start(host, port)
    console.print(f"Listening on {host}, port {found}, as {aet} -> {shown_database(settings)}", markup=False)
    try:
        take_in_arrivals(catalog, store, arrivals, tell, stop_receiving=scp.stop)
    finally:
        scp.stop(patience=0)
        catalog.close()
    console.print("Stopped.")
