"""The embedding job that does not end: what arrives is embedded within seconds.

Asking every second what is missing in an archive of a million studies would keep the database busy. New rows tell by
their ids, and so do removed embeddings, as of a report that was corrected; what else changes in place is found by a
whole look now and then.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Final

import sqlalchemy as sa

from model.encoder import StudyEncoder

from ..catalog import Catalog
from ..tables import EmbeddingRemoval, Instance, Report, Study
from .job import EmbedSummary, Tried, embed_pending
from .pending import EVERYTHING, PASSING_REASONS, Part

__all__ = ["embed_as_it_comes"]

POLL_S: Final = 1.0
# A report is matched to its study in a transaction after the one that wrote it, so rows are looked at for a while.
FRESH_S: Final = 10.0
WHOLE_LOOK_S: Final = 60.0
# A whole look takes at most a twentieth of the time, however large the archive is.
PATIENCE: Final = 20
MANY: Final = 500  # new rows from which a whole look is cheaper than a list of studies


@dataclass(frozen=True)
class _Mark:
    """The newest rows that have been seen. Ids commit in order: the database has one writer at a time."""

    instance: int
    report: int
    removal: int


def embed_as_it_comes(
    catalog: Catalog,
    encoder: StudyEncoder,
    stop: Event,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    tell: Callable[[EmbedSummary], None] | None = None,
) -> EmbedSummary:
    """``embed_pending`` again and again until ``stop`` is set; the batch under way is then finished.

    What failed for a reason that may pass is tried again with every whole look, once a minute, and counted once.
    ``tell`` hears the sum so far whenever something was embedded.
    """
    summary = EmbedSummary()
    marks: deque[tuple[float, _Mark]] = deque()  # with the time of each
    given_up: set[Tried] = set()  # until the next whole look
    next_look = 0.0
    while not stop.is_set():
        newest = _newest(catalog)
        marks.append((time.monotonic(), newest))
        while marks[-1][0] - marks[0][0] > FRESH_S and len(marks) > 2:
            marks.popleft()
        part = EVERYTHING if time.monotonic() >= next_look else _arrived(catalog, marks[0][1], newest)
        if part is not None:
            start, before = time.monotonic(), summary.images + summary.reports
            if part is EVERYTHING:
                given_up.clear()
                for reason in PASSING_REASONS:
                    summary.failed.pop(reason, None)
            embed_pending(
                catalog,
                encoder,
                batch_size=batch_size,
                workers=workers,
                part=part,
                stop=stop,
                summary=summary,
                given_up=given_up,
            )
            now = time.monotonic()
            if tell and summary.images + summary.reports > before:
                tell(summary)
            if part is EVERYTHING:
                next_look = now + max(WHOLE_LOOK_S, PATIENCE * (now - start))
        stop.wait(POLL_S)
    return summary


def _newest(catalog: Catalog) -> _Mark:
    with catalog.snapshot() as session:
        return _Mark(
            *(session.scalar(sa.select(sa.func.max(row.id))) or 0 for row in (Instance, Report, EmbeddingRemoval))
        )


def _arrived(catalog: Catalog, mark: _Mark, newest: _Mark) -> Part | None:
    """The studies that the rows since ``mark`` may have changed: their own, and those of the same patients, whose prior
    they may be. None if there are none."""
    if newest == mark:
        return None
    if newest.instance - mark.instance + newest.report - mark.report + newest.removal - mark.removal > MANY:
        return EVERYTHING
    with catalog.session() as session:
        images = sa.select(Instance.study_id).where(Instance.id > mark.instance, Instance.id <= newest.instance)
        reports = sa.select(Report.study_id).where(Report.id > mark.report, Report.id <= newest.report)
        removals = sa.select(EmbeddingRemoval.study_id).where(
            EmbeddingRemoval.id > mark.removal, EmbeddingRemoval.id <= newest.removal
        )
        patients = sa.select(Study.patient_id).where(Study.id.in_(images.union(reports, removals)))
        studies = session.scalars(sa.select(Study.id).where(Study.patient_id.in_(patients))).all()
    return Part(studies=studies) if studies else None
