"""Studies without an embedding to embedding rows: read and decode ahead, encode, write behind.

    database thread   what is missing -> batch            rows of a batch, one transaction
                               |                                    ^
    decoder processes          +-> images, AHEAD batches            |
                                              |                     |
    this thread                               +-> encoder ----------+

What is missing is asked of the database before every batch, so the job can be killed at any moment and started
again, and several can work at once.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Final

from model.encoder import StudyEncoder
from model.errors import InputError

from ..catalog import Catalog
from ..progress import Progress
from ..tables import IMAGE, KINDS
from .encoding import BatchEncoder
from .pending import EVERYTHING, Part, Task, Walk, forget_failures, pending_counts
from .prepared import ComingStudy, ImageReader
from .rows import Outcome, write_outcomes

__all__ = ["EmbedSummary", "Tried", "embed_pending", "pending_counts"]

logger = logging.getLogger(__name__)

Tried = tuple[str, int, str]  # kind, study row, source hash: a failure that may pass, but not in this run

AHEAD: Final = 2  # batches whose images are decoded while one is encoded


@dataclass
class EmbedSummary:
    """What one run did. failed: studies by reason (slug); they are kept and not tried again unless asked.

    decoded: images that were read from files. Seconds: what the encoder's thread spent its time on; ``waiting_s`` is
    for images that were not decoded yet.
    """

    images: int = 0
    reports: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    decoded: int = 0
    waiting_s: float = 0.0
    encoding_s: float = 0.0
    writing_s: float = 0.0

    def add(self, other: "EmbedSummary") -> None:
        """Count what another run did as well."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def done(self) -> int:
        return self.images + self.reports + self.failed.total()

    @property
    def seconds(self) -> float:
        return self.waiting_s + self.encoding_s + self.writing_s

    @property
    def bound_by(self) -> str:
        """What would have to be faster: decoding, encoding or writing."""
        spent = {"encoding": self.encoding_s, "decoding": self.waiting_s, "writing": self.writing_s}
        return max(spent, key=spent.__getitem__)


@dataclass
class _Batch:
    kind: str
    walk: Walk
    tasks: list[Task]
    inputs: list[str | ComingStudy] = field(default_factory=list)


def embed_pending(
    catalog: Catalog,
    encoder: StudyEncoder,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
    workers: int | None = None,
    retry_failed: bool = False,
    part: Part = EVERYTHING,
    stop: Event | None = None,
    summary: EmbedSummary | None = None,
    given_up: set[Tried] | None = None,
) -> EmbedSummary:
    """Embed every study image set and report that has no current embedding of this encoder.

    One transaction a batch. ``workers`` processes read images, one a core where not given; 0 reads them in this
    process. A study that cannot be read or encoded is recorded as failed and costs only itself; the error of an encoder
    that fails on study after study is raised. ``stop``: once set, the batch under way is the last. ``summary``: counts
    are added to it as the run goes on. ``given_up``: what is not tried; failures are added to it.
    """
    summary = EmbedSummary() if summary is None else summary
    fingerprint = encoder.fingerprint
    if retry_failed:
        forget_failures(catalog, fingerprint)
    pending = sum(pending_counts(catalog, fingerprint, part).values())
    book = _Book(catalog, fingerprint, summary, progress, pending, set() if given_up is None else given_up)
    encode = BatchEncoder(encoder)
    clock = _Clock(summary)
    written: Future[None] | None = None
    with ThreadPoolExecutor(1, "embed-database") as database, ImageReader(encoder.transform, workers) as reader:
        for batch in _read_ahead(book.batches(batch_size, part), reader, database):
            if stop is not None and stop.is_set():
                break
            inputs = [item.result() if isinstance(item, ComingStudy) else item for item in batch.inputs]
            clock.spent("waiting_s")
            outcomes = encode(batch.kind, inputs)
            clock.spent("encoding_s")
            if written is not None:
                written.result()  # one transaction behind the encoder and no more
            written = database.submit(book.write, batch, outcomes)
            clock.spent("writing_s")
            summary.decoded += reader.take_count()
        if written is not None:
            written.result()
            clock.spent("writing_s")
    return summary


class _Clock:
    """Adds the time since it was last asked to a field of the summary."""

    def __init__(self, summary: EmbedSummary) -> None:
        self._summary = summary
        self._last = time.perf_counter()

    def spent(self, name: str) -> None:
        now = time.perf_counter()
        setattr(self._summary, name, getattr(self._summary, name) + now - self._last)
        self._last = now


class _Book:
    """What is to be done and what was: everything that touches the database, in its thread."""

    def __init__(
        self,
        catalog: Catalog,
        fingerprint: str,
        summary: EmbedSummary,
        progress: Progress | None,
        pending: int,
        given_up: set[Tried],
    ) -> None:
        self._catalog = catalog
        self._fingerprint = fingerprint
        self._summary = summary
        self._progress = progress
        self._total = summary.done + pending
        self._given_up = given_up

    def batches(self, size: int, part: Part) -> Iterator[_Batch]:
        for kind in KINDS:
            walk = Walk(self._catalog, kind, self._fingerprint, size, part)
            for tasks in walk:
                fresh = [task for task in tasks if (kind, task.study_id, task.source_hash) not in self._given_up]
                if fresh:
                    yield _Batch(kind, walk, fresh)

    def write(self, batch: _Batch, outcomes: Sequence[Outcome]) -> None:
        kept = write_outcomes(self._catalog, batch.kind, self._fingerprint, batch.tasks, outcomes)
        if not any(kept):
            batch.walk.elsewhere()  # another worker is just ahead of this one
        for task, outcome, keep in zip(batch.tasks, outcomes, kept, strict=True):
            if isinstance(outcome, InputError):
                self._given_up.add((batch.kind, task.study_id, task.source_hash))
            if keep:
                self._count(batch.kind, outcome)
        done = self._summary.done
        logger.info("embedded %d of %d, failed %d", done, self._total, self._summary.failed.total())
        if self._progress:
            self._progress(done, max(done, self._total))

    def _count(self, kind: str, outcome: Outcome) -> None:
        if isinstance(outcome, InputError):
            self._summary.failed[outcome.slug] += 1
        elif kind == IMAGE:
            self._summary.images += 1
        else:
            self._summary.reports += 1


def _read_ahead(batches: Iterator[_Batch], reader: ImageReader, database: ThreadPoolExecutor) -> Iterator[_Batch]:
    """Batches whose images are being read, ``AHEAD`` of them behind the one that is given."""
    reading: deque[_Batch] = deque()
    coming: Future[_Batch | None] | None = database.submit(next, batches, None)
    while coming is not None or reading:
        while coming is not None and len(reading) <= AHEAD and (coming.done() or not reading):
            batch = coming.result()
            coming = None
            if batch is not None:
                images = batch.kind == IMAGE
                batch.inputs = [reader.start(task.files) if images else task.text for task in batch.tasks]
                reading.append(batch)
                coming = database.submit(next, batches, None)
        if reading:
            yield reading.popleft()
