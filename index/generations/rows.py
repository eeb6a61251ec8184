"""Embedding rows to arrays on disk, in one transaction and in parts: an archive need not fit into memory.

Axes: N rows, D width.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from model.errors import ArchiveError

from ..engines import write_array
from ..tables import KINDS, Embedding, EmbeddingRemoval

__all__ = ["Census", "Rows", "disk_errors", "take_census", "write_rows"]

CHUNK: Final = 8192  # rows read and written at once
LENGTH_TOLERANCE: Final = 1e-3
NO_SPACE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_ID_AND_STUDY = sa.select(Embedding.id, Embedding.study_id)
_ID_AND_VECTOR = sa.select(Embedding.id, Embedding.vector)


@dataclass(frozen=True)
class Census:
    """What there is of a model at one moment, by kind: rows, and the highest id among them; and the newest removal."""

    rows: dict[str, int]
    max_ids: dict[str, int]
    removal_max_id: int


@dataclass(frozen=True)
class Rows:
    """ids int64 (N,): study rows, ascending. vectors float32 (N, D). Both mapped from files."""

    ids: np.ndarray
    vectors: np.ndarray


def take_census(session: Session, fingerprint: str) -> Census:
    found = {}
    for kind in KINDS:
        query = sa.select(sa.func.count(), sa.func.max(Embedding.id)).where(*_of(kind, fingerprint, None))
        count, newest = session.execute(query).one()
        found[kind] = (count, newest or 0)
    return Census(
        rows={kind: count for kind, (count, _) in found.items()},
        max_ids={kind: newest for kind, (_, newest) in found.items()},
        removal_max_id=session.scalar(sa.select(sa.func.max(EmbeddingRemoval.id))) or 0,
    )


def write_rows(
    session: Session,
    kind: str,
    fingerprint: str,
    folder: Path,
    *,
    up_to: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Rows | None:
    """Write the embeddings of a kind and model, up to a row id, as two arrays; None when there are none.

    ``session`` is a ``Catalog.snapshot``. progress: called with how many rows were written since.
    Raises ArchiveError bad-embedding, OSError where the disk is full: before anything is mapped, as writing to a
    mapped file on a full disk would end the process.
    """
    where = _of(kind, fingerprint, up_to)
    rows = _read_ids(session, where)  # (N, 2)
    if not len(rows):
        return None
    order = np.argsort(rows[:, 1], kind="stable")
    places = np.empty(len(rows), dtype=np.int64)  # by position among the row ids: position among the study ids
    places[order] = np.arange(len(rows))
    folder.mkdir(parents=True, exist_ok=True)
    write_array(folder / "ids.npy", rows[order, 1])
    with (folder / "vectors.npy").open("wb") as file:
        width = 0
        done = 0
        for embedding_ids, vectors in _read_vectors(session, where):
            if not width:
                width = vectors.shape[1]
                start = _reserve(file.fileno(), len(rows), width)
            if vectors.shape[1] != width:
                raise _bad(embedding_ids[0])
            # The rows of one snapshot, both times by id.
            assert np.array_equal(embedding_ids, rows[done : done + len(vectors), 0])
            _write_at(file.fileno(), start, places[done : done + len(vectors)], vectors)
            done += len(vectors)
            if progress:
                progress(len(vectors))
        assert done == len(rows)
    ids, mapped = (np.load(folder / name, mmap_mode="r") for name in ("ids.npy", "vectors.npy"))
    return Rows(ids, mapped)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """OSError to ArchiveError: disk-full, or index-not-writable."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE or "No space left" in str(error):
            message = f"The disk of {folder} is full. Nothing was changed; free some space and build again."
            raise ArchiveError(message, "disk-full") from error
        raise ArchiveError(f"The index cannot be written to {folder}: {error}.", "index-not-writable") from error


def _of(kind: str, fingerprint: str, up_to: int | None) -> list[sa.ColumnElement[bool]]:
    where = [Embedding.kind == kind, Embedding.model_fingerprint == fingerprint]
    return where if up_to is None else [*where, Embedding.id <= up_to]


def _read_ids(session: Session, where: list[sa.ColumnElement[bool]]) -> np.ndarray:
    """(N, 2): embedding id and study id, by embedding id."""
    query = _ID_AND_STUDY.where(*where).order_by(Embedding.id)
    with session.connection().execute(query, execution_options={"yield_per": CHUNK}) as found:
        parts = [np.array(list(zip(*part, strict=True)), dtype=np.int64).T for part in found.partitions()]
    return np.concatenate(parts) if parts else np.empty((0, 2), np.int64)


def _read_vectors(session: Session, where: list[sa.ColumnElement[bool]]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Embedding ids and (n, D) vectors, by embedding id. Raises ArchiveError: bad-embedding."""
    query = _ID_AND_VECTOR.where(*where).order_by(Embedding.id)
    # yield_per streams from the server.
    with session.connection().execute(query, execution_options={"yield_per": CHUNK}) as found:
        for part in found.partitions():
            ids, blobs = [row[0] for row in part], [row[1] for row in part]
            for embedding_id, blob in zip(ids, blobs, strict=True):
                if len(blob) != len(blobs[0]) or not len(blob) or len(blob) % 4:
                    raise _bad(embedding_id)
            vectors = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(ids), -1)
            with np.errstate(invalid="ignore", over="ignore"):
                lengths = np.linalg.norm(vectors, axis=1)
            wrong = np.flatnonzero(~(np.abs(lengths - 1) <= LENGTH_TOLERANCE))  # what is no number is wrong too
            if len(wrong):
                raise _bad(ids[wrong[0]])
            yield ids, vectors


def _bad(embedding_id: int) -> ArchiveError:
    message = f"Embedding {embedding_id} is no vector of length 1 and of the others' width: embed the study again."
    return ArchiveError(message, "bad-embedding")


def _reserve(descriptor: int, count: int, width: int) -> int:
    """The header of an array of ``count`` rows, and the disk space for them. Returns where the first row begins."""
    with os.fdopen(os.dup(descriptor), "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, width)}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
    os.posix_fallocate(descriptor, 0, start + count * width * 4)
    return start


def _write_at(descriptor: int, start: int, places: np.ndarray, vectors: np.ndarray) -> None:
    """Each row at its place; rows that follow one another are one write."""
    size = vectors.shape[1] * 4
    runs = np.split(np.arange(len(places)), np.flatnonzero(np.diff(places) != 1) + 1)
    for run in runs:
        data = vectors[run[0] : run[-1] + 1].tobytes()
        offset = start + int(places[run[0]]) * size
        while data:
            written = os.pwrite(descriptor, data, offset)
            data, offset = data[written:], offset + written
