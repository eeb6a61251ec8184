"""How many requests are worked on at once, and for how long.

One more is turned away: a queue that grows serves nobody. What is turned away has cost nothing: the answer goes out
before the body is read. What is let in has a thread from its beginning to its end, and a ``Caller``: it leaves every
queue when its client goes or its time is up.
"""

import asyncio
from time import monotonic
from typing import Final

import anyio
from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .body_limits import takes_instances
from .caller import Caller, no_caller
from .errors import RETRY_AFTER, problem_response

__all__ = ["Admission"]

WORK: Final = ("/v1/", "/dicomweb/")  # not health, metrics, documents and the page: they are always answered
SEEN_ALWAYS: Final = "/v1/operations"  # as metrics are: when nothing else is answered somebody looks at it

SILENCE_SECONDS: Final = 60.0  # between two pieces of a body, whose sender holds a place
SLOWEST_BYTES: Final = 16 * 2**10  # a second on the whole: who drips holds one as well


class Admission:
    """ASGI layer. limit: requests at once. seconds: for an answer, from the end of the request's body."""

    def __init__(self, app: ASGIApp, limit: int, seconds: float) -> None:
        self._app = app
        self._limit, self._seconds = limit, seconds
        self._at_work = 0  # the event loop's thread alone counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(WORK) or scope["path"] == SEEN_ALWAYS:
            with no_caller():
                await self._app(scope, receive, send)
            return
        if self._at_work >= self._limit:
            detail = f"Expected at most {self._limit} requests at once, found more. Send it again a little later."
            headers = {"Retry-After": RETRY_AFTER["overloaded"]}
            await problem_response(Request(scope), "overloaded", detail, headers=headers)(scope, receive, send)
            return
        self._at_work += 1
        try:
            if takes_instances(scope["method"], scope["path"]):  # at a pace of their own (``receiving.body``)
                with no_caller():
                    await self._app(scope, receive, send)
            else:
                await self._answer(scope, receive, send)
        finally:
            self._at_work -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = Caller(self._seconds)
        body = _Body(receive, caller)
        try:
            with caller.present():
                await self._app(scope, body.receive, send)
        finally:
            body.close()


class _Body:
    """A request's body at a fair pace; after its end, whether its client is still there."""

    def __init__(self, receive: Receive, caller: Caller) -> None:
        self._receive = receive
        self._caller = caller
        self._came, self._waited = 0, 0.0
        self._watch: asyncio.Task[Message] | None = None

    async def receive(self) -> Message:
        if self._watch is not None:
            return await asyncio.shield(self._watch)
        message = await self._next()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._caller.begin()
            self._watch = asyncio.create_task(self._until_left())
        return message

    def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    async def _next(self) -> Message:
        began = monotonic()
        with anyio.move_on_after(SILENCE_SECONDS):
            message = await self._receive()
            self._came += len(message.get("body", b""))
            self._waited += monotonic() - began
            if self._waited <= SILENCE_SECONDS + self._came / SLOWEST_BYTES:
                return message
        # Not an error of ours: FastAPI would take any other exception here for a body that it cannot parse.
        raise HTTPException(408, f"Expected at least {SLOWEST_BYTES // 2**10} KiB of the body a second, found less.")

    async def _until_left(self) -> Message:
        message = await self._receive()
        self._caller.leave()
        return message
