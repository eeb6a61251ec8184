"""All of access in one place: who asks, how much, and the audit's writer."""

from typing import Final

import anyio
from starlette.types import Scope

from index import open_catalog

from ..settings import Settings
from .audit_writer import AuditWriter
from .authentication import Authenticator
from .principals import ANONYMOUS, Principal
from .quotas import Quotas
from .rates import Rates

__all__ = ["Access"]

THREADS: Final = 4


class Access:
    """Made when the app starts, closed when it ends."""

    def __init__(self, settings: Settings) -> None:
        # With connections of its own, as with threads: requests that wait for theirs must not keep the audit waiting.
        self.catalog = catalog = open_catalog(settings.catalog_url)
        threads = anyio.CapacityLimiter(THREADS)
        self.authenticator = Authenticator(settings, catalog, threads)
        self.rates = Rates(settings.requests_per_minute)
        self.quotas = Quotas(catalog, settings.requests_per_day, threads)
        self.audit = AuditWriter(catalog)

    async def admit(self, scope: Scope) -> tuple[Principal, dict[str, str]]:
        """Who sends this request, and headers for the answer that say how many more may come.

        Raises RequestError: authentication-required, bad-credentials, too-many-failures, rate-limited, quota-used-up,
        identity-provider-unavailable; ArchiveError.
        """
        caller = await self.authenticator.caller_of(scope)
        if caller is ANONYMOUS:
            return caller, {}
        headers = self.rates.admit(caller)
        await self.quotas.admit(caller)
        return caller, headers

    def close(self) -> None:
        """What was counted and what waits for the audit is written first."""
        self.quotas.close()
        self.audit.close()
        self.catalog.close()
