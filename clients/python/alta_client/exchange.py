"""From a call to its result: what is sent again, when, and how answers become errors. No input or output here.

An exchange is a generator. It yields what is to be done next, a call to send or seconds to wait, is sent what came of
it, and returns the result. Who drives it sleeps and sends in its own way.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any, TypeAlias, TypeVar

import httpx

from .calls import Call
from .errors import Problem, Unreachable

__all__ = ["Exchange", "Pause", "Retries", "exchange"]

T = TypeVar("T")


@dataclass(frozen=True)
class Pause:
    seconds: float


Outcome: TypeAlias = "httpx.Response | httpx.TransportError | None"
Exchange: TypeAlias = Generator["Call[Any] | Pause", Outcome, T]

BUSY = (429, 503)


@dataclass(frozen=True)
class Retries:
    """most: times a call is sent again. patience_s: from its beginning, after which it is not sent again.

    first_s: the wait before the second time; it doubles from then on, up to ``longest_s``, and chance shortens it, so
    that clients that were turned away together do not come back together. ``Retry-After`` of an answer is kept.
    """

    most: int = 4
    patience_s: float = 60.0
    first_s: float = 0.5
    longest_s: float = 20.0

    def wait(self, sent: int, response: httpx.Response | None) -> float:
        """Seconds before the call is sent again, having been sent so many times."""
        own = min(self.first_s * 2.0 ** (sent - 1), self.longest_s) * random.uniform(0.5, 1.0)
        return max(own, _retry_after(response) if response is not None else 0.0)


def exchange(call: Call[T], retries: Retries) -> Exchange[T]:
    """A busy service (429, 503) and a connection that was not made or broke are tried again.

    A call that is not repeatable is sent again only where it cannot have been carried out: after 429, or without a
    connection. Raises Problem, Unreachable.
    """
    began, sent = monotonic(), 0
    while True:
        outcome = yield call
        sent += 1
        response = outcome if isinstance(outcome, httpx.Response) else None
        if response is not None and (response.status_code not in BUSY or response.status_code in call.also):
            return _result(call, response)
        wait = retries.wait(sent, response)
        late = monotonic() - began + wait > retries.patience_s
        if sent > retries.most or late or not call.can_be_sent_again() or not _may_be_repeated(call, outcome):
            if response is not None:
                return _result(call, response)
            raise Unreachable(f"{call.method} {call.path}: {type(outcome).__name__}: {outcome}")
        yield Pause(wait)


def _may_be_repeated(call: Call[Any], outcome: Outcome) -> bool:
    if call.repeatable or isinstance(outcome, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)):
        return True
    return isinstance(outcome, httpx.Response) and outcome.status_code == 429


def _result(call: Call[T], response: httpx.Response) -> T:
    if response.status_code < 400 or response.status_code in call.also:
        return call.parse(response)
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if kind == "application/problem+json":
        document = response.json()
        slug = str(document.get("type", "")).rpartition("/")[2]
        raise Problem(response.status_code, slug, str(document.get("detail", "")), document)
    document = {"body": response.text[:1000]}
    raise Problem(response.status_code, "unexpected-answer", "The answer is no problem document.", document)


def _retry_after(response: httpx.Response) -> float:
    """Seconds or a date (RFC 9110 10.2.3); 0 where there is none."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max((parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return 0.0
