"""The server: it ends on SIGTERM without losing what it took."""

import logging
import os
import signal
import socket
import sys
import threading
from time import monotonic
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from .http_protocol import TimedProtocol
from .settings import Settings

__all__ = ["Server"]

log = logging.getLogger(__name__)

AT_ONCE: Final = 0.0
CLOSING_SECONDS: Final = 5.0  # for what the app holds open, after the last request


class Server(uvicorn.Server):
    """On SIGTERM or SIGINT /readyz says that the service stops, for ``drain_s`` seconds in which requests still come;
    then no more are accepted, those under way are answered, and what ``app`` holds open is closed. Again: at once.

    Exit code 1 where requests had not ended within ``shutdown_timeout_s``: a thread cannot be stopped from outside.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        # uvicorn's access log holds study UIDs; the service logs route templates only.
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            access_log=False,
            log_config=None,
            http=TimedProtocol,
            # Of nobody else: who could name any address would be in the audit under it.
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            timeout_graceful_shutdown=settings.shutdown_timeout_s,
        )
        super().__init__(config)
        self._app = app
        self._drain_s = settings.drain_s
        self._leaves_after_s = settings.shutdown_timeout_s + CLOSING_SECONDS
        self._closes_at: float | None = None

    def run_until_told(self) -> None:
        """``run``, with exit code 0 after SIGTERM, which uvicorn raises once more when it has ended."""
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
        self.run()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        readiness = getattr(self._app.state, "readiness", None)  # none before everything is open
        if readiness is not None:
            readiness.stopping = True
        again = self._closes_at is not None
        self._closes_at = AT_ONCE if again else monotonic() + self._drain_s
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        ends = await super().on_tick(counter)
        return ends and (self._closes_at is None or monotonic() >= self._closes_at)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._closes_at is not None:
            leaving = threading.Timer(self._leaves_after_s, _leave)
            leaving.daemon = True
            leaving.start()
        await super().shutdown(sockets)


def _leave() -> None:
    log.error("requests under way have not ended within ALTA_SHUTDOWN_TIMEOUT_S; they are cut off")
    os._exit(1)
