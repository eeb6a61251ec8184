"""Whom the installation talks to, asked only where the command was told to: DICOMweb servers, nodes of the PACS, where
results go back to, the OpenID provider, receivers of webhooks, Milvus. Nothing is stored there and nothing of a patient
sent."""

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import requests
from pydantic import SecretStr
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made when the module is imported

from index.sources.dicomweb_http import Origin, open_session

from ..dicom_association import associated
from ..return_settings import DicomNode, ReturnRoute
from ..settings import Settings
from .finding import Finding, fail, ok
from .installation import Installation

__all__ = ["check_network"]

SECONDS: Final = 5.0
NODE: Final = re.compile(r"(?P<title>[^@]{1,16})@(?P<host>.+):(?P<port>[0-9]{1,5})")
AE_TITLE: Final = "ALTA"
PORTS: Final = {"http": 80, "https": 443}
REACH: Final = "Is it running, and does a firewall let this machine reach it?"


@dataclass(frozen=True)
class Question:
    """What any server of a kind answers. root: what the URL before ``path`` has to be."""

    path: str
    parameters: Mapping[str, str]
    media_type: str
    root: str


SEARCH: Final = Question("studies", {"limit": "1"}, "application/dicom+json", "DICOMweb root")  # PS3.18 10.6
CAPABILITIES: Final = Question("metadata", {}, "application/fhir+json", "FHIR base URL")  # FHIR R4 3.1.0.16


def check_network(installation: Installation) -> Iterator[Finding]:
    settings = installation.settings
    asked = False
    for finding in (
        *(_dicomweb_origin(settings, name) for name in settings.dicomweb_origins),
        *(_named_node(node) for node in installation.pacs),
        *(_route(settings, route) for route in settings.return_routes if route.kind != "webhook"),
        *(_connects("webhook", origin) for origin in settings.webhook_origins),
        *((_provider(settings.oidc_issuer),) if settings.oidc_issuer else ()),
        *((_connects("milvus", settings.milvus_uri),) if settings.milvus_uri else ()),
    ):
        asked = True
        yield finding
    if not asked:
        yield ok("network", "no other system is configured; nodes of a PACS are named with --pacs TITLE@HOST:PORT")


def _dicomweb_origin(settings: Settings, name: str) -> Finding:
    origin = Origin(name, settings.dicomweb_origins[name], _revealed(settings.dicomweb_credentials.get(name)))
    return _asked(f"dicomweb {name}", origin, SEARCH, "ALTA_DICOMWEB_CREDENTIALS")


def _route(settings: Settings, route: ReturnRoute) -> Finding:
    """Where results go back to: whether it would take them is not tried, only whether it is there."""
    check = f"route {route.name}"
    if route.node is not None:
        return _echo(check, route.node, route.aet)
    origin = Origin(route.name, route.to, _revealed(settings.return_credentials.get(route.name)))
    return _asked(check, origin, SEARCH if route.kind == "sr" else CAPABILITIES, "ALTA_RETURN_CREDENTIALS")


def _asked(check: str, origin: Origin, question: Question, credentials: str) -> Finding:
    try:
        with open_session(origin) as session:
            answer = session.get(
                f"{origin.url.rstrip('/')}/{question.path}",
                params=question.parameters,
                headers={"Accept": question.media_type},
                timeout=SECONDS,
                stream=True,
            )
            status = answer.status_code
            answer.close()
    except Exception as error:  # whatever the network or the server does
        return fail(check, f"{origin.url} does not answer: {_cause(error)}", REACH)
    if status in (200, 204):
        return ok(check, f"{origin.url} answers")
    if status in (401, 403):
        remedy = f"Mend the credentials of {origin.name} in {credentials}, or its rights there."
        return fail(check, f"{origin.url} answers {status}", remedy)
    return fail(check, f"{origin.url} answers {status}", f"Is that its {question.root}? {REACH}")


def _named_node(node: str) -> Finding:
    check = f"pacs {node}"
    named = NODE.fullmatch(node)
    if named is None:
        return fail(check, "That names no node", "Write TITLE@HOST:PORT.")
    return _echo(check, DicomNode(host=named["host"], port=int(named["port"]), ae_title=named["title"]), AE_TITLE)


def _echo(check: str, node: DicomNode, ours: str) -> Finding:
    """C-ECHO (PS3.7 9.1.5), as ``ours``."""
    try:  # pynetdicom tells neither why there is no connection, nor closes what it tried with
        socket.create_connection((node.host, node.port), timeout=SECONDS).close()
    except (OSError, OverflowError) as error:  # of a port that is none
        return fail(check, f"It does not answer: {_cause(error)}", REACH)
    entity = AE(ae_title=ours)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = SECONDS
    entity.add_requested_context(Verification)
    try:
        context = node.tls.context() if node.tls else None
    except ValueError as error:
        return fail(check, str(error), "Put the file back, or name another in the route's tls.")
    with associated(entity, node, context, SECONDS) as association:
        if context is not None and context.unverified:
            remedy = f"Name in tls.ca who signs it; it has to be for {node.host}, as the route names it."
            return fail(check, f"Its certificate is not accepted: {context.unverified}", remedy)
        if association.is_rejected:
            remedy = f"Enter the AE title {ours} of this machine there, and look at the title that it has itself."
            return fail(check, "It refuses the association", remedy)
        if not association.is_established:
            return fail(check, "It does not answer", REACH)
        status = association.send_c_echo()
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


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _cause(error: BaseException) -> str:
    """The innermost cause, which says most: libraries wrap it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return f"{error}" or type(error).__name__
