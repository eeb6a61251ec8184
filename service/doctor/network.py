"""Whom the installation talks to, asked only where the command was told to: DICOMweb servers, nodes of the PACS, the
OpenID provider, receivers of webhooks, Milvus. Nothing is stored there and nothing of a patient sent."""

import re
import socket
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import requests
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made when the module is imported

from index.sources.dicomweb_http import Origin, open_session

from .finding import Finding, fail, ok
from .installation import Installation

__all__ = ["check_network"]

SECONDS: Final = 5.0
NODE: Final = re.compile(r"(?P<title>[^@]{1,16})@(?P<host>.+):(?P<port>[0-9]{1,5})")
AE_TITLE: Final = "ALTA"
PORTS: Final = {"http": 80, "https": 443}
REACH: Final = "Is it running, and does a firewall let this machine reach it?"


def check_network(installation: Installation) -> Iterator[Finding]:
    settings = installation.settings
    asked = False
    for finding in (
        *(_dicomweb(installation, name) for name in settings.dicomweb_origins),
        *(_echo(node) for node in installation.pacs),
        *(_connects("webhook", origin) for origin in settings.webhook_origins),
        *((_provider(settings.oidc_issuer),) if settings.oidc_issuer else ()),
        *((_connects("milvus", settings.milvus_uri),) if settings.milvus_uri else ()),
    ):
        asked = True
        yield finding
    if not asked:
        yield ok("network", "no other system is configured; nodes of a PACS are named with --pacs TITLE@HOST:PORT")


def _dicomweb(installation: Installation, name: str) -> Finding:
    """QIDO-RS (PS3.18 10.6) for one study."""
    check = f"dicomweb {name}"
    settings = installation.settings
    secret = settings.dicomweb_credentials.get(name)
    origin = Origin(name, settings.dicomweb_origins[name], secret.get_secret_value() if secret else None)
    try:
        with open_session(origin) as session:
            answer = session.get(
                f"{origin.url.rstrip('/')}/studies",
                params={"limit": "1"},
                headers={"Accept": "application/dicom+json"},
                timeout=SECONDS,
                stream=True,
            )
            status = answer.status_code
            answer.close()
    except Exception as error:  # whatever the network or the server does
        return fail(check, f"{origin.url} does not answer: {_cause(error)}", REACH)
    if status in (200, 204):
        return ok(check, f"{origin.url} answers a search")
    if status in (401, 403):
        remedy = f"Mend the credentials of {name} in ALTA_DICOMWEB_CREDENTIALS, or its rights there."
        return fail(check, f"{origin.url} answers {status}", remedy)
    return fail(check, f"{origin.url} answers {status} to a search", f"Is that its DICOMweb root? {REACH}")


def _echo(node: str) -> Finding:
    """C-ECHO (PS3.7 9.1.5)."""
    check = f"pacs {node}"
    named = NODE.fullmatch(node)
    if named is None:
        return fail(check, "That names no node", "Write TITLE@HOST:PORT.")
    try:  # pynetdicom tells neither why there is no connection, nor closes what it tried with
        socket.create_connection((named["host"], int(named["port"])), timeout=SECONDS).close()
    except OSError as error:
        return fail(check, f"It does not answer: {_cause(error)}", REACH)
    entity = AE(ae_title=AE_TITLE)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = SECONDS
    entity.add_requested_context(Verification)
    association = entity.associate(named["host"], int(named["port"]), ae_title=named["title"])
    connection = association.dul.socket.socket if association.dul.socket else None
    try:
        if association.is_rejected:
            remedy = f"Enter the AE title {AE_TITLE} of this machine there, and look at the title that it has itself."
            return fail(check, "It refuses the association", remedy)
        if not association.is_established:
            return fail(check, "It does not answer", REACH)
        status = association.send_c_echo()
        association.release()
    finally:
        if connection is not None:
            connection.close()  # pynetdicom leaves one open whose peer went first
    if status and status.Status == 0:
        return ok(check, "answers C-ECHO")
    return fail(check, "It does not answer C-ECHO with success", REACH)


def _provider(issuer: str) -> Finding:
    check, url = "oidc", f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    try:
        answer = requests.get(url, timeout=SECONDS, allow_redirects=False)
        answer.raise_for_status()
        named = answer.json()["issuer"]
    except Exception as error:  # whatever the network or the provider does
        return fail(
            check, f"{url} cannot be had: {_cause(error)}", f"{REACH} REQUESTS_CA_BUNDLE names a hospital's own CA."
        )
    if named != issuer:
        return fail(check, f"{url} is of the issuer {named}", "Set ALTA_OIDC_ISSUER to exactly that.")
    return ok(check, f"{issuer} answers")


def _connects(what: str, url: str) -> Finding:
    """A connection, and TLS where there is to be: nothing is asked."""
    parts = urlsplit(url)
    check = f"{what} {parts.netloc.rpartition('@')[2]}"
    host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 80)
    try:
        with socket.create_connection((host, port), timeout=SECONDS) as connection:
            if parts.scheme == "https":
                with ssl.create_default_context().wrap_socket(connection, server_hostname=host):
                    pass
    except OSError as error:
        return fail(check, f"It cannot be reached: {_cause(error)}", REACH)
    return ok(check, "can be reached")


def _cause(error: BaseException) -> str:
    """The innermost cause, which says most: libraries wrap it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return f"{error}" or type(error).__name__
