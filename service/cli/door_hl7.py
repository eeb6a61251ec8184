"""``alta receive hl7``: reports that another system sends by MLLP."""

import asyncio
import ipaddress
import logging
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from model.errors import InputError

from .console import console
from .doors import receive
from .settings import archive_settings, shown_database

if TYPE_CHECKING:
    from index.listeners.mllp import MllpListener  # not when the program starts: --help is instant

__all__ = ["hl7"]


@receive.command("hl7")
def hl7(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for senders on other hosts.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any that is free.")] = 2575,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Address or network that may send, such as 10.1.2.0/24; may be given several times."),
    ] = None,
) -> None:
    """Receive reports as HL7 v2 ORU^R01 messages by MLLP. A sender hears AA once its report is in the database.

    MLLP has no encryption and no passwords: listen on other than 127.0.0.1 only inside a trusted network.
    """
    from index import create_schema, open_catalog
    from index.listeners.hl7_answers import acknowledge, answer_message
    from index.listeners.mllp import MllpListener

    if not allow and not _is_loopback(host):
        raise InputError(f"Say who may send to {host}: --allow ADDRESS, once for each sender.", "no-senders")
    settings = archive_settings()
    create_schema(settings.catalog_url)
    catalog = open_catalog(settings.catalog_url)
    logging.getLogger("index").setLevel(logging.INFO)
    shown = shown_database(settings)

    def ready(found: int) -> None:
        console.print(f"Listening on {host}, port {found}, for HL7 messages -> {shown}", markup=False)

    listener = MllpListener(
        answer=lambda data: answer_message(catalog, data),
        reject=lambda data, reason: acknowledge(data, "AR", reason),
        allow=allow or (),
    )
    try:
        asyncio.run(_listen(listener, host, port, ready))
    finally:
        catalog.close()
    console.print("Stopped.")


async def _listen(listener: "MllpListener", host: str, port: int, ready: Callable[[int], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, listener.stop)
    await listener.run(host, port, ready)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
