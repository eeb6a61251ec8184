"""The process that does jobs: takes one, works, writes its end, takes the next.

    claim -> work, while a thread sends heartbeats -> succeeded, failed, cancelled, or back into the queue

Whatever ends the process in between, the job is taken again. A database that goes away ends the attempt, not the
worker.
"""

import contextlib
import itertools
import logging
import os
import secrets
import socket
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, Final

from index.embedding.watch import embed_as_it_comes
from index.jobs.holding import Holding, hold
from index.jobs.lease import BEAT_S, Lease, claim, finish, give_back, is_claimable
from index.tables.jobs import CANCELLED, FAILED, SUCCEEDED
from model.errors import AltaError, ArchiveError

from ..observing import Work, working_on
from .kinds import KINDS, Stopped
from .workbench import Workbench

__all__ = ["Worker", "worker_name"]

logger = logging.getLogger(__name__)

POLL_S: Final = 1.0
LONGEST_AWAY_S: Final = 30.0  # between two looks at a database that does not answer
DATABASE: Final = "database-unavailable"


def worker_name() -> str:
    """Unique among all that ever were, for a process that is started again may have the same number."""
    return f"{socket.gethostname()[:64]}:{os.getpid()}:{secrets.token_hex(8)}"


class Worker:
    """kinds: those that it takes. embed_arrivals: embed what arrives while there is no job. away: seconds to wait for a
    database that did not answer so many times. beat_s: seconds between heartbeats."""

    def __init__(
        self,
        bench: Workbench,
        *,
        kinds: Collection[str] = tuple(KINDS),
        embed_arrivals: bool = False,
        name: str | None = None,
        away: Callable[[int], float] = lambda times: min(LONGEST_AWAY_S, 2.0**times),
        beat_s: float = BEAT_S,
    ) -> None:
        self._bench = bench
        self._catalog = bench.catalog
        self._kinds = tuple(kinds)
        self._embed_arrivals = embed_arrivals
        self._away = away
        self._beat_s = beat_s
        self.name = name or worker_name()

    def run(self, told: Event, *, once: bool = False) -> None:
        """Until ``told`` is set, when the batch under way is finished and the job given back. once: until no job of
        these kinds waits."""
        times = 0  # that the database did not answer, one after the other
        while not told.is_set():
            try:
                lease = claim(self._catalog, self.name, self._kinds)
                if lease is not None:
                    self._do(lease, told)
                elif once:
                    return
                elif self._embed_arrivals:
                    self._embed_until_a_job_comes(told)
                else:
                    told.wait(POLL_S)
                times = 0
            except ArchiveError as error:
                if error.slug != DATABASE:
                    raise
                self._wait(told, times)
                times += 1

    def _do(self, lease: Lease, told: Event) -> None:
        started = time.monotonic()
        with working_on(Work("job_id", lease.job.id)):
            logger.info("%s is begun, attempt %d", lease.job.kind, lease.attempt)
            with hold(self._catalog, lease, told=told, every=self._beat_s) as holding:
                outcome = self._work(lease, holding)
            written = self._write(lease, outcome, holding, told)
            how = outcome.state or "given back"
            if outcome.error is not None:  # without its message, which may name files: `alta jobs show` has it
                how += f", {outcome.error}"
            if not written:
                how += ", not written: it is another worker's, has ended already, or the database is away"
            logger.info("%s, %.0f s: %s", lease.job.kind, time.monotonic() - started, how)

    def _work(self, lease: Lease, holding: Holding) -> "_Outcome":
        kind = KINDS[lease.job.kind]
        try:
            asked = kind.request.model_validate({"kind": lease.job.kind, **lease.job.arguments})
            return _Outcome(SUCCEEDED, kind.run(self._bench, asked, holding))
        except Stopped as stopped:
            return _Outcome(CANCELLED if holding.cancelled else None, stopped.result)
        except AltaError as error:
            return _Outcome(None if error.slug == DATABASE else FAILED, None, error.slug, error.message)
        except Exception as error:  # whatever one job meets, the next ones are done
            # Without its message, which may quote a header of a patient's file.
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s\n%s", type(error).__qualname__, frames)
            return _Outcome(FAILED, None, "internal-error", type(error).__qualname__)

    def _write(self, lease: Lease, outcome: "_Outcome", holding: Holding, told: Event) -> bool:
        """Until the database takes it, or the worker has to end: the job is then taken again once its lease is over."""
        for times in itertools.count():
            try:
                if outcome.state is not None:
                    return finish(
                        self._catalog,
                        lease,
                        outcome.state,
                        result=outcome.result,
                        error=outcome.error,
                        detail=outcome.detail,
                        progress=holding.done,
                    )
                failure = (outcome.error, outcome.detail or "") if outcome.error else None
                return give_back(self._catalog, lease, failure=failure)
            except ArchiveError as error:
                if error.slug != DATABASE:
                    raise
                self._wait(told, times)
                if told.is_set():
                    return False
        raise AssertionError("unreachable")

    def _wait(self, told: Event, times: int) -> None:
        seconds = self._away(times)
        logger.warning("the database does not answer; asked again in %.0f s", seconds)
        told.wait(seconds)

    def _embed_until_a_job_comes(self, told: Event) -> None:
        enough = Event()

        def listen() -> None:
            while not enough.wait(POLL_S):
                with contextlib.suppress(ArchiveError):  # which ends the embedding too
                    if told.is_set() or is_claimable(self._catalog, self._kinds):
                        enough.set()

        listening = Thread(target=listen, name="job-listener", daemon=True)
        listening.start()
        try:
            embed_as_it_comes(self._catalog, self._bench.encoder, enough, workers=self._bench.decoders)
        finally:
            enough.set()
            listening.join()


@dataclass(frozen=True)
class _Outcome:
    """state: None for a job that goes back into the queue; with an error, that counts against it."""

    state: str | None
    result: dict[str, Any] | None
    error: str | None = None
    detail: str | None = None
