"""Whether searches can be answered now, tried out: an image and a text go the way of every query, to the end.

Probes come every few seconds from many sides, so one trial serves all that come within a few seconds.
"""

import asyncio
import logging
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Final

import anyio.to_thread
import numpy as np

from index import Snapshot
from index.tables import KINDS
from model.errors import AltaError

from .errors import RequestError
from .inference import Inference
from .resources import Moment, Resources
from .schemas import Health

__all__ = ["Readiness"]

log = logging.getLogger(__name__)

FRESH_SECONDS: Final = 5.0  # for which an outcome stands
TRIAL_SECONDS: Final = 10.0  # for one trial; a healthy service takes well under one
FULL_QUEUE_SECONDS: Final = 0.05  # between two looks at it


@dataclass(frozen=True)
class _Trial:
    searched: tuple[str, int]  # fingerprint and generation
    began: float
    task: "asyncio.Task[bool]"


class Readiness:
    """What /readyz answers. For the event loop's thread alone.

    stopping: the service has been told to stop, and goes on only with what it took.
    """

    def __init__(
        self, resources: Resources, fresh_seconds: float = FRESH_SECONDS, trial_seconds: float = TRIAL_SECONDS
    ) -> None:
        self.stopping = False
        self._resources = resources
        self._fresh_seconds, self._trial_seconds = fresh_seconds, trial_seconds
        self._trial: _Trial | None = None

    async def check(self) -> Health:
        if self.stopping:
            return Health(status="unavailable", reasons=["stopping"])
        health, moment = await anyio.to_thread.run_sync(self._look, limiter=self._resources.probes)
        if health.status == "unavailable" or moment is None or moment.snapshot is None:
            return health
        if not moment.inference.warm:
            return _unavailable("warming-up", health.generation)
        if not await self._passes(moment.inference, moment.snapshot):
            return _unavailable("canary-failed", health.generation)
        return health

    def _look(self) -> tuple[Health, Moment | None]:
        """What is known without trying."""
        try:
            moment = self._resources.moment()
            if moment.snapshot is not None:
                moment.snapshot.require_whole()
        except Exception as error:  # whatever a driver raises: readiness must answer
            return _unavailable(error.slug if isinstance(error, AltaError) else "database-unavailable"), None
        reasons = [] if moment.problem is None else [moment.problem.slug]
        if moment.snapshot is None:
            return Health(status="unavailable", reasons=reasons or ["empty-index"]), moment
        generation = moment.snapshot.info.id
        if "database-unavailable" in reasons:  # hits are read from it
            return _unavailable("database-unavailable", generation), moment
        return Health(status="degraded" if reasons else "ok", reasons=reasons, generation=generation), moment

    async def _passes(self, inference: Inference, snapshot: Snapshot) -> bool:
        """The outcome of the trial under way, of one that has just been, or of a new one."""
        searched = inference.encoder.fingerprint, snapshot.info.id
        trial, now = self._trial, monotonic()
        stale = trial is None or trial.searched != searched or now - trial.began > self._fresh_seconds
        if trial is None or (stale and trial.task.done()):
            call = anyio.to_thread.run_sync(self._try, inference, snapshot, limiter=self._resources.probes)
            trial = self._trial = _Trial(searched, now, asyncio.ensure_future(call))
        left = max(trial.began + self._trial_seconds - monotonic(), 0.0)
        done, _ = await asyncio.wait((trial.task,), timeout=left)
        if not done:
            log.error("the trial of a search has not ended within %g s", self._trial_seconds)
        return bool(done) and trial.task.result()

    def _try(self, inference: Inference, snapshot: Snapshot) -> bool:
        try:
            for vector in self._encoded(inference):
                if not np.isclose(np.linalg.norm(vector), 1.0, atol=1e-2):  # bfloat16 rounds; NaN is not close
                    raise ValueError("an embedding is not of length 1")
                for kind in KINDS:
                    if snapshot.rows(kind):
                        snapshot.search(kind, vector, 1, fingerprint=inference.encoder.fingerprint)
        except Exception as error:  # whatever it is, a search would end in it
            reason = error.slug if isinstance(error, AltaError) else type(error).__name__
            log.error("the trial of a search failed: %s", reason)
            return False
        return True

    def _encoded(self, inference: Inference) -> tuple[np.ndarray, np.ndarray]:
        """An image and a text. A queue that is full is no failure: the place is waited for."""
        began = monotonic()
        while True:
            try:
                return inference.probe()
            except RequestError as error:
                if error.slug != "overloaded" or monotonic() - began > self._trial_seconds:
                    raise
            sleep(FULL_QUEUE_SECONDS)


def _unavailable(reason: str, generation: int | None = None) -> Health:
    return Health(status="unavailable", reasons=[reason], generation=generation)
