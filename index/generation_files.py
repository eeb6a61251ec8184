"""The files of a generation: written from embedding rows, checked when opened, made again where they are missing.

Axes: N rows, D width.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from model.errors import ArchiveError

from .catalog import Catalog
from .engines.old import FlatIndex
from .tables import Embedding, Generation

__all__ = ["Part", "open_index", "read_part", "remove_old", "sync_folder", "whole_file", "write_index"]

KEPT_GENERATIONS: Final = 2  # the live one, and one to go back to
CHUNK: Final = 4096
REBUILD: Final = "Run `alta index build`: it is made again from the database, without the encoder."


@dataclass(frozen=True)
class Part:
    """The embeddings of one kind and model, read in one transaction."""

    ids: np.ndarray  # int64 (N,), study row ids
    vectors: np.ndarray  # float32 (N, D)
    max_id: int


def read_part(session: Session, kind: str, fingerprint: str, up_to: int | None = None) -> Part:
    """The embeddings of a kind and model, up to a row id; ``session`` is a ``Catalog.snapshot``.

    Raises ArchiveError: bad-embedding, build-check-failed.
    """
    where = [Embedding.kind == kind, Embedding.model_fingerprint == fingerprint]
    if up_to is not None:
        where.append(Embedding.id <= up_to)
    count = session.scalar(sa.select(sa.func.count()).where(*where)) or 0
    query = sa.select(Embedding.id, Embedding.study_id, Embedding.vector).where(*where).order_by(Embedding.study_id)
    ids = np.empty(count, dtype=np.int64)
    vectors = np.empty((0, 0), dtype=np.float32)
    max_id = 0
    met = 0
    # yield_per streams from the server: the vectors do not fit into memory twice.
    with session.execute(query, execution_options={"yield_per": CHUNK}) as rows:
        for met, (embedding_id, study_id, blob) in enumerate(rows, start=1):
            if met > count:
                break
            vector = np.frombuffer(blob, dtype="<f4")
            if met == 1:
                vectors = np.empty((count, len(vector)), dtype=np.float32)
            width = vectors.shape[1]
            if len(vector) != width or not np.isclose(np.linalg.norm(vector), 1, atol=1e-3):
                message = f"Embedding {embedding_id} is no unit vector of width {width}: embed the study again."
                raise ArchiveError(message, "bad-embedding")
            ids[met - 1], vectors[met - 1], max_id = study_id, vector, max(max_id, embedding_id)
    if met != count:
        message = f"The database counts {count} {kind} embeddings and gives {met}. Build again."
        raise ArchiveError(message, "build-check-failed")
    return Part(ids, vectors, max_id)


def write_index(path: Path, index: FlatIndex) -> str:
    """Write under a temporary name, sync, rename: a file with its final name is whole. Returns its SHA-256."""
    temporary = path.with_suffix(f".{os.getpid()}.partial")
    index.write(temporary)
    with temporary.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    temporary.replace(path)
    return digest


def open_index(catalog: Catalog, folder: Path, generation_id: int, kind: str) -> FlatIndex | None:
    """The index of a kind, None when the generation has no rows of it. A missing file is made again if its rows are
    all there still: hosts that share the database need not share the folder.

    Raises ArchiveError: index-file-missing, index-file-corrupt; building again repairs both.
    """
    with catalog.snapshot() as session:
        row = session.get_one(Generation, generation_id)
        try:
            path = whole_file(row, kind, folder)
        except ArchiveError as error:
            path = _restored(session, row, kind, folder) if error.slug == "index-file-missing" else None
            if path is None:
                raise
            remove_old(catalog, folder)
    return FlatIndex.read(path) if path else None


def _restored(session: Session, row: Generation, kind: str, folder: Path) -> Path | None:
    """The file, written from the rows it was built from; None when some are gone or nothing can be written."""
    max_id = getattr(row, f"{kind}_max_id")
    part = read_part(session, kind, row.model_fingerprint, max_id)
    if (len(part.ids), part.max_id) != (getattr(row, f"{kind}_rows"), max_id):
        return None
    path = folder / str(getattr(row, f"{kind}_file"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        digest = write_index(path, FlatIndex.of(part.ids, part.vectors))
    except (OSError, RuntimeError):  # FAISS raises the second when it cannot open the file
        return None
    if digest != getattr(row, f"{kind}_sha256"):  # another version of FAISS: the builder's check is not of this file
        path.unlink(missing_ok=True)
        return None
    return path


def whole_file(row: Generation, kind: str, folder: Path) -> Path | None:
    name, expected = getattr(row, f"{kind}_file"), getattr(row, f"{kind}_sha256")
    if name is None:
        return None
    path = folder / str(name)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        message = f"The index file {name} of generation {row.id} cannot be read ({error.strerror}). {REBUILD}"
        raise ArchiveError(message, "index-file-missing") from error
    if digest != expected:
        message = f"The index file {name} of generation {row.id} is not as it was written. {REBUILD}"
        raise ArchiveError(message, "index-file-corrupt")
    return path


def remove_old(catalog: Catalog, folder: Path) -> None:
    """Remove the files of generations that are neither live, nor the one before, nor being built."""
    # Listed before the rows are read: a build that begins in between is not in the list.
    paths = [*folder.glob("generation-*.faiss"), *folder.glob("generation-*.partial")]
    with catalog.session() as session:
        served = session.scalars(
            sa.select(Generation.id)
            .where(Generation.state.in_(("live", "retired")))
            .order_by(Generation.id.desc())
            .limit(KEPT_GENERATIONS)
        ).all()
        building = session.scalars(sa.select(Generation.id).where(Generation.state == "building")).all()
    kept = tuple(f"generation-{generation_id}-" for generation_id in (*served, *building))
    for path in paths:
        if not path.name.startswith(kept):
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # makes the renames durable
    finally:
        os.close(descriptor)
