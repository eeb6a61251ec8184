"""The settings: names that are none, and choices that let somebody in or leave something in plain text."""

import ipaddress
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import sqlalchemy as sa

from index.access.keys import has_keys

from ..settings import Settings
from ..unknown_settings import describe_unknown, unknown_settings
from .finding import Finding, fail, ok, warn
from .installation import Installation

__all__ = ["check_access", "check_names"]

MAKE_A_KEY: Final = "alta keys create NAME --scope search"
ENCRYPTED: Final = ("require", "verify-ca", "verify-full")  # of PostgreSQL's sslmode
HERE: Final = ("localhost", "127.0.0.1", "::1")


def check_names(installation: Installation) -> Iterator[Finding]:
    unknown = unknown_settings(installation.environ)
    for name, meant in unknown.items():
        remedy = (
            f"Rename it {meant}; `alta serve` refuses to start until then." if meant else "Remove it, or mend its name."
        )
        yield (fail if meant else warn)("settings", describe_unknown(name, meant), remedy)
    if not unknown:
        given = sum(
            1 for name in installation.environ if name.upper().removeprefix("ALTA_").lower() in Settings.model_fields
        )
        yield ok("settings", f"{given} ALTA_* variables are set, all known")


def check_access(installation: Installation) -> Iterator[Finding]:
    settings = installation.settings
    findings = [*_who(installation), *_plain_text(settings)]
    if settings.receive and not installation.settings.authentication_required and not _keys(installation):
        saw = "ALTA_RECEIVE is on and no key was made: every account of this machine can send and delete studies"
        findings.append(warn("access", saw, "alta keys create NAME --scope write, and ALTA_AUTHENTICATION=required"))
    if any(ipaddress.ip_network(proxy).prefixlen == 0 for proxy in settings.trusted_proxies):
        saw = "ALTA_TRUSTED_PROXIES trusts every address: anybody can be any address in the audit"
        findings.append(warn("access", saw, "Name the proxies alone."))
    if not settings.loopback_only and "*" in settings.host_names:
        saw = f"listening on {settings.host}, and any host name is answered"
        findings.append(warn("access", saw, "Set ALTA_ALLOWED_HOSTS to the names that clients use."))
    yield from findings
    if not findings:
        how = "every request needs a key or token" if settings.authentication_required else "this machine only"
        yield ok("access", f"listening on {settings.host}:{settings.port}; {how}")


def _who(installation: Installation) -> Iterator[Finding]:
    settings = installation.settings
    if settings.loopback_only:
        if settings.authentication == "off":
            saw = (
                "ALTA_AUTHENTICATION=off: who gets to this machine's loopback reads every report, a proxy's clients too"
            )
            yield warn("access", saw, f"ALTA_AUTHENTICATION=required, and {MAKE_A_KEY}")
        return
    where = f"listening on {settings.host}, which other machines may reach"
    if settings.authentication == "off":
        yield fail(
            "access", f"{where}, with ALTA_AUTHENTICATION=off: it will not start", "ALTA_AUTHENTICATION=required"
        )
    elif not settings.oidc_issuer and installation.readable and not _keys(installation, usable=True):
        remedy = f"{MAKE_A_KEY}, name an OpenID provider in ALTA_OIDC_ISSUER, or listen on 127.0.0.1."
        yield fail("access", f"{where}, and nobody could authenticate: it will not start", remedy)


def _plain_text(settings: Settings) -> Iterator[Finding]:
    """What travels without encryption."""
    plain = [origin for origin in settings.webhook_origins if _is_plain(origin)]
    if plain:
        yield warn("access", f"webhooks to {', '.join(plain)} travel in plain text", "Use https.")
    for name in settings.dicomweb_credentials:
        if _is_plain(settings.dicomweb_origins[name]):
            saw = f"the credentials of the DICOMweb server {name} travel in plain text"
            yield warn("access", saw, "Use an https URL in ALTA_DICOMWEB_ORIGINS.")
    for route in settings.return_routes:
        if _is_plain(route.to):
            saw = f"results of the route {route.name} travel in plain text, with what they say of a patient"
            yield warn("access", saw, "Use an https URL in ALTA_RETURN_ROUTES.")
        elif route.node is not None and route.tls is None and route.node.host not in HERE:
            saw = f"results of the route {route.name} travel in plain text, with what they say of a patient"
            yield warn("access", saw, "Give it tls in ALTA_RETURN_ROUTES, unless the network between is yours.")
    if settings.database_url.startswith("postgres"):
        url = sa.make_url(settings.database_url)
        if (
            url.host
            and url.host not in HERE
            and not url.host.startswith("/")
            and url.query.get("sslmode") not in ENCRYPTED
        ):
            saw = f"the connection to the database at {url.host} may be in plain text"
            yield warn(
                "access", saw, "Add ?sslmode=verify-full to ALTA_DATABASE_URL, unless the network between is yours."
            )


def _keys(installation: Installation, *, usable: bool = False) -> bool:
    if not installation.readable:
        return False
    with installation.catalog() as catalog:
        return has_keys(catalog, usable=usable)


def _is_plain(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in HERE
