"""Functions on files in processes of their own: a file that crashes, hangs or bloats its decoder costs only itself.

Decoders are C code and files are hostile. Each worker is one process with one call at a time, so it is always known
whose file ended it. The kernel enforces both limits, because a decoder that hangs may hold Python's lock: an alarm
ends the process after ``seconds``, and what it may allocate is bounded by ``memory``.
"""

import contextlib
import contextvars
import logging
import multiprocessing
import os
import pickle
import queue
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final, ParamSpec, TypeVar

from model.errors import ImageError

__all__ = ["LOST", "MEMORY", "SECONDS", "DecoderPool"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

SECONDS: Final = 120.0  # the slowest usable file, 36 million pixels of JPEG 2000, takes a tenth of it on one slow core
MEMORY: Final = 2 * 2**30  # bytes beside what a fresh worker has; the largest usable file takes half of it
# Slugs of what a limit or a crash cost. They may be the machine's fault, so they are worth another try.
LOST: Final = ("decoder-crashed", "decoder-timeout", "too-much-memory")
START_SECONDS: Final = 120.0  # a busy host imports slowly
THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class DecoderPool:
    """Calls functions in ``workers`` processes, each started when it is first needed; 0: in this process. Thread-safe.

    At most ``workers`` calls (one without workers) run at once; others wait their turn. Functions, arguments and
    results must pickle, and a function must be importable by its name.
    """

    def __init__(self, workers: int, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self._workers = [_Worker(seconds, memory) for _ in range(workers)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers or 1, thread_name_prefix="decoder")

    def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """The future's result is what ``function`` returns or raises.

        Besides ImageError: decoder-crashed, decoder-timeout, too-much-memory. A process that has served other files
        before may have been left broken by them: what crashes it is tried once more in a fresh one.
        """
        # In the caller's context, so that what is logged there names the caller's request.
        return self._threads.submit(contextvars.copy_context().run, self._run, function, args, kwargs)

    def __call__(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """``submit``, and wait for the result."""
        return self.submit(function, *args, **kwargs).result()

    def start(self) -> bool:
        """Whether worker processes can run on this host; starts one."""
        if not self._workers:
            return False
        try:
            self(os.getpid)
        except ImageError as error:
            logger.warning("%s", error)
            return False
        return True

    def warm_up(self) -> None:
        """Start every process without waiting for it, so that the first call need not."""
        for _ in self._workers:
            self.submit(os.getpid)

    def close(self) -> None:
        """End the processes at once, whatever they are doing: they only read."""
        for worker in self._workers:
            worker.close()
        self._threads.shutdown(cancel_futures=True)

    def _run(self, function: Callable[..., R], args: tuple[object, ...], kwargs: dict[str, object]) -> R:
        if not self._workers:
            return function(*args, **kwargs)
        worker = self._idle.get()
        try:
            return worker.run(function, args, kwargs)  # type: ignore[return-value]
        finally:
            self._idle.put(worker)


class _Lost(Exception):
    """The process ended before it answered. ``used``: it had answered others before."""

    def __init__(self, exit_code: int | None, used: bool) -> None:
        self.exit_code = exit_code
        self.used = used


class _Worker:
    """One process, replaced when it is lost or spent. Used by one thread at a time, but for ``close``."""

    def __init__(self, seconds: float, memory: int) -> None:
        self._limits = (seconds, memory)
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._used = False
        self._closed = False
        self._changing = threading.Lock()

    def run(self, function: object, args: object, kwargs: object) -> object:
        request = pickle.dumps((function, args, kwargs))
        try:
            answer = self._ask(request)
        except _Lost as lost:
            if not lost.used or lost.exit_code == -signal.SIGALRM:
                raise self._error(lost) from None
            try:
                answer = self._ask(request)
            except _Lost as again:
                raise self._error(again) from None
        error, value, spent = pickle.loads(answer)
        if spent:
            self._end()
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        with self._changing:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def _ask(self, request: bytes) -> bytes:
        connection = self._start()
        used, self._used = self._used, True
        try:
            connection.send_bytes(request)
            return self._receive(connection)
        except (EOFError, OSError):
            raise _Lost(self._end(), used) from None

    def _start(self) -> Connection:
        if self._connection is not None:
            return self._connection
        # Not fork: the caller may hold threads, database connections and a GPU.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__package__ or __name__])
        ours, theirs = context.Pipe()
        with self._changing:
            if self._closed:
                raise ImageError("The worker processes have been ended.", "decoder-crashed")
            process = context.Process(target=_work, args=(theirs, *self._limits), daemon=True)
            try:
                with _one_thread_each():
                    process.start()
            except OSError as error:
                ours.close()
                raise ImageError(f"A worker process cannot start: {error}.", "decoder-crashed") from error
            finally:
                theirs.close()  # so that its end is the end of the pipe
            self._process = process  # only now: Ctrl-C may come while it starts, and what never ran cannot be ended
        self._connection, self._used = ours, False
        try:
            self._receive(ours, START_SECONDS)
        except (EOFError, OSError):
            code = self._end()
            raise ImageError(f"A worker process cannot start: it ended with {code}.", "decoder-crashed") from None
        return ours

    def _receive(self, connection: Connection, seconds: float | None = None) -> bytes:
        assert self._process is not None
        wait([connection, self._process.sentinel], seconds)
        if not connection.poll():  # nothing said, and dead or not come up: some other fork may hold the pipe open
            raise EOFError
        return connection.recv_bytes()

    def _end(self) -> int | None:
        """End the process. Returns its exit code, minus the signal that ended it."""
        with self._changing:
            process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if process is None:
            return None
        process.join(1)  # of one that is dying by itself, for its own exit code
        process.kill()
        process.join()
        code = process.exitcode
        process.close()
        return code

    def _error(self, lost: _Lost) -> ImageError:
        if lost.exit_code == -signal.SIGALRM:
            message = f"The file kept its decoder busy for {self._limits[0]:g} s, the limit."
            return ImageError(message, "decoder-timeout")
        return ImageError("The file ended the process that decoded it.", "decoder-crashed")


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that start meanwhile have one thread for matrix products: small ones wait longer for their threads than
    they take, and several decoders would fight over the cores. It is read once, when NumPy is loaded."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _work(connection: Connection, seconds: float, memory: int) -> None:
    """The loop of a worker process: it answers with (error, value, whether another has to take its place)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, even where Python does not get to run
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold a patient's image
    _end_with_parent()
    quiet = os.open(os.devnull, os.O_WRONLY)
    heard = os.dup(2)
    # Decoders leak on broken files: a process that has grown is replaced before its rest is too small for a good one.
    spent_at = _limit_memory(memory)
    connection.send_bytes(b"ready")
    while True:
        try:
            request = connection.recv_bytes()
        except EOFError:
            return
        error: BaseException | None = None
        value: object = None
        signal.setitimer(signal.ITIMER_REAL, seconds)
        os.dup2(quiet, 2)  # what libraries print about a broken file says less than its refusal
        try:
            function, args, kwargs = pickle.loads(request)
            value = function(*args, **kwargs)
        except MemoryError:
            message = f"The file needs more than the {memory // 2**20} MiB of memory that its decoder may use."
            error = ImageError(message, "too-much-memory")
        except BaseException as raised:  # a decoder in Rust panics, which is no Exception
            error = raised
        os.dup2(heard, 2)
        signal.setitimer(signal.ITIMER_REAL, 0)
        del request
        spent = spent_at is not None and (_data_bytes() or 0) > spent_at
        connection.send_bytes(_pickled(error, value, spent))


def _pickled(error: BaseException | None, value: object, spent: bool) -> bytes:
    if error is not None and not isinstance(error, Exception):
        error = RuntimeError(f"{type(error).__name__}: {error}")
    try:
        answer = pickle.dumps((error, value, spent))
        if error is not None:
            pickle.loads(answer)  # some exceptions come apart only there
    except Exception:
        failed = RuntimeError(f"{type(error).__name__}: {error}" if error else f"{type(value).__name__} cannot pickle")
        return pickle.dumps((failed, None, spent))
    return answer


def _limit_memory(memory: int) -> int | None:
    """Let this process allocate ``memory`` bytes more. Returns the size from which it is to be replaced."""
    now = _data_bytes()
    if now is None:
        return None
    with contextlib.suppress(OSError, ValueError):  # a lower limit is set from outside: that one holds
        resource.setrlimit(resource.RLIMIT_DATA, (now + memory,) * 2)
    return now + memory // 4


def _data_bytes() -> int | None:
    """Writable private memory of this process, which is what RLIMIT_DATA counts; None on another system than Linux."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[5]) * resource.getpagesize()
    except (OSError, IndexError):
        return None


def _end_with_parent() -> None:
    """A killed parent cannot stop its workers, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
