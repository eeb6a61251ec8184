"""Telling others of the end of a job: signed, to configured origins only, as often as it takes within a day.

Signed as Standard Webhooks says (https://www.standardwebhooks.com): ``webhook-id``, ``webhook-timestamp`` and
``webhook-signature``, an HMAC-SHA256 over the three joined by dots. A receiver checks it, refuses an old timestamp and
remembers ids: a message may come twice.

The list of origins is what keeps the service from being sent anywhere. Addresses are not judged: a hospital's receivers
are on private networks, as are the services that must not be reached.
"""

import base64
import hashlib
import hmac
import logging
import time
from collections.abc import Collection
from threading import Event
from typing import Final

import httpx

from index import Catalog
from index.jobs.deliveries import Delivery, delivered, give_up, later, take_due
from model.errors import ArchiveError

from ..errors import RequestError
from ..settings import Settings

__all__ = ["Courier", "origin_of", "post_signed", "require_allowed", "signature", "webhook_client"]

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 10.0
POLL_S: Final = 1.0
AWAY_S: Final = 10.0  # between two looks at a database that does not answer
PORTS: Final = {"http": 80, "https": 443}
NOT_ALLOWED: Final = "origin-not-allowed"


def origin_of(url: str) -> str | None:
    """Scheme, host and port of a URL as one word; None where it is none that may be sent to.

    By the parser of the client that sends, so that both see the same host.
    """
    try:
        parsed = httpx.URL(url)
        port = PORTS.get(parsed.scheme) if parsed.port is None else parsed.port
        host = parsed.host.lower()  # decodes what is written in Punycode
    except (httpx.InvalidURL, ValueError):
        return None
    if not port or not host or parsed.userinfo or "\\" in url:
        return None
    return f"{parsed.scheme}://{host}:{port}"


def require_allowed(url: str, origins: Collection[str]) -> None:
    """Raises RequestError webhook-not-allowed."""
    if not _is_allowed(url, origins):
        raise RequestError(
            "Expected a webhook whose scheme, host and port are one of ALTA_WEBHOOK_ORIGINS.", "webhook-not-allowed"
        )


def signature(secret: bytes, message_id: str, timestamp: int, body: str) -> str:
    """The value of ``webhook-signature``."""
    digest = hmac.new(secret, f"{message_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def webhook_client(timeout: float = TIMEOUT_S) -> httpx.Client:
    """No proxy and no credentials from the environment; a redirect would lead off the list of origins."""
    return httpx.Client(follow_redirects=False, trust_env=False, timeout=timeout)


def post_signed(client: httpx.Client, url: str, message_id: str, body: str, secret: bytes) -> str | None:
    """Send a message of JSON, signed. None where it was taken; else a slug: http-STATUS, timeout, not-reached: WHY."""
    timestamp = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(secret, message_id, timestamp, body),
    }
    try:
        # The answer's body is of no interest, and may be endless.
        with client.stream("POST", url, content=body.encode(), headers=headers) as response:
            return None if response.is_success else f"http-{response.status_code}"
    except httpx.TimeoutException:
        return "timeout"
    except httpx.HTTPError as error:
        return f"not-reached: {type(error).__name__}"


class Courier:
    """Sends what is due. Several may run at once, in as many processes."""

    def __init__(self, settings: Settings, catalog: Catalog, *, timeout: float = TIMEOUT_S) -> None:
        self._origins = settings.webhook_origins
        self._secret = settings.webhook_key
        self._catalog = catalog
        self._timeout = timeout

    def run(self, told: Event) -> None:
        """Until ``told`` is set."""
        wait = 0.0
        while not told.wait(wait):
            try:
                self.deliver_due()
                wait = POLL_S
            except ArchiveError as error:
                logger.warning("messages about jobs wait (%s)", error.slug)
                wait = AWAY_S

    def deliver_due(self) -> None:
        """Try every message once that is due now. Raises ArchiveError database-unavailable."""
        delivery = take_due(self._catalog)
        if delivery is None:
            return
        with webhook_client(self._timeout) as client:
            while delivery is not None:
                self._deliver(client, delivery)
                delivery = take_due(self._catalog)

    def _deliver(self, client: httpx.Client, delivery: Delivery) -> None:
        if not self._secret or not _is_allowed(delivery.url, self._origins):  # the settings have changed since
            give_up(self._catalog, delivery, NOT_ALLOWED)
            return
        error = post_signed(client, delivery.url, delivery.id, delivery.body, self._secret)
        if error is None:
            delivered(self._catalog, delivery)
            return
        logger.warning("job %s: its webhook was not told, attempt %d: %s", delivery.job_id, delivery.attempts, error)
        if error == "http-410":  # Gone: the receiver wants no more
            give_up(self._catalog, delivery, error)
        else:
            later(self._catalog, delivery, error)


def _is_allowed(url: str, origins: Collection[str]) -> bool:
    origin = origin_of(url)
    return origin is not None and origin in {origin_of(allowed) for allowed in origins}
