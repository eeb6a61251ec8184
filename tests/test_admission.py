"""Only so many requests are worked on; the next is turned away unread; who leaves is no longer worked for."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest
from fastapi import FastAPI
from starlette.types import Message

from model.errors import ImageError
from service import admission
from service.app import create_app
from service.inference import Inference
from service.query import uploads
from tests.service_samples import serve, settings_for
from tests.test_batching import IMAGE_TO_TEXT, TEXT_TO_IMAGE, GatedEncoder, Waiting

pytest_plugins = ["tests.service_fixtures"]


def test_one_request_too_many_is_turned_away_unread_and_others_go_on(archive_folder: Path) -> None:
    encoder = GatedEncoder()
    with (
        serve(settings_for(archive_folder, max_requests=2), encoder) as client,
        ThreadPoolExecutor(4) as callers,
    ):
        waiting = Waiting(client, encoder, callers)
        taken = [waiting.occupy(), waiting.ask("the second")]
        waiting.until_waiting(texts=1)

        refused = client.post(TEXT_TO_IMAGE, content=never_read(), headers={"content-type": "application/json"})
        assert (refused.status_code, refused.json()["type"]) == (429, "/problems/overloaded")
        assert refused.headers["Retry-After"] == "1" and refused.headers["X-Request-ID"]
        assert client.get("/v1/model").status_code == 429
        for path in ("/livez", "/metrics", "/", "/openapi.json", "/problems/overloaded"):
            assert client.get(path).status_code == 200
        assert sum(waiting.inference.depths.values()) == 1
        ready = callers.submit(client.get, "/readyz")  # tries the encoder itself

        encoder.gate.set()
        assert [answer.result()[0] for answer in taken] == [200, 200] and ready.result().status_code == 200
        assert client.get("/v1/model").status_code == 200


def never_read() -> Iterator[bytes]:
    yield b"{"
    raise AssertionError("the body of a request that is turned away was read")


def test_a_body_that_is_turned_away_costs_no_place(archive_folder: Path) -> None:
    """Twenty more than may be: each is answered while the two let in still wait, and none is queued."""
    encoder = GatedEncoder()
    with (
        serve(settings_for(archive_folder, max_requests=2), encoder) as client,
        ThreadPoolExecutor(24) as callers,
    ):
        waiting = Waiting(client, encoder, callers)
        taken = [waiting.occupy(), waiting.ask("the second")]
        waiting.until_waiting(texts=1)
        more = [waiting.ask(f"opacity {number}") for number in range(20)]
        assert [answer.result(10)[0] for answer in more] == [429] * 20
        assert not any(answer.done() for answer in taken)
        encoder.gate.set()
        assert [answer.result(10)[0] for answer in taken] == [200, 200]
        assert len(encoder.calls) == 2


def test_thirty_two_clients_are_served_by_default(archive_folder: Path) -> None:
    encoder = GatedEncoder()
    with serve(settings_for(archive_folder), encoder) as client, ThreadPoolExecutor(33) as callers:
        waiting = Waiting(client, encoder, callers)
        asked = [waiting.occupy(), *(waiting.ask(f"opacity {number}") for number in range(32))]
        waiting.until_waiting(texts=32)
        encoder.gate.set()
        assert [answer.result(10)[0] for answer in asked] == [200] * 33
        assert encoder.calls == [1, 32]


class Connection:
    """A client of one request, message by message, as a server sees it."""

    def __init__(self, app: FastAPI, body: bytes, path: str = TEXT_TO_IMAGE) -> None:
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
            "app": app,
        }
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._app = app
        self.status = 0
        self.body = b""
        if body:
            self._messages.put_nowait({"type": "http.request", "body": body, "more_body": False})

    async def answered(self) -> int:
        await self._app(self.scope, self._messages.get, self._send)
        return self.status

    def hang_up(self) -> None:
        self._messages.put_nowait({"type": "http.disconnect"})

    async def _send(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")


def asking(text: str) -> bytes:
    return json.dumps({"text": text, "evidence": False}).encode()


async def until_so(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def running(
    folder: Path, work: Callable[[FastAPI, GatedEncoder, Inference], Awaitable[None]], **changes: object
) -> None:
    """``work`` on the app in one event loop."""

    async def run() -> None:
        encoder = GatedEncoder()
        app = create_app(settings_for(folder, **changes), encoder=encoder)
        async with app.router.lifespan_context(app):
            try:
                await work(app, encoder, app.state.resources.encoders.configured)
            finally:
                encoder.gate.set()

    asyncio.run(run())


def test_a_client_who_hangs_up_leaves_the_queue_and_its_place_is_free(archive_folder: Path) -> None:
    async def work(app: FastAPI, encoder: GatedEncoder, inference: Inference) -> None:
        encoder.close_gate()
        stays, leaves = Connection(app, asking("stays")), Connection(app, asking("leaves"))
        first = asyncio.create_task(stays.answered())
        await until_so(encoder.entered.is_set)
        second = asyncio.create_task(leaves.answered())
        await until_so(lambda: inference.depths["texts"] == 1)
        assert await Connection(app, asking("third")).answered() == 429
        leaves.hang_up()
        assert await second == 499 and inference.depths["texts"] == 0
        third = asyncio.create_task(Connection(app, asking("third")).answered())
        await until_so(lambda: inference.depths["texts"] == 1)
        encoder.gate.set()
        assert [await first, await third] == [200, 200]
        assert encoder.calls == [1, 1]

    running(archive_folder, work, max_requests=2)


def test_a_client_who_hangs_up_does_not_take_a_decoder(archive_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoding, go_on = threading.Event(), threading.Event()
    decoded: list[int] = []

    def decode(data: bytes, *others: object) -> NoReturn:
        decoding.set()
        decoded.append(len(data))
        assert go_on.wait(10)
        raise ImageError("No picture.", "not-an-image")

    monkeypatch.setattr(uploads, "decode_upload", decode)

    def sent(app: FastAPI) -> Connection:
        body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="f"\r\n\r\nfilm\r\n--x--\r\n'
        connection = Connection(app, body, IMAGE_TO_TEXT)
        connection.scope["headers"][1] = (b"content-type", b"multipart/form-data; boundary=x")
        return connection

    async def work(app: FastAPI, encoder: GatedEncoder, inference: Inference) -> None:
        first = asyncio.create_task(sent(app).answered())
        await until_so(decoding.is_set)
        leaves = sent(app)
        second = asyncio.create_task(leaves.answered())
        decoder = app.state.resources.decoder
        await until_so(lambda: decoder._threads._work_queue.qsize() == 1)
        leaves.hang_up()
        assert await second == 499
        go_on.set()
        assert await first == 415 and len(decoded) == 1

    running(archive_folder, work)


def test_a_body_that_does_not_come_holds_no_place(archive_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "SILENCE_SECONDS", 0.05)

    async def work(app: FastAPI, encoder: GatedEncoder, inference: Inference) -> None:
        silent = Connection(app, b"")
        assert await silent.answered() == 408 and b"/problems/request-timeout" in silent.body
        assert await Connection(app, asking("next")).answered() == 200

    running(archive_folder, work, max_requests=1)


def test_a_body_that_drips_holds_no_place(archive_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(0, 10_000, 40))  # each piece comes 40 s after the one before
    monkeypatch.setattr(admission, "monotonic", lambda: float(next(seconds)))

    async def work(app: FastAPI, encoder: GatedEncoder, inference: Inference) -> None:
        drips = Connection(app, b"")
        for _ in range(5):
            drips._messages.put_nowait({"type": "http.request", "body": b" ", "more_body": True})
        assert await drips.answered() == 408

    running(archive_folder, work)
