"""Listening for HL7 messages by MLLP (HL7 v3 Transport Specification: MLLP, release 1): framing and connections.

    <0x0B> message <0x1C> <0x0D>

What a message means is not known here: a function makes the answer, and the sender gets it in a frame of its own before
its next message is looked at.
"""

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from model.errors import InputError

__all__ = ["Frames", "MllpListener", "Overlong", "Unframed"]

logger = logging.getLogger(__name__)

START: Final = b"\x0b"
END: Final = b"\x1c"  # the carriage return after it is what some senders forget
BLANK: Final = b"\r\n"
CHUNK: Final = 2**16

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Unframed(Exception):
    """Bytes outside a frame. ``begun``: the first of them."""

    def __init__(self, begun: bytes) -> None:
        super().__init__("bytes outside a frame")
        self.begun = begun


class Overlong(Exception):
    """A message over the limit. ``begun``: its beginning."""

    def __init__(self, begun: bytes) -> None:
        super().__init__("a message over the limit")
        self.begun = begun


class Frames:
    """Bytes as they come, to the messages inside the frames."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()  # of an unfinished frame, its start included; or what came after a finished one

    @property
    def inside(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._held)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that these bytes complete. Raises Unframed, Overlong: then nothing more can be read."""
        searched = len(self._held)
        self._held += data
        while True:
            if not self._held.startswith(START):
                rest = bytes(self._held).lstrip(BLANK)
                self._held = bytearray(rest)
                searched = 0
                if not rest:
                    return
                if not rest.startswith(START):
                    raise Unframed(rest[:1024])
            end = self._held.find(END, searched)
            size = (len(self._held) if end < 0 else end) - 1
            if size > self._limit:
                raise Overlong(bytes(self._held[1:1025]))
            if end < 0:
                return
            whole = bytes(self._held[1:end])
            del self._held[: end + 1]
            searched = 0
            # A start inside a frame: the sender broke off there and began again.
            yield whole.rpartition(START)[2]


@dataclass
class MllpListener:
    """Answers messages until it is stopped.

    answer: from a message to its acknowledgement; called in a thread, one message after the other. reject: from what is
    no message, or its beginning, and a reason, to an acknowledgement. allow: addresses or networks that may connect;
    none: every one that reaches us. max_bytes: of one message. idle_s: between messages; begun_s: for the rest of a
    message that has begun.
    """

    answer: Callable[[bytes], bytes]
    reject: Callable[[bytes, str], bytes]
    allow: Sequence[str] = ()
    max_bytes: int = 16 * 2**20
    max_connections: int = 32
    idle_s: float = 3600
    begun_s: float = 60
    _connections: set[asyncio.Task[None]] = field(default_factory=set, init=False, repr=False)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event, init=False, repr=False)

    def __post_init__(self) -> None:
        self._networks = [_network(address) for address in self.allow]

    async def run(self, host: str, port: int, ready: Callable[[int], None] = lambda port: None) -> None:
        """Listen until ``stop``; ``ready`` is told the port. Messages that have come whole are answered before the end.

        Raises InputError cannot-listen.
        """
        with ThreadPoolExecutor(1, "hl7") as pool:  # the database has one writer at a time anyway

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.current_task()
                assert task is not None
                if self._refuses(writer):
                    writer.close()
                    return
                self._connections.add(task)
                try:
                    await self._converse(reader, writer, pool)
                except (ConnectionError, TimeoutError) as error:
                    logger.info("a connection ended: %s", type(error).__name__)
                finally:
                    self._connections.discard(task)
                    writer.close()
                    with contextlib.suppress(Exception):
                        await writer.wait_closed()

            try:
                server = await asyncio.start_server(connected, host, port, limit=CHUNK)
            except OSError as error:
                message = f"Cannot listen on {host}, port {port}: {error.strerror or error}."
                raise InputError(message, "cannot-listen") from error
            ready(server.sockets[0].getsockname()[1])
            try:
                await self._stopping.wait()
            finally:
                server.close()
                await asyncio.gather(*self._connections, return_exceptions=True)

    def stop(self) -> None:
        """End ``run``. To be called in its event loop, such as by a signal handler there."""
        self._stopping.set()

    def _refuses(self, writer: asyncio.StreamWriter) -> bool:
        peer = ipaddress.ip_address(str(writer.get_extra_info("peername")[0]).partition("%")[0])
        peer = getattr(peer, "ipv4_mapped", None) or peer
        if self._networks and not any(peer in network for network in self._networks):
            logger.warning("a connection from %s is not allowed", peer)
            return True
        if len(self._connections) >= self.max_connections:
            logger.warning("a connection from %s is one too many: there are %d", peer, self.max_connections)
            return True
        return False

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pool: ThreadPoolExecutor
    ) -> None:
        frames = Frames(self.max_bytes)
        loop = asyncio.get_running_loop()
        while data := await self._receive(reader, self.begun_s if frames.inside else self.idle_s):
            try:
                for message in frames.feed(data):
                    await self._send(writer, await loop.run_in_executor(pool, self.answer, message))
            except Unframed as error:
                reason = "Expected a message in an MLLP frame (0x0B ... 0x1C 0x0D), found bytes outside one."
                return await self._send(writer, self.reject(error.begun, reason))
            except Overlong as error:
                reason = f"Expected a message of at most {self.max_bytes} bytes, found a longer one."
                return await self._send(writer, self.reject(error.begun, reason))
        return None

    async def _receive(self, reader: asyncio.StreamReader, timeout_s: float) -> bytes:
        """What came next; nothing at the end of the connection, or when we stop. Raises TimeoutError."""
        if self._stopping.is_set():
            return b""
        reading, stopping = asyncio.ensure_future(reader.read(CHUNK)), asyncio.ensure_future(self._stopping.wait())
        try:
            done, _ = await asyncio.wait((reading, stopping), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise TimeoutError("nothing came in time")
            return reading.result() if reading in done else b""
        finally:
            for task in (reading, stopping):
                task.cancel()

    async def _send(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        writer.write(START + answer + END + b"\r")
        await asyncio.wait_for(writer.drain(), self.begun_s)


def _network(address: str) -> Network:
    try:
        return ipaddress.ip_network(address, strict=False)
    except ValueError:
        message = f"Expected an IP address or a network such as 10.1.2.0/24, found {address!r}."
        raise InputError(message, "bad-address") from None
