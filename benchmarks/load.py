"""Load on an HTTP server from a process of its own, light enough to leave the processor to the server.

Requests are bytes made beforehand, sent over connections that stay open; of an answer only the status and the length
are read.
"""

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count

import numpy as np

__all__ = ["Load", "arrive", "form_request", "json_request", "keep_busy"]


@dataclass(frozen=True)
class Load:
    """seconds: of the load. answers: (status, latency in s) of every request; status 0: the connection broke.

    processor_s: processor time of the client.
    """

    seconds: float
    answers: list[tuple[int, float]]
    processor_s: float

    @property
    def client_share(self) -> float:
        """Of one core."""
        return self.processor_s / self.seconds

    @property
    def rate(self) -> float:
        """Requests answered with success, a second."""
        return len(self.latencies()) / self.seconds

    @property
    def statuses(self) -> dict[int, int]:
        return dict(sorted(Counter(status for status, _ in self.answers).items()))

    def latencies(self, wanted: Callable[[int], bool] = lambda status: status == 200) -> list[float]:
        return [latency for status, latency in self.answers if wanted(status)]

    def percentiles_ms(self, wanted: Callable[[int], bool] = lambda status: status == 200) -> tuple[float, ...]:
        """50, 95, 99; NaN where there is no such answer."""
        latencies = self.latencies(wanted)
        return tuple(1000 * np.percentile(latencies, (50, 95, 99))) if latencies else (float("nan"),) * 3


def json_request(path: str, body: bytes) -> bytes:
    return _request(path, "application/json", body)


def form_request(path: str, file: bytes) -> bytes:
    """A multipart form with one file in ``files``."""
    head = b'--edge\r\nContent-Disposition: form-data; name="files"; filename="film"\r\n\r\n'
    return _request(path, "multipart/form-data; boundary=edge", head + file + b"\r\n--edge--\r\n")


def keep_busy(port: int, requests: Sequence[bytes], clients: int, seconds: float, most: int | None = None) -> Load:
    """Closed loop: every client sends its next request when it has its answer, for ``seconds`` or ``most`` requests."""
    return _elsewhere(_closed, port, requests, clients, seconds, most)


def arrive(port: int, requests: Sequence[bytes], rate: float, seconds: float) -> Load:
    """Open loop: ``rate`` requests come every second at random (Poisson), however many are unanswered."""
    return _elsewhere(_open, port, requests, rate, seconds)


def _request(path: str, kind: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _elsewhere(work: Callable[..., object], *arguments: object) -> Load:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_run, work, *arguments).result()


def _run(work: Callable[..., object], *arguments: object) -> Load:
    began, processor = time.perf_counter(), time.process_time()
    answers = asyncio.run(work(*arguments))  # type: ignore[arg-type]
    seconds = time.perf_counter() - began
    return Load(seconds, answers, time.process_time() - processor)


Answers = list[tuple[int, float]]


async def _closed(port: int, requests: Sequence[bytes], clients: int, seconds: float, most: int | None) -> Answers:
    answers: Answers = []
    numbers = count()
    until = time.perf_counter() + seconds

    async def client() -> None:
        connection = _Connection(port)
        while time.perf_counter() < until:
            number = next(numbers)
            if most is not None and number >= most:
                break
            answers.append(await connection.ask(requests[number % len(requests)]))
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


async def _open(port: int, requests: Sequence[bytes], rate: float, seconds: float) -> Answers:
    idle: list[_Connection] = []
    draw = np.random.default_rng(0)

    async def one(number: int) -> tuple[int, float]:
        connection = idle.pop() if idle else _Connection(port)
        answer = await connection.ask(requests[number % len(requests)])
        idle.append(connection)
        return answer

    began, due, asked = time.perf_counter(), 0.0, []
    while due < seconds:
        await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
        asked.append(asyncio.create_task(one(len(asked))))
        due += draw.exponential(1 / rate)
    answers = await asyncio.gather(*asked)
    for connection in idle:
        connection.close()
    return list(answers)


class _Connection:
    """Opened when first needed and again where the server closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None

    async def ask(self, request: bytes) -> tuple[int, float]:
        began = time.perf_counter()
        try:
            if self._writer is None:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            assert self._reader is not None
            self._writer.write(request)
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            await self._reader.readexactly(int(length))
            if b"connection: close" in head:
                self.close()
            return int(head.split(b" ", 2)[1]), time.perf_counter() - began
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return 0, time.perf_counter() - began

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = self._reader = None
