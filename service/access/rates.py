"""How often a caller may ask, and how often an address may fail to say who it is. In this process's memory."""

import math
import time
from typing import Final

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from ..errors import RequestError
from .principals import Principal

__all__ = ["FAILURES_PER_MINUTE", "Failures", "Rates"]

FAILURES_PER_MINUTE: Final = 20


class Rates:
    """N processes together let N times as many through."""

    def __init__(self, per_minute: int) -> None:
        """per_minute: for callers without a number of their own; 0 is no limit."""
        self._per_minute = per_minute
        self._windows = SlidingWindowCounterRateLimiter(MemoryStorage())

    def admit(self, caller: Principal) -> dict[str, str]:
        """Count a request. Returns the fields of draft-ietf-httpapi-ratelimit-headers-10.

        Raises RequestError rate-limited.
        """
        limit = self._per_minute if caller.requests_per_minute is None else caller.requests_per_minute
        if limit == 0:
            return {}
        item = RateLimitItemPerMinute(limit)
        admitted = self._windows.hit(item, caller.name)
        reset, remaining = self._windows.get_window_stats(item, caller.name)
        seconds = max(1, math.ceil(reset - time.time()))
        headers = {
            "RateLimit-Policy": f'"minute";q={limit};w=60',
            "RateLimit": f'"minute";r={max(0, remaining)};t={seconds}',
        }
        if not admitted:
            message = f"Expected at most {limit} requests a minute, found more. Wait {seconds} s."
            raise RequestError(message, "rate-limited", headers={**headers, "Retry-After": str(seconds)})
        return headers


class Failures:
    """Attempts with credentials that are none, by address."""

    def __init__(self) -> None:
        self._item = RateLimitItemPerMinute(FAILURES_PER_MINUTE)
        self._windows = SlidingWindowCounterRateLimiter(MemoryStorage())

    def require_few(self, address: str | None) -> None:
        """Raises RequestError too-many-failures."""
        if not self._windows.test(self._item, str(address)):
            reset, _ = self._windows.get_window_stats(self._item, str(address))
            seconds = max(1, math.ceil(reset - time.time()))
            message = f"Expected at most {FAILURES_PER_MINUTE} failed attempts a minute, found more. Wait {seconds} s."
            raise RequestError(message, "too-many-failures", headers={"Retry-After": str(seconds)})

    def count(self, address: str | None) -> None:
        """Raises RequestError too-many-failures."""
        self.require_few(address)
        self._windows.hit(self._item, str(address))
