"""Opening the parts of a generation; what this host lacks is made again from the database.

Hosts that share the database need not share the folder.
"""

import fcntl
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from model.errors import ArchiveError

from ..catalog import Catalog
from ..engines import Engine
from ..tables import IMAGE, REPORT, Embedding, EmbeddingRemoval
from .build import build_part
from .check import SAMPLE
from .parts import OpenPart, open_part, place_of
from .rows import disk_errors, write_rows
from .table import GenerationInfo

__all__ = ["open_or_restore"]

logger = logging.getLogger(__name__)


def open_or_restore(
    catalog: Catalog,
    folder: Path,
    info: GenerationInfo,
    kind: str,
    engines: Mapping[str, Engine],
    *,
    hash_first: bool = False,
) -> OpenPart | None:
    """The part of a kind, None when the generation has no rows of it, or none that are left.

    Raises ArchiveError: index-file-corrupt; index-file-missing where the rows to make it again are gone too;
    disk-full; what the engine raises. Building again repairs it.
    """
    if not info.rows(kind):
        return None
    place = place_of(folder, info.id, kind)
    try:
        return open_part(engines, info.engine_of(kind), place, info.token(kind), hash_first=hash_first)
    except ArchiveError as error:
        if error.slug != "index-file-missing" or not engines[info.engine_of(kind)].local:
            raise
        missing = error
    with disk_errors(folder):
        (folder / str(info.id)).mkdir(parents=True, exist_ok=True)
        with (folder / ".restore.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one process a folder; the others find it done
            try:
                return open_part(engines, info.engine_of(kind), place, info.token(kind), hash_first=hash_first)
            except ArchiveError as error:
                if error.slug != "index-file-missing":
                    raise
            rows = _restore(catalog, folder, info, kind, engines)
            if rows is None:
                raise missing
            if not rows:
                return None
    return open_part(engines, info.engine_of(kind), place, info.token(kind), hash_first=hash_first)


def _restore(
    catalog: Catalog, folder: Path, info: GenerationInfo, kind: str, engines: Mapping[str, Engine]
) -> int | None:
    """Build the part from the rows it was built from, less those that were removed since, which no search may find
    any more. Returns how many there are; None when other rows are missing too.
    """
    scratch = folder / str(info.id) / f"{kind}.restored"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with catalog.snapshot() as session:
            rows = write_rows(session, kind, info.model_fingerprint, scratch, up_to=info.max_id(kind))
            removed = _removed_since(session, info, kind)
            others = _some_vectors(session, IMAGE if kind == REPORT else REPORT, info.model_fingerprint)
        count = len(rows.ids) if rows is not None else 0
        if count + removed != info.rows(kind):
            return None
        if rows is None:
            return 0
        logger.info("making the %s index of generation %d again from the database", kind, info.id)
        build_part(folder, info, kind, rows, others, info.engine_of(kind), engines)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return count


def _removed_since(session: Session, info: GenerationInfo, kind: str) -> int:
    query = sa.select(sa.func.count()).where(
        EmbeddingRemoval.id > info.removal_max_id,
        EmbeddingRemoval.embedding_id <= info.max_id(kind),
        EmbeddingRemoval.kind == kind,
        EmbeddingRemoval.model_fingerprint == info.model_fingerprint,
    )
    return session.scalar(query) or 0


def _some_vectors(session: Session, kind: str, fingerprint: str) -> np.ndarray | None:
    """(M, D): enough to set an engine by."""
    query = sa.select(Embedding.vector).where(Embedding.kind == kind, Embedding.model_fingerprint == fingerprint)
    blobs = session.scalars(query.order_by(Embedding.id).limit(SAMPLE)).all()
    return np.stack([np.frombuffer(blob, "<f4") for blob in blobs]) if blobs else None
