"""Which embeddings are missing: the rows themselves are the queue of the embedding job.

A study's images and its report are due when no embedding of the model carries the hash of what they are now.
"""

import secrets
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from model.text import report_body

from ..catalog import Catalog
from ..decoder_pool import LOST
from ..slots import SLOTS
from ..studies import histories, slot_instances
from ..tables import IMAGE, KINDS, MATCHED, Embedding, EmbeddingFailure, Patient, Report, Study

__all__ = [
    "EVERYTHING",
    "PASSING_REASONS",
    "ImageFile",
    "Part",
    "Task",
    "Walk",
    "a_pending_file",
    "current_sources",
    "forget_failures",
    "pending_counts",
    "pending_patients",
]

# What may be the machine's fault, such as a disk that is not mounted, is tried again in every run.
PASSING_REASONS: Final = ("file-missing", "unreadable", *LOST)


@dataclass(frozen=True)
class ImageFile:
    path: Path
    sha256: str  # of the content that was ingested


@dataclass(frozen=True)
class Task:
    """One embedding to make. ``source_hash`` names the content it has to be made from."""

    study_id: int
    source_hash: str
    files: dict[str, ImageFile] = field(default_factory=dict)  # by slot
    text: str = ""


@dataclass(frozen=True)
class Part:
    """The studies of patients with a row id over ``after`` and up to ``until``; ``studies``: only these.

    By patient, because a study's prior is another study's current image: who does both decodes it once.
    """

    after: int = 0
    until: int | None = None
    studies: Collection[int] | None = None


EVERYTHING: Final = Part()


def pending_counts(catalog: Catalog, fingerprint: str, part: Part = EVERYTHING) -> dict[str, int]:
    """Studies that still need an embedding of this model, by kind: missing or stale.

    Known failures are left out, but for those that may pass: they are tried again in every run.
    """
    with catalog.session() as session:
        return {
            kind: session.scalar(
                sa.select(sa.func.count()).select_from(_within(_pending(kind, fingerprint), part).subquery())
            )
            or 0
            for kind in KINDS
        }


def pending_patients(catalog: Catalog, fingerprint: str) -> list[tuple[int, int]]:
    """(patient row, embeddings that its studies need), in the order of the rows."""
    counts: Counter[int] = Counter()
    with catalog.session() as session:
        for kind in KINDS:
            query = _pending(kind, fingerprint).with_only_columns(Study.patient_id, sa.func.count())
            for patient, count in session.execute(query.group_by(Study.patient_id)):
                counts[patient] += count
    return sorted(counts.items())


def a_pending_file(catalog: Catalog, fingerprint: str) -> Path | None:
    """An image that is still to be read and is there, or None."""
    for batch in Walk(catalog, IMAGE, fingerprint, size=32):
        for task in batch:
            for file in task.files.values():
                if file.path.exists():
                    return file.path
    return None


class Walk:
    """Batches of what is pending, asked of the database one by one, patient after patient.

    From a random patient on and then from the first, so that workers started together do not do the same ones.
    ``elsewhere`` goes on at another patient; the walk ends when it has been everywhere since.
    """

    def __init__(self, catalog: Catalog, kind: str, fingerprint: str, size: int, part: Part = EVERYTHING) -> None:
        self._catalog = catalog
        self._kind = kind
        self._fingerprint = fingerprint
        self._size = size
        self._part = part
        self._moved = True

    def elsewhere(self) -> None:
        self._moved = True

    def __iter__(self) -> Iterator[list[Task]]:
        while self._moved:
            self._moved = False
            yield from self._around()

    def _around(self) -> Iterator[list[Task]]:
        with self._catalog.session() as session:
            highest = session.scalar(sa.select(sa.func.max(Patient.id))) or 0
        until = highest if self._part.until is None else min(highest, self._part.until)
        start = self._part.after + secrets.randbelow(max(until - self._part.after, 0) + 1)
        for low, high in ((start, until), (self._part.after, start)):
            place = (low, 2**31 - 1)  # behind every study of that patient
            while not self._moved:
                with self._catalog.snapshot() as session:
                    query = _within(_pending(self._kind, self._fingerprint), self._part)
                    query = query.where(
                        Study.patient_id >= place[0],  # by itself, for the index
                        sa.tuple_(Study.patient_id, Study.id) > place,
                        Study.patient_id <= high,
                    )
                    rows = session.execute(query.order_by(Study.patient_id, Study.id).limit(self._size)).all()
                    tasks = _image_tasks(session, rows) if self._kind == IMAGE else _report_tasks(session, rows)
                if not rows:
                    break
                place = (rows[-1][0].patient_id, rows[-1][0].id)
                yield tasks


def current_sources(session: Session, kind: str, study_ids: Sequence[int]) -> set[tuple[int, str]]:
    """(study row, source hash) as they are now; what is gone or has no source is absent."""
    images = sa.select(Study.id, Study.image_source).where(Study.id.in_(study_ids))
    reports = sa.select(Report.study_id, Report.sha256).where(Report.study_id.in_(study_ids), Report.status == MATCHED)
    rows = [tuple(row) for row in session.execute(images if kind == IMAGE else reports)]
    return {(study, source) for study, source in rows if study is not None and source is not None}


def forget_failures(catalog: Catalog, fingerprint: str) -> None:
    """Make every failed study of this model pending again."""
    with catalog.write() as session:
        session.execute(sa.delete(EmbeddingFailure).where(EmbeddingFailure.model_fingerprint == fingerprint))


def _within(query: sa.Select[Study, str | None], part: Part) -> sa.Select[Study, str | None]:
    if part.after:
        query = query.where(Study.patient_id > part.after)
    if part.until is not None:
        query = query.where(Study.patient_id <= part.until)
    if part.studies is not None:
        query = query.where(Study.id.in_(part.studies))
    return query


def _pending(kind: str, fingerprint: str) -> sa.Select[Study, str | None]:
    source: sa.ColumnElement[str | None] = Study.image_source if kind == IMAGE else Report.sha256  # type: ignore[assignment]
    query = sa.select(Study, source)
    if kind != IMAGE:
        # Not the bare column: SQLite would go through its index, that is through every report, for each batch.
        matched = sa.func.coalesce(Report.status, "") == MATCHED
        query = query.join(Report, sa.and_(Report.study_id == Study.id, matched))
    for table in (Embedding, EmbeddingFailure):
        done = sa.exists().where(
            table.study_id == Study.id,
            table.kind == kind,
            table.model_fingerprint == fingerprint,
            table.source_hash == source,
        )
        if table is EmbeddingFailure:
            done = done.where(EmbeddingFailure.reason.not_in(PASSING_REASONS))
        query = query.where(~done)
    return query.where(source.is_not(None))


def _image_tasks(session: Session, rows: Sequence[sa.Row[Study, str | None]]) -> list[Task]:
    past = histories(session, {study.patient_id for study, _ in rows})
    tasks = []
    for study, source_hash in rows:
        assert source_hash is not None
        slots = slot_instances(past[study.patient_id], study)
        files: dict[str, ImageFile] = {
            slot: ImageFile(Path(slots[slot].path), slots[slot].sha256 or "") for slot in SLOTS if slot in slots
        }
        tasks.append(Task(study.id, source_hash, files=files))
    return tasks


def _report_tasks(session: Session, rows: Sequence[sa.Row[Study, str | None]]) -> list[Task]:
    studies = [study.id for study, _ in rows]
    query = sa.select(Report).where(Report.study_id.in_(studies), Report.status == MATCHED)
    reports = {report.study_id: report for report in session.scalars(query)}
    found = [reports[study] for study in studies if study in reports]
    return [
        Task(report.study_id or 0, report.sha256, text=report_body(report.findings, report.impression, report.text))
        for report in found
    ]
