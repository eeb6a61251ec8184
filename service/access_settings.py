"""Settings of who may reach the service, and how often; ``service.settings`` has the others."""

import ipaddress
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings

__all__ = ["AccessSettings"]

SCOPES: Final = ("search", "write", "admin", "metrics")  # of index.access.keys; settings are read before SQL is loaded
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")

# Signed with a private key. Of HS*, the verifier could sign as well, and with `none`, everybody.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class AccessSettings(BaseSettings):
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=1, le=65535, description="Port to listen on.")
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="Host names clients may use (JSON list, `*` for any), `/livez` apart. Empty: the names of this"
        " machine itself when listening on loopback, else any.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        description="Addresses or networks of the proxies in front (JSON list), whose X-Forwarded-For and -Proto are"
        " believed. Empty: nobody's are.",
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        description="Origins whose pages may call the service from a browser (JSON list of `https://HOST[:PORT]`)."
        " Empty: none but its own.",
    )

    authentication: Literal["auto", "required", "off"] = Field(
        default="auto",
        description="`required`: every request needs a key or token. `auto`: so does every one that is not from this"
        " machine itself, and all once a key was made, or ALTA_OIDC_ISSUER or ALTA_TRUSTED_PROXIES is set. `off`: none"
        " from this machine needs one; refused where the service listens on other addresses than loopback.",
    )
    requests_per_minute: int = Field(
        default=600,
        ge=0,
        description="Requests a minute of one key or token subject that has no number of its own, by each process of"
        " the service. 0: no limit.",
    )
    requests_per_day: int = Field(
        default=0, ge=0, description="Requests a day (UTC) of the same, over all processes. 0: no limit."
    )

    oidc_issuer: str = Field(
        default="",
        description="The OpenID Connect provider whose tokens are taken: its `iss`, an https URL. Empty: none.",
    )
    oidc_audience: str = Field(default="", description="The `aud` that tokens for this service have.")
    oidc_algorithms: tuple[Algorithm, ...] = Field(
        default=("RS256", "ES256"), min_length=1, description="Signature algorithms taken, asymmetric ones only."
    )
    oidc_scope_claim: str = Field(
        default="scope",
        description="The claim with the scopes or roles, a list or words; a path as `realm_access.roles` works.",
    )
    oidc_scopes: dict[str, str] = Field(
        default={},
        description="What its values allow: a JSON object such as `{\"radiologist\": \"search\", \"pacs\": \"search"
        " write\"}`. Empty: the values `search`, `write`, `admin` and `metrics` themselves.",
    )  # fmt: skip

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            ipaddress.ip_network(proxy)  # a ValueError says what is wrong
        return proxies

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}" or "@" in origin:
                raise ValueError(f"{origin}: expected http(s)://HOST[:PORT] and nothing behind it")
        return origins

    @field_validator("oidc_issuer")
    @classmethod
    def _secure_issuer(cls, issuer: str) -> str:
        parts = urlsplit(issuer)
        if issuer and parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
            raise ValueError("expected an https URL (http on loopback only): its keys decide who gets in")
        return issuer

    @field_validator("oidc_scopes")
    @classmethod
    def _known_scopes(cls, scopes: dict[str, str]) -> dict[str, str]:
        if wrong := {word for words in scopes.values() for word in words.split()} - set(SCOPES):
            raise ValueError(f"expected the scopes {', '.join(SCOPES)}, found {sorted(wrong)}")
        return scopes

    @model_validator(mode="after")
    def _issuer_with_audience(self) -> "AccessSettings":
        if bool(self.oidc_issuer) != bool(self.oidc_audience):
            raise ValueError("oidc_issuer and oidc_audience go together: a token for another service is no key here")
        return self

    @property
    def loopback_only(self) -> bool:
        return _is_loopback(self.host)

    @property
    def authentication_required(self) -> bool:
        """Of every request, whatever is in the database."""
        if self.authentication == "auto":
            return bool(not self.loopback_only or self.oidc_issuer or self.trusted_proxies)
        return self.authentication == "required"

    @property
    def host_names(self) -> tuple[str, ...]:
        """Host names that are answered; a page that rebinds its own name to this machine uses another one."""
        if self.allowed_hosts:
            return self.allowed_hosts
        return (*LOOPBACK_NAMES, self.host) if self.loopback_only else ("*",)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
