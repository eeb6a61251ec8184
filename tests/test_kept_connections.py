"""Requests on one connection, one after the other: none inherits the caller of the one before it.

A server that paused reading a large body goes on in the context of the request that reads it, and so do the tasks of
the requests that come after it on the connection.
"""

import asyncio
from concurrent.futures import Future

import pytest
from starlette.types import Receive, Scope, Send

from service.admission import Admission
from service.caller import Caller, wait_for


@pytest.mark.parametrize("path", ["/dicomweb/studies", "/v1/studies", "/readyz", "/v1/search"])
def test_a_request_waits_for_itself(path: str) -> None:
    results: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        done: Future[int] = Future()
        done.set_result(7)
        results.append(wait_for(done))

    async def none() -> None:
        raise AssertionError("nothing is received or sent")

    before = Caller(60)
    before.leave()
    with before.present():
        asyncio.run(Admission(app, limit=1, seconds=60)({"type": "http", "method": "POST", "path": path}, none, none))
    assert results == [7]
