"""Credentials to callers: API keys and OpenID Connect tokens, both sent as ``Authorization: Bearer …``."""

from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Final, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.datastructures import Headers
from starlette.types import Scope

from index import Catalog
from index.access.keys import KeyRecord, find_key, has_keys, parse_key, secret_matches

from ..errors import RequestError
from ..settings import Settings
from .oidc import TokenVerifier
from .principals import ANONYMOUS, Principal, address_of, is_local
from .rates import Failures

__all__ = ["KEY_SECONDS", "Authenticator"]

KEY_SECONDS: Final = 2.0  # what is known of a key is this old at most: a revoked one is refused after that time
KNOWN_KEYS: Final = 4096
TOKEN_THREADS: Final = 4  # apart from the others: they may wait for the provider, and keys do not
FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")
OLD_HTTP: Final = "1.0"  # what nginx speaks to what is behind it, without any of these, unless it is told to

T = TypeVar("T")


class Authenticator:
    """Lives on the event loop; only what waits for the database or the network is done in threads."""

    def __init__(self, settings: Settings, catalog: Catalog, threads: CapacityLimiter) -> None:
        self._catalog = catalog
        self._mode = settings.authentication
        self._required = settings.authentication_required
        self._origins = frozenset(settings.cors_origins)
        self._tokens = TokenVerifier(settings) if settings.oidc_issuer else None
        self._failures = Failures()
        self._keys: OrderedDict[str, tuple[float, KeyRecord | None]] = OrderedDict()
        self._keys_made = (float("-inf"), False)
        self._threads = threads
        self._token_threads = CapacityLimiter(TOKEN_THREADS)

    async def caller_of(self, scope: Scope) -> Principal:
        """Who sends a request.

        Raises RequestError: authentication-required, bad-credentials, too-many-failures,
        identity-provider-unavailable; ArchiveError.
        """
        headers, address = Headers(scope=scope), address_of(scope)
        given = headers.get("authorization")
        if given is None:
            if scope.get("http_version") != OLD_HTTP and await self._may_be_anonymous(headers, address):
                return ANONYMOUS
            raise RequestError(
                "Expected `Authorization: Bearer` and an API key or a token, found none.",
                "authentication-required",
                headers={"WWW-Authenticate": "Bearer"},
            )
        scheme, _, credentials = given.partition(" ")
        caller = None
        if scheme.lower() == "bearer":
            caller = await self._caller_with(credentials.strip(), address)
        if caller is None:
            self._failures.count(address)
            raise RequestError(
                "The credentials are unknown, expired, revoked or not for this service.",
                "bad-credentials",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        return caller

    async def _may_be_anonymous(self, headers: Headers, address: str | None) -> bool:
        """Without credentials only what comes from this machine, through no proxy that says so, and from no page of
        another site."""
        if self._required or not is_local(address) or any(name in headers for name in FORWARDED):
            return False
        if headers.get("sec-fetch-site") == "cross-site":  # a browser's word (W3C Fetch Metadata)
            return False
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host") and origin not in self._origins:
            return False
        return self._mode == "off" or not await self._any_key()

    async def _any_key(self) -> bool:
        read_at, found = self._keys_made
        if not found and monotonic() - read_at > KEY_SECONDS:  # keys are never deleted: yes stays yes
            found = await self._in_thread(partial(has_keys, self._catalog))
            self._keys_made = (monotonic(), found)
        return found

    async def _caller_with(self, credentials: str, address: str | None) -> Principal | None:
        key = parse_key(credentials)
        if key is None:
            if self._tokens is None:
                return None
            return await anyio.to_thread.run_sync(self._tokens.caller_of, credentials, limiter=self._token_threads)
        identifier, secret = key
        if identifier not in self._keys:
            self._failures.require_few(address)  # no look-up for who tries one id after the other
        record = await self._record(identifier)
        if record is None or not secret_matches(record, secret) or not record.usable_at(datetime.now(UTC)):
            return None
        return Principal(
            f"key:{record.id}", record.scopes, record.id, record.requests_per_minute, record.requests_per_day
        )

    async def _record(self, identifier: str) -> KeyRecord | None:
        known = self._keys.get(identifier)
        if known is not None and monotonic() - known[0] <= KEY_SECONDS:
            return known[1]
        read_at = monotonic()
        record = await self._in_thread(partial(find_key, self._catalog, identifier))
        self._keys[identifier] = (read_at, record)
        self._keys.move_to_end(identifier)
        while len(self._keys) > KNOWN_KEYS:
            self._keys.popitem(last=False)
        return record

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(call, limiter=self._threads)
