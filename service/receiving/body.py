"""The body of a request in a thread, piece by piece as it comes; who sends too slowly is cut off."""

from collections.abc import AsyncIterator, Iterator
from time import monotonic
from typing import Final

import anyio
import anyio.from_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from ..errors import RequestError

__all__ = ["body_of"]

SILENCE_SECONDS: Final = 60.0  # between two pieces of a body, whose sender holds a thread of the service
SLOWEST_BYTES: Final = 16 * 2**10  # a second on the whole: who drips holds one as well


def body_of(request: Request) -> Iterator[bytes]:
    """The request's body as it comes, for a thread. Raises RequestError request-timeout: it comes too slowly."""
    stream = request.stream()
    came, waited = 0, 0.0
    while True:
        began = monotonic()
        chunk = anyio.from_thread.run(_next, stream)
        waited += monotonic() - began
        if chunk is None:
            return
        came += len(chunk)
        if waited > SILENCE_SECONDS + came / SLOWEST_BYTES:
            message = f"Expected at least {SLOWEST_BYTES // 2**10} KiB a second, found {came} bytes in {waited:.0f} s."
            raise RequestError(message, "request-timeout")
        yield chunk


async def _next(stream: AsyncIterator[bytes]) -> bytes | None:
    try:
        with anyio.fail_after(SILENCE_SECONDS):
            return await anext(stream, None)
    except TimeoutError:  # an OSError, which a store would take for its disk's
        raise RequestError(f"Nothing came for {SILENCE_SECONDS:.0f} s.", "request-timeout") from None
    except ClientDisconnect:
        raise RequestError("The sender ended the connection.", "bad-multipart") from None
