"""Embedding rows to FAISS files: built beside the live generation, checked, then switched by one transaction.

Axes: N rows, D width.
"""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from model.errors import ArchiveError, EmptyIndex

from .catalog import Catalog
from .engines.old import FlatIndex
from .generation_files import Part, read_part, remove_old, sync_folder, whole_file, write_index
from .progress import Progress
from .tables import IMAGE, KINDS, REPORT, Embedding, Generation

__all__ = ["GenerationInfo", "build_generation", "live_generation"]

logger = logging.getLogger(__name__)

SAMPLE: Final = 64  # rows whose search is compared with the exact one
RECALL_DEPTH: Final = 10
MINIMUM_RECALL: Final = 0.95


@dataclass(frozen=True)
class GenerationInfo:
    """A searchable set of embeddings. recall: recall@10 against exact search, measured when it was built."""

    id: int
    model_fingerprint: str
    engine: str
    dimension: int
    image_rows: int
    report_rows: int
    recall: float | None
    created_at: datetime
    activated_at: datetime | None

    def rows(self, kind: str) -> int:
        return self.image_rows if kind == IMAGE else self.report_rows


def live_generation(catalog: Catalog) -> GenerationInfo | None:
    """The generation that answers searches, or None before the first build."""
    with catalog.session() as session:
        row = _live(session)
        return _info(row) if row else None


def build_generation(
    catalog: Catalog, folder: Path, fingerprint: str, *, progress: Progress | None = None
) -> GenerationInfo:
    """Make the current embeddings of a model searchable; the live one is returned when nothing has changed.

    Raises EmptyIndex without embeddings, ArchiveError (build-check-failed, bad-embedding) when a check fails; the live
    generation then stays as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _one_builder(catalog, folder):
        _forget_interrupted(catalog, folder)
        with catalog.snapshot() as session:
            current = _current(session, folder, fingerprint)
            if current is not None:
                return _info(current)
            parts = {kind: read_part(session, kind, fingerprint) for kind in KINDS}
        total = sum(len(part.ids) for part in parts.values())
        if total == 0:
            raise EmptyIndex(f"No embeddings of model {fingerprint[:12]} are in the archive. Run `alta embed`.")
        dimension = _common_dimension(parts)
        generation_id = _register(catalog, fingerprint, dimension, parts)
        try:
            return _build(catalog, folder, generation_id, parts, progress)
        except Exception as error:
            _fail(catalog, folder, generation_id, str(error))
            raise


def _build(
    catalog: Catalog, folder: Path, generation_id: int, parts: dict[str, Part], progress: Progress | None
) -> GenerationInfo:
    values: dict[str, object] = {}
    recalls = []
    done, total = 0, sum(len(part.ids) for part in parts.values())
    for kind, part in parts.items():
        if len(part.ids):
            name = f"generation-{generation_id}-{kind}.faiss"
            values[f"{kind}_file"] = name
            values[f"{kind}_sha256"] = write_index(folder / name, FlatIndex.of(part.ids, part.vectors))
            recalls.append(_check(kind, FlatIndex.read(folder / name), part))
        done += len(part.ids)
        if progress:
            progress(done, total)
    values["recall"] = min(recalls)
    sync_folder(folder)
    info = _activate(catalog, generation_id, values)
    remove_old(catalog, folder)
    logger.info("generation %d is live: %d images, %d reports", info.id, info.image_rows, info.report_rows)
    return info


def _common_dimension(parts: dict[str, Part]) -> int:
    widths = {part.vectors.shape[1] for part in parts.values() if len(part.ids)}
    if len(widths) > 1:
        raise ArchiveError(f"Image and report embeddings differ in width: {sorted(widths)}.", "bad-embedding")
    return int(widths.pop())


def _check(kind: str, index: FlatIndex, part: Part) -> float:
    """Recall@10 against numpy of the file as read back. Raises ArchiveError build-check-failed."""
    if len(index) != len(part.ids) or not np.array_equal(np.sort(index.ids), np.sort(part.ids)):
        raise ArchiveError(f"The {kind} file holds {len(index)} rows, expected {len(part.ids)}.", "build-check-failed")
    sample = np.random.default_rng(0).permutation(len(part.ids))[:SAMPLE]
    depth = min(RECALL_DEPTH, len(part.ids))
    found = 0
    for row in sample:
        query = part.vectors[row]
        exact = part.vectors.astype(np.float64) @ query.astype(np.float64)  # (N,)
        hits = dict(index.search(query, depth))
        # Twins of the vector may fill the list before it; its own score must then still be reached.
        if part.ids[row] not in hits and min(hits.values()) < exact[row] - 1e-6:
            raise ArchiveError(f"Study row {part.ids[row]} does not find its own {kind}.", "build-check-failed")
        threshold = np.sort(exact)[-depth] - 1e-6
        found += sum(exact[np.searchsorted(part.ids, study_id)] >= threshold for study_id in hits)
    recall = found / (len(sample) * depth)
    if recall < MINIMUM_RECALL:
        raise ArchiveError(f"Recall@{depth} of the {kind} file is {recall:.3f}.", "build-check-failed")
    return float(recall)


def _register(catalog: Catalog, fingerprint: str, dimension: int, parts: dict[str, Part]) -> int:
    with catalog.write() as session:
        row = Generation(
            state="building",
            model_fingerprint=fingerprint,
            engine=FlatIndex.name,
            dimension=dimension,
            image_rows=len(parts[IMAGE].ids),
            image_max_id=parts[IMAGE].max_id,
            report_rows=len(parts[REPORT].ids),
            report_max_id=parts[REPORT].max_id,
        )
        session.add(row)
        session.flush()
        return row.id


def _activate(catalog: Catalog, generation_id: int, values: dict[str, object]) -> GenerationInfo:
    with catalog.write() as session:
        row = session.get_one(Generation, generation_id)
        if row.state != "building":
            # The database dropped the connection that held the lock, and another builder took this one for dead.
            raise ArchiveError(f"Another build began while generation {row.id} was built.", "build-check-failed")
        session.execute(sa.update(Generation).where(Generation.state == "live").values(state="retired"))
        for name, value in values.items():
            setattr(row, name, value)
        row.state, row.activated_at = "live", datetime.now(UTC)
        session.flush()
        return _info(row)


def _current(session: Session, folder: Path, fingerprint: str) -> Generation | None:
    """The live generation when it already holds exactly the rows there are, and its files are whole."""
    live = _live(session)
    if live is None or live.model_fingerprint != fingerprint or live.engine != FlatIndex.name:
        return None
    for kind in KINDS:
        where = (Embedding.kind == kind, Embedding.model_fingerprint == fingerprint)
        # Rows are added and deleted, never changed, and ids only grow: these two name the set of rows.
        count, newest = session.execute(sa.select(sa.func.count(), sa.func.max(Embedding.id)).where(*where)).one()
        if (count, newest or 0) != (getattr(live, f"{kind}_rows"), getattr(live, f"{kind}_max_id")):
            return None
        try:
            whole_file(live, kind, folder)
        except ArchiveError:
            return None
    return live


def _forget_interrupted(catalog: Catalog, folder: Path) -> None:
    """A building row under the builder's lock was left by a process that died, on this host or another."""
    with catalog.session() as session:
        left = session.scalars(sa.select(Generation.id).where(Generation.state == "building")).all()
    for generation_id in left:
        _fail(catalog, folder, generation_id, "The process ended while building.")


def _fail(catalog: Catalog, folder: Path, generation_id: int, detail: str) -> None:
    with catalog.write() as session:
        row = session.get_one(Generation, generation_id)
        row.state, row.detail = "failed", detail
    for path in folder.glob(f"generation-{generation_id}-*"):
        path.unlink(missing_ok=True)


@contextmanager
def _one_builder(catalog: Catalog, folder: Path) -> Iterator[None]:
    with catalog.one_builder() as locked:
        if locked:  # by the database: hosts that share it need not share the folder
            yield
            return
        with (folder / ".build.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel when the process dies
            yield


def _live(session: Session) -> Generation | None:
    return session.scalar(sa.select(Generation).where(Generation.state == "live"))


def _info(row: Generation) -> GenerationInfo:
    return GenerationInfo(
        id=row.id,
        model_fingerprint=row.model_fingerprint,
        engine=row.engine,
        dimension=row.dimension,
        image_rows=row.image_rows,
        report_rows=row.report_rows,
        recall=row.recall,
        created_at=row.created_at,
        activated_at=row.activated_at,
    )
