"""HTTP to one DICOMweb server that may be slow, overloaded, broken or somebody else's: every answer has a limit.

ArchiveError
  PeerError      the run ends: the server refuses us, is unreachable, or has no DICOMweb there
  FetchFailed    one object or one search could not be had; ``slug`` is the reason that is counted
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth

from model.errors import ArchiveError

from ..intake.examine import MAX_FILE_BYTES

__all__ = [
    "FAILURES",
    "TIMEOUT",
    "FetchFailed",
    "Origin",
    "PeerError",
    "Retry",
    "open_session",
    "pieces",
    "raise_for_status",
]

R = TypeVar("R")

CHUNK: Final = 2**18
TIMEOUT: Final = (10.0, 60.0)  # seconds to connect, and between two pieces of an answer
RESPONSE_SECONDS: Final = 900.0  # a whole answer: a server that drips never times out between two pieces
SEARCH_BYTES: Final = 64 * 2**20
RETRIEVE_BYTES: Final = MAX_FILE_BYTES + 2**20  # with the boundaries around the object
MAX_REDIRECTS: Final = 5
BUSY: Final = (429, 502, 503, 504)

# What can keep one object or one search from coming, and may be over by the next run.
FAILURES: Final = (
    "server-busy",
    "server-error",
    "timeout",
    "connection-lost",
    "forbidden",
    "gone",
    "redirected-elsewhere",
    "wrong-content-type",
    "bad-answer",
    "answer-too-large",
    "wrong-instance",
    "pages-unsupported",
)


@dataclass(frozen=True)
class Origin:
    """A configured server. ``url``: of its DICOMweb root. ``credentials``: ``user:password`` or ``Bearer TOKEN``."""

    name: str
    url: str
    credentials: str | None = field(default=None, repr=False)


class PeerError(ArchiveError):
    """The server as a whole cannot be used. slug: peer-refused, peer-unreachable, no-dicomweb, bad-certificate."""

    slug = "peer-unreachable"


class FetchFailed(ArchiveError):
    """One thing could not be had. ``passing``: worth another try at once, after ``wait`` seconds if the server says."""

    def __init__(self, message: str, slug: str, passing: bool = False, wait: float = 0.0) -> None:
        super().__init__(message, slug)
        self.passing = passing
        self.wait = wait


@dataclass(frozen=True)
class Retry:
    """Calls again what failed in passing: exponential back-off with jitter, no earlier than the server asks for."""

    attempts: int = 6
    first_seconds: float = 0.5
    most_seconds: float = 60.0  # also of what a server may ask for
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random

    def __call__(self, call: Callable[[], R]) -> R:
        """Raises PeerError and FetchFailed, the last one when no attempt is left."""
        for attempt in range(self.attempts):
            try:
                return _translated(call)
            except FetchFailed as error:
                if not error.passing or attempt + 1 == self.attempts:
                    raise
                backed_off = self.first_seconds * 2**attempt * (0.5 + self.chance())
                self.sleep(min(max(backed_off, error.wait), self.most_seconds))
        raise AssertionError("attempts is at least 1")


def open_session(origin: Origin) -> requests.Session:
    """Certificates are verified (REQUESTS_CA_BUNDLE names a hospital's own), redirects stay at the origin."""
    session = _Session(origin.url)
    session.mount("http://", _BoundedAdapter())
    session.mount("https://", _BoundedAdapter())
    if origin.credentials:
        kind, _, token = origin.credentials.partition(" ")
        if kind.lower() == "bearer":
            session.auth = _Bearer(token.strip())
        else:
            user, _, password = origin.credentials.partition(":")
            session.auth = HTTPBasicAuth(user.encode(), password.encode())
    return session


def raise_for_status(response: requests.Response) -> None:
    """Raises PeerError: peer-refused (401); FetchFailed."""
    status = response.status_code
    if status < 300:
        return
    if status == 401:
        raise PeerError(
            f"{_place(response.url)} answers 401: it wants credentials, or others than"
            " ALTA_DICOMWEB_CREDENTIALS has for it.",
            "peer-refused",
        )
    message = f"The server answered {status}."
    if status == 403:
        raise FetchFailed(message, "forbidden")
    if status in (404, 410):
        raise FetchFailed(message, "gone")
    if status in BUSY:
        wait = _retry_after(response.headers.get("Retry-After", ""))
        raise FetchFailed(message, "server-busy", passing=True, wait=wait)
    raise FetchFailed(message, "server-error" if status >= 500 else "bad-answer")


def pieces(response: requests.Response) -> Iterator[bytes]:
    """The body of a streamed answer. Raises FetchFailed, never one of requests' errors, which are OSErrors: a store
    would take those for its disk's."""
    chunks = response.iter_content(CHUNK)
    while (chunk := _translated(lambda: next(chunks, None))) is not None:
        yield chunk


def _translated(call: Callable[[], R]) -> R:
    try:
        return call()
    except requests.HTTPError as error:  # dicomweb-client raises it for any status from 400
        if error.response is not None:
            raise_for_status(error.response)
        raise FetchFailed("The server answered with an error.", "server-error") from None
    except requests.exceptions.SSLError as error:
        raise PeerError(f"The server's certificate is not accepted: {error}.", "bad-certificate") from None
    except requests.Timeout:
        raise FetchFailed("The server did not answer in time.", "timeout", passing=True) from None
    except requests.TooManyRedirects:
        raise FetchFailed(f"More than {MAX_REDIRECTS} redirects.", "bad-answer") from None
    except requests.JSONDecodeError:
        raise FetchFailed("Expected an answer of type application/dicom+json.", "wrong-content-type") from None
    except (RecursionError, ValueError):  # JSON a thousand levels deep; what dicomweb-client cannot make sense of
        raise FetchFailed("The answer cannot be read.", "bad-answer") from None
    except requests.RequestException as error:
        timed_out = "timed out" in str(error)  # while the answer came, requests calls it a ConnectionError
        slug = "timeout" if timed_out else "connection-lost"
        raise FetchFailed(f"The connection broke: {type(error).__name__}.", slug, passing=True) from None


def _retry_after(value: str) -> float:
    """Seconds of a Retry-After header (RFC 9110 10.2.3), which is a number or a date; 0 for anything else."""
    if value.strip().isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max((until - datetime.now(UTC)).total_seconds(), 0.0)


def _place(url: str) -> tuple[str, str, int | None] | str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


class _Session(requests.Session):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.max_redirects = MAX_REDIRECTS
        self._origin = _place(url)

    def request(self, method: str, url: str, **arguments: Any) -> requests.Response:  # type: ignore[override]
        # dicomweb-client names the host without its port, which is another host.
        headers = {key: value for key, value in (arguments.get("headers") or {}).items() if key.lower() != "host"}
        return super().request(method, url, **(arguments | {"headers": headers}))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None and _place(urljoin(resp.url, target)) != self._origin:
            resp.close()
            raise FetchFailed(
                "The server redirects to another origin, which is not configured.", "redirected-elsewhere"
            )
        return target


class _Bearer(AuthBase):
    """An object rather than a header: requests would prefer a ~/.netrc to a header."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _BoundedAdapter(HTTPAdapter):
    """Searches are read at once by requests, objects as a stream: hence two limits."""

    def send(self, request: requests.PreparedRequest, stream: bool = False, **arguments: Any) -> requests.Response:  # type: ignore[override]
        response = super().send(request, stream=stream, **arguments)
        response.raw = _Bounded(response.raw, RETRIEVE_BYTES if stream else SEARCH_BYTES)
        return response


class _Bounded:
    """urllib3's response, which ends when it is too long or too slow. Counts what is left after decompression."""

    def __init__(self, raw: Any, most: int) -> None:
        self._raw = raw
        self._most = most
        self._until = time.monotonic() + RESPONSE_SECONDS

    def stream(self, *arguments: Any, **options: Any) -> Iterator[bytes]:
        size = 0
        for chunk in self._raw.stream(*arguments, **options):
            size += len(chunk)
            if size > self._most:
                self._raw.close()
                raise FetchFailed(f"The answer has more than {self._most} bytes.", "answer-too-large")
            if time.monotonic() > self._until:
                self._raw.close()
                raise FetchFailed(f"The answer took more than {RESPONSE_SECONDS:.0f} s.", "timeout", passing=True)
            yield chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)
