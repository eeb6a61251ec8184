"""HTTP as uvicorn speaks it, but for three things: heads are bounded, however they come; who does not end a request
is not waited for; nor is who does not take an answer."""

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["ANSWER_SECONDS", "HEAD_SECONDS", "TimedProtocol"]

# From a connection, or the first byte of its next request, to the end of the head; and for the rest of a body whose
# request was answered already.
HEAD_SECONDS: Final = 20.0
ANSWER_SECONDS: Final = 60.0  # for an answer to be taken,
SLOWEST_BYTES: Final = 16 * 2**10  # and a second for as many bytes of it
PIECE: Final = 4 * 2**10  # of a head: what comes whole in one piece h11 does not measure


class TimedProtocol(H11Protocol):
    """uvicorn bounds the size of a head that comes in pieces (16 KiB) and the pause between two requests; all else it
    awaits for ever, and a request that it begins behind an answer nobody takes would keep a place of the service."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._request_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # told of every byte that waits
        self._await_request()

    def data_received(self, data: bytes) -> None:
        while len(data) > PIECE and self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            super().data_received(data[:PIECE])
            data = data[PIECE:]
        if not self.transport.is_closing():
            super().data_received(data)
        if self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE:
            self._await_request()
        else:
            self._forget_request()

    def handle_events(self) -> None:
        if self.flow.write_paused and self.conn.our_state in (h11.IDLE, h11.DONE):
            self.flow.pause_reading()  # the next request begins when the answer before it was taken
        else:
            super().handle_events()

    def pause_writing(self) -> None:
        super().pause_writing()
        seconds = ANSWER_SECONDS + self.transport.get_write_buffer_size() / SLOWEST_BYTES
        self._answer_timer = self.loop.call_later(seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._forget_answer()
        super().resume_writing()
        if self.conn.our_state in (h11.IDLE, h11.DONE) and not self.transport.is_closing():
            self.flow.resume_reading()
            self.handle_events()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_request()
        self._forget_answer()
        super().connection_lost(exc)

    def _await_request(self) -> None:
        if self._request_timer is None:
            self._request_timer = self.loop.call_later(HEAD_SECONDS, self._request_is_late)

    def _forget_request(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _forget_answer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def _request_is_late(self) -> None:
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE:
            self.send_400_response(f"Expected the head of the request within {HEAD_SECONDS:.0f} s.")
        else:  # it has its answer
            self.transport.close()
