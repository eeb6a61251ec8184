"""Studies without an embedding to embedding rows: one visible loop of read, encode, write, log.

What is missing is asked of the database before every batch, so the job can be killed at any moment and started
again, and several can work at once.
"""

import hashlib
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from model.encoder import StudyEncoder, StudyImages
from model.errors import ImageError, InputError
from model.image import read_radiograph
from model.text import report_body

from .catalog import Catalog
from .progress import Progress
from .removal import remove_embeddings
from .slots import SLOTS
from .studies import histories, slot_instances
from .tables import IMAGE, KINDS, MATCHED, Embedding, EmbeddingFailure, Report, Study

__all__ = ["EmbedSummary", "embed_pending", "pending_counts"]

logger = logging.getLogger(__name__)

DEFAULT_WORKERS: Final = 4
# Not to mark a whole archive as failed because the device has no memory left.
MAX_FAILURES_IN_A_ROW: Final = 16
PASSING_REASONS: Final = ("file-missing", "unreadable")  # a disk that is not mounted: tried again in every run


@dataclass
class EmbedSummary:
    """What one run did. failed: studies by reason (slug); they are kept and not tried again unless asked."""

    images: int = 0
    reports: int = 0
    failed: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Task:
    """One embedding to make. ``source_hash`` names the content it has to be made from."""

    study_id: int
    source_hash: str
    files: dict[str, tuple[Path, str]] = field(default_factory=dict)  # slot: (path, sha256)
    text: str = ""


_Input = StudyImages | str
_Outcome = np.ndarray | InputError  # float32 (D,), or why there is none


def pending_counts(catalog: Catalog, fingerprint: str) -> dict[str, int]:
    """Studies that still need an embedding of this model, by kind: missing or stale.

    Known failures are left out, but for files that could not be read: those are tried again in every run.
    """
    with catalog.session() as session:
        return {
            kind: session.scalar(sa.select(sa.func.count()).select_from(_pending(kind, fingerprint).subquery())) or 0
            for kind in KINDS
        }


def embed_pending(
    catalog: Catalog,
    encoder: StudyEncoder,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
    workers: int = DEFAULT_WORKERS,
    retry_failed: bool = False,
) -> EmbedSummary:
    """Embed every study image set and report that has no current embedding of this encoder.

    One transaction a batch. ``workers`` threads read images. A study that cannot be read or encoded is recorded as
    failed and costs only itself; the error of an encoder that fails on study after study is raised.
    """
    summary = EmbedSummary()
    if retry_failed:
        _forget_failures(catalog, encoder.fingerprint)
    total = sum(pending_counts(catalog, encoder.fingerprint).values())
    done = in_a_row = 0
    with ThreadPoolExecutor(workers) as pool:
        for kind in KINDS:
            read, encode = _steps(kind, encoder)
            for tasks in _batches(catalog, kind, encoder.fingerprint, batch_size):
                inputs = list(pool.map(read, tasks))
                outcomes = _encode(encode, inputs)
                in_a_row = _failures_in_a_row(in_a_row, outcomes)
                _write(catalog, kind, encoder.fingerprint, tasks, outcomes)
                _count(summary, kind, outcomes)
                done += len(tasks)
                logger.info("embedded %d of %d (%s), failed %d", done, total, kind, summary.failed.total())
                if progress:
                    progress(done, max(done, total))
    return summary


def _steps(
    kind: str, encoder: StudyEncoder
) -> tuple[Callable[[_Task], "_Input | InputError"], Callable[[Sequence[_Input]], np.ndarray]]:
    if kind == IMAGE:
        return lambda task: _read_images(task, encoder), encoder.encode_studies  # type: ignore[return-value]
    return lambda task: task.text, encoder.encode_texts  # type: ignore[return-value]


def _read_images(task: _Task, encoder: StudyEncoder) -> StudyImages | InputError:
    try:
        return StudyImages(**{slot: _read_image(*file, encoder) for slot, file in task.files.items()})
    except InputError as error:
        return error
    except Exception as error:  # one file must not end the run, whatever it does to a decoder
        logger.exception("study row %d cannot be read", task.study_id)
        return ImageError(f"{type(error).__name__}: {error}", "unreadable")


def _read_image(path: Path, sha256: str, encoder: StudyEncoder) -> np.ndarray:
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}). Put it back, or ingest the folder again."
        raise ImageError(message, "file-missing") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        # Embedding it would record the old content's hash for the new content.
        raise ImageError(f"{path} has changed since it was ingested. Ingest its folder again.", "file-changed")
    return encoder.transform(read_radiograph(data).pixels)


class _EncoderFailure(InputError):
    """The encoder raised on this one study."""


def _encode(
    encode: Callable[[Sequence[_Input]], np.ndarray], inputs: Sequence["_Input | InputError"]
) -> list[_Outcome]:
    """One outcome an input. A batch that fails is encoded one by one, to find the study that breaks it."""
    usable = [item for item in inputs if not isinstance(item, InputError)]
    vectors: Iterator[_Outcome] = iter(())
    if usable:
        try:
            vectors = iter([_checked(vector) for vector in encode(usable)])
        except Exception as error:
            logger.warning("a batch of %d failed (%s); encoding one by one", len(usable), error)
            vectors = iter([_encode_one(encode, item) for item in usable])
    return [item if isinstance(item, InputError) else next(vectors) for item in inputs]


def _encode_one(encode: Callable[[Sequence[_Input]], np.ndarray], item: _Input) -> _Outcome:
    try:
        return _checked(encode([item])[0])
    except Exception as error:
        failure = _EncoderFailure(f"{type(error).__name__}: {error}", getattr(error, "slug", "encoder-error"))
        failure.__cause__ = error
        return failure


def _failures_in_a_row(before: int, outcomes: Sequence[_Outcome]) -> int:
    """Encoder failures since the last success. Raises the last one when the encoder, not the studies, is broken."""
    if any(isinstance(outcome, np.ndarray) for outcome in outcomes):
        return 0
    failures = [outcome for outcome in outcomes if isinstance(outcome, _EncoderFailure)]
    if before + len(failures) >= MAX_FAILURES_IN_A_ROW:
        raise failures[-1].__cause__ or failures[-1]
    return before + len(failures)


def _checked(vector: np.ndarray) -> _Outcome:
    vector = np.asarray(vector, dtype=np.float32)
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or abs(length - 1) > 1e-3:
        return InputError(f"Expected an embedding of length 1, the encoder gave {length}.", "bad-embedding")
    return vector


def _write(catalog: Catalog, kind: str, fingerprint: str, tasks: Sequence[_Task], outcomes: Sequence[_Outcome]) -> None:
    of_model = {"kind": kind, "model_fingerprint": fingerprint}
    studies = [task.study_id for task in tasks]
    with catalog.write() as session:
        existing = {
            (row.study_id, row.source_hash)
            for row in session.execute(
                sa.select(Embedding.study_id, Embedding.source_hash)
                .filter_by(**of_model)
                .where(Embedding.study_id.in_(studies))
            )
        }
        # What another process finished meanwhile stays; everything else of these studies is replaced.
        new = [
            (task, outcome)
            for task, outcome in zip(tasks, outcomes, strict=True)
            if (task.study_id, task.source_hash) not in existing
        ]
        replaced = [task.study_id for task, _ in new]
        remove_embeddings(
            session,
            Embedding.kind == kind,
            Embedding.model_fingerprint == fingerprint,
            Embedding.study_id.in_(replaced),
        )
        session.execute(
            sa.delete(EmbeddingFailure).filter_by(**of_model).where(EmbeddingFailure.study_id.in_(replaced))
        )
        for task, outcome in new:
            about = {"study_id": task.study_id, "source_hash": task.source_hash, **of_model}
            if isinstance(outcome, InputError):
                detail = outcome.message.replace("\x00", "")
                session.add(EmbeddingFailure(**about, reason=outcome.slug, detail=detail))
            else:
                session.add(Embedding(**about, vector=outcome.astype("<f4").tobytes()))


def _count(summary: EmbedSummary, kind: str, outcomes: Sequence[_Outcome]) -> None:
    failures = [outcome for outcome in outcomes if isinstance(outcome, InputError)]
    summary.failed.update(failure.slug for failure in failures)
    made = len(outcomes) - len(failures)
    if kind == IMAGE:
        summary.images += made
    else:
        summary.reports += made


def _batches(catalog: Catalog, kind: str, fingerprint: str, size: int) -> Iterator[list[_Task]]:
    """Pending tasks from a random study on, then from the first: workers started together do not do the same ones."""
    with catalog.session() as session:
        highest = session.scalar(sa.select(sa.func.max(Study.id))) or 0
    start = secrets.randbelow(highest + 1)
    for after, until in ((start, highest), (0, start)):
        while True:
            with catalog.session() as session:
                query = _pending(kind, fingerprint).where(Study.id > after, Study.id <= until)
                rows = session.execute(query.order_by(Study.id).limit(size)).all()
                tasks = _image_tasks(session, rows) if kind == IMAGE else _report_tasks(session, rows)
            if not rows:
                break
            after = rows[-1][0].id
            yield tasks


def _image_tasks(session: Session, rows: Sequence[sa.Row[Study, str | None]]) -> list[_Task]:
    past = histories(session, {study.patient_id for study, _ in rows})
    tasks = []
    for study, source_hash in rows:
        assert source_hash is not None
        slots = slot_instances(past[study.patient_id], study)
        files: dict[str, tuple[Path, str]] = {
            slot: (Path(slots[slot].path), slots[slot].sha256 or "") for slot in SLOTS if slot in slots
        }
        tasks.append(_Task(study.id, source_hash, files=files))
    return tasks


def _report_tasks(session: Session, rows: Sequence[sa.Row[Study, str | None]]) -> list[_Task]:
    studies = [study.id for study, _ in rows]
    query = sa.select(Report).where(Report.study_id.in_(studies), Report.status == MATCHED)
    reports = {report.study_id: report for report in session.scalars(query)}
    found = [reports[study] for study in studies if study in reports]
    return [
        _Task(report.study_id or 0, report.sha256, text=report_body(report.findings, report.impression, report.text))
        for report in found
    ]


def _pending(kind: str, fingerprint: str) -> sa.Select[Study, str | None]:
    query = sa.select(Study, Study.image_source if kind == IMAGE else Report.sha256)
    source: sa.ColumnElement[str | None] = Study.image_source if kind == IMAGE else Report.sha256  # type: ignore[assignment]
    if kind != IMAGE:
        query = query.join(Report, sa.and_(Report.study_id == Study.id, Report.status == MATCHED))
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


def _forget_failures(catalog: Catalog, fingerprint: str) -> None:
    with catalog.write() as session:
        session.execute(sa.delete(EmbeddingFailure).where(EmbeddingFailure.model_fingerprint == fingerprint))
