"""The service on a real socket: in a thread of the tests, or as a process of its own."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from service.app import create_app
from service.serving import Server
from service.settings import Settings
from tests.fakes import FakeEncoder

__all__ = ["live", "process", "until"]

PATIENCE = 180.0  # seconds, on a busy host


def until(holds: Callable[[], object], what: str) -> None:
    ends = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < ends, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.01)


@contextmanager
def live(settings: Settings, encoder: FakeEncoder | None = None) -> Iterator[str]:
    """Its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(create_app(settings, encoder=encoder or FakeEncoder()), settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive(), "the service starts")
            assert server.started
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


@contextmanager
def process(module: str, *arguments: object, environment: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen, str]]:
    """``python -m module arguments`` with ALTA_PORT set, once it answers, and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    started = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=Path(__file__).parent.parent,
        env={**environment, "ALTA_PORT": str(port)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: answers(url) or started.poll() is not None, "the service answers")
        assert started.poll() is None, started.stderr.read() if started.stderr else ""
        yield started, url
    finally:
        started.kill()
        started.communicate()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez").status_code == 200
    except httpx.TransportError:
        return False
