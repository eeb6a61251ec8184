"""OpenID Connect bearer tokens: signed JWTs (RFC 9068) of the one issuer that is configured.

Keys come from the issuer's own address and nowhere else: what a token's header says of addresses (``jku``, ``x5u``) or
keys (``jwk``) is not read. PyJWT's client keeps them for five minutes and fetches anew for an unknown key at most
every 30 seconds.
"""

import hashlib
import json
import time
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import jwt

from index.access.keys import SCOPES

from ..errors import RequestError
from ..settings import Settings
from .principals import Principal

__all__ = ["TokenVerifier"]

FETCH_SECONDS: Final = 3.0
PAUSE_SECONDS: Final = 5.0  # after a provider did not answer, before it is asked again
LEEWAY_SECONDS: Final = 30.0  # between two clocks
REQUIRED: Final = ("exp", "iss", "aud", "sub")


class TokenVerifier:
    """Thread-safe; ``caller_of`` may wait for the provider."""

    def __init__(self, settings: Settings) -> None:
        self._issuer = settings.oidc_issuer
        self._audience = settings.oidc_audience
        self._algorithms = list(settings.oidc_algorithms)
        self._claim = settings.oidc_scope_claim
        self._scopes = settings.oidc_scopes
        self._client: jwt.PyJWKClient | None = None
        self._failed_at = float("-inf")

    def caller_of(self, token: str) -> Principal | None:
        """None: the token is not valid here. Raises RequestError identity-provider-unavailable."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            return None
        if header.get("alg") not in self._algorithms or not isinstance(header.get("kid"), str):
            return None
        try:
            claims = jwt.decode(
                token,
                self._key(header["kid"]),
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": list(REQUIRED)},
            )
        except jwt.PyJWKClientConnectionError:
            raise self._unavailable() from None
        except (jwt.InvalidTokenError, jwt.PyJWKClientError, jwt.PyJWKSetError, jwt.InvalidKeyError):
            return None
        return Principal(_name(claims["sub"]), self._scopes_of(claims))

    def _key(self, kid: str) -> jwt.PyJWK:
        if (known := self._known_key(kid)) is not None:
            return known
        if time.monotonic() - self._failed_at < PAUSE_SECONDS:
            raise jwt.PyJWKClientConnectionError("it did not answer a moment ago")
        try:
            if self._client is None:
                self._client = jwt.PyJWKClient(self._key_set_url(), timeout=FETCH_SECONDS)
            return self._client.get_signing_key(kid)
        except jwt.PyJWKClientConnectionError:
            self._failed_at = time.monotonic()
            raise

    def _known_key(self, kid: str) -> jwt.PyJWK | None:
        """A key fetched before: who asks for unknown ones while the provider is down keeps nobody else out."""
        cache = self._client.jwk_set_cache if self._client is not None else None
        keys = cache.get() if cache is not None else None
        usable = [] if keys is None else [key for key in keys.keys if key.public_key_use in ("sig", None)]
        return jwt.PyJWKClient.match_kid(usable, kid)

    def _key_set_url(self) -> str:
        """From the issuer's configuration (OpenID Connect Discovery 4)."""
        address = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            answer = httpx.get(address, timeout=FETCH_SECONDS)
            answer.raise_for_status()
            found = answer.json()
            url = str(found["jwks_uri"])
        except (httpx.HTTPError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise jwt.PyJWKClientConnectionError(f"no configuration at {address}") from error
        secure = urlsplit(url).scheme == "https" or urlsplit(self._issuer).scheme == "http"
        if found.get("issuer") != self._issuer or not secure:
            raise jwt.PyJWKClientConnectionError(f"{address} describes another issuer")
        return url

    def _scopes_of(self, claims: dict[str, Any]) -> frozenset[str]:
        value: Any = claims.get(self._claim)
        if value is None:  # a path, as Keycloak's realm_access.roles
            value = claims
            for part in self._claim.split("."):
                value = value.get(part) if isinstance(value, dict) else None
        given = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
        names = [name for name in given if isinstance(name, str)]
        if self._scopes:
            names = [scope for name in names for scope in self._scopes.get(name, "").split()]
        return frozenset(names) & frozenset(SCOPES)

    @staticmethod
    def _unavailable() -> RequestError:
        message = "The token cannot be checked: the identity provider does not give its keys."
        return RequestError(message, "identity-provider-unavailable", headers={"Retry-After": str(int(PAUSE_SECONDS))})


def _name(subject: str) -> str:
    """At most 96 characters, as the audit has room for."""
    name = f"oidc:{subject}"
    if len(name) <= 96 and name.isprintable():
        return name
    return f"oidc:{hashlib.sha256(subject.encode('utf-8', 'backslashreplace')).hexdigest()}"
