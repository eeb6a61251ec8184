"""Generations of the index: built beside the live one, checked, switched by one transaction, gone back to.

Building needs the database only, never the encoder. Axes: N rows, D width.
"""

import fcntl
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from model.errors import ArchiveError, EmptyIndex

from ..catalog import Catalog
from ..engines import LOCAL_ENGINES, Engine
from ..progress import Progress
from ..tables import IMAGE, KINDS, REPORT, Embedding, Generation
from .build import build_part, engine_for
from .opening import open_or_restore
from .parts import named_engine, place_of, verify
from .removal import remove_old, remove_parts, unknown_engines
from .rows import Census, Rows, disk_errors, take_census, write_rows
from .scores import measure_scores
from .table import (
    BUILDING,
    FAILED,
    LIVE,
    RETIRED,
    GenerationInfo,
    activate,
    list_generations,
    live_generation,
    live_row,
    read_generation,
    register,
)

__all__ = [
    "KEPT",
    "build_generation",
    "one_builder",
    "rebuild_live",
    "rollback",
    "verify_generation",
]

logger = logging.getLogger(__name__)

KEPT: Final = 2  # the live generation, and one to go back to


def build_generation(
    catalog: Catalog,
    folder: Path,
    fingerprint: str,
    *,
    engine: str | None = None,
    model_path: str | None = None,
    keep: int = KEPT,
    progress: Progress | None = None,
    engines: Mapping[str, Engine] = LOCAL_ENGINES,
) -> GenerationInfo:
    """Make the current embeddings of a model searchable; the live generation is returned when nothing has changed.

    engine: chosen by size where not given. model_path: where services find the encoders that made the embeddings; as
    the newest generation of this model has it, where not given.
    keep: generations that stay, the live one included. The live one stays as it was on any error.
    Raises EmptyIndex without embeddings; ArchiveError: build-check-failed, bad-embedding, disk-full, unknown-engine.
    """
    if engine is not None:
        named_engine(engines, engine)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with one_builder(catalog, folder):
        return _build_alone(catalog, folder, fingerprint, engine, model_path, keep, progress, engines)


def rebuild_live(
    catalog: Catalog,
    folder: Path,
    *,
    progress: Progress | None = None,
    engines: Mapping[str, Engine] = LOCAL_ENGINES,
) -> None:
    """Make the live generation again of the rows that there are now, and remove every other: no index holds what was
    deleted any more. Without rows left none is live then. Raises ArchiveError as ``build_generation``."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with one_builder(catalog, folder):
        live = live_generation(catalog)  # once it is this one's turn: who was before may have switched to another
        if live is not None:
            used = [named_engine(engines, name) for name in live.engine.split("+")]
            elsewhere = [engine.name for engine in used if not engine.local]  # a new one goes there too
            engine = elsewhere[0] if elsewhere else None
            try:
                _build_alone(catalog, folder, live.model_fingerprint, engine, live.model_path, 1, progress, engines)
            except EmptyIndex:
                with catalog.write() as session:
                    session.execute(sa.update(Generation).where(Generation.state == LIVE).values(state=RETIRED))
        remove_old(catalog, folder, keep=1 if live_generation(catalog) else 0, engines=engines)


def rollback(
    catalog: Catalog, folder: Path, to: int | None = None, *, engines: Mapping[str, Engine] = LOCAL_ENGINES
) -> GenerationInfo:
    """Make a kept generation live again: ``to``, or the newest that is older than the live one.

    What was added or removed since is searched beside it, as with any generation.
    Raises ArchiveError: unknown-generation, nothing-to-go-back-to; index-file-missing, index-file-corrupt when it
    cannot be opened: the live one then stays.
    """
    with disk_errors(folder), one_builder(catalog, folder):
        live = live_generation(catalog)
        if to is None:
            kept = [info for info in list_generations(catalog, RETIRED) if live is None or info.id < live.id]
            if not kept:
                raise ArchiveError("No older generation is kept. See `alta index list`.", "nothing-to-go-back-to")
            target = kept[0]
        else:
            target = read_generation(catalog, to)
        if live is not None and target.id == live.id:
            return live
        if target.state != RETIRED:
            message = f"Generation {target.id} is {target.state}; only a retired one is kept. See `alta index list`."
            raise ArchiveError(message, "nothing-to-go-back-to")
        verify_generation(catalog, folder, target, engines=engines)
        return activate(catalog, target.id, RETIRED)


def verify_generation(
    catalog: Catalog, folder: Path, info: GenerationInfo, *, engines: Mapping[str, Engine] = LOCAL_ENGINES
) -> None:
    """Open every part, restoring what this host lacks, and compare every hash.

    Raises ArchiveError: index-file-missing, index-file-corrupt.
    """
    for kind in KINDS:
        open_or_restore(catalog, folder, info, kind, engines, hash_first=True)


def _build_alone(
    catalog: Catalog,
    folder: Path,
    fingerprint: str,
    engine: str | None,
    model_path: str | None,
    keep: int,
    progress: Progress | None,
    engines: Mapping[str, Engine],
) -> GenerationInfo:
    _forget_interrupted(catalog, folder, engines)
    with ExitStack() as stack:
        session = stack.enter_context(catalog.snapshot())
        census = take_census(session, fingerprint)
        current = _current(session, folder, fingerprint, census, engine, engines)
        if current is not None:
            return current
        if not any(census.rows.values()):
            raise EmptyIndex(f"No embeddings of model {fingerprint[:12]} are in the archive. Run `alta embed`.")
        chosen = {kind: engine or engine_for(count) for kind, count in census.rows.items() if count}
        dimension = _dimension(session, fingerprint)
        path = model_path or _known_path(catalog, fingerprint)
        info = register(catalog, fingerprint, path, census, list(chosen.values()), dimension)
        try:
            with disk_errors(folder):
                live = _build(session, stack, catalog, folder, info, chosen, engines, progress)
        except BaseException as error:
            _fail(catalog, folder, info.id, engines, str(error) or type(error).__name__)
            raise
    remove_old(catalog, folder, keep=keep, engines=engines)
    logger.info("generation %d is live: %d images, %d reports", live.id, live.image_rows, live.report_rows)
    return live


def _build(
    session: Session,
    stack: ExitStack,
    catalog: Catalog,
    folder: Path,
    info: GenerationInfo,
    chosen: dict[str, str],
    engines: Mapping[str, Engine],
    progress: Progress | None,
) -> GenerationInfo:
    total = sum(info.rows(kind) for kind in chosen)
    report = _Halves(progress, total)
    rows: dict[str, Rows] = {}
    for kind in chosen:
        written = write_rows(
            session, kind, info.model_fingerprint, folder / str(info.id) / f"{kind}.rows", progress=report.add
        )
        assert written is not None and len(written.ids) == info.rows(kind)
        rows[kind] = written
    stack.close()  # the snapshot: a reader of hours would keep the database from reusing its space
    settings: dict[str, dict[str, Any]] = {}
    recalls = []
    for kind, name in chosen.items():
        other = rows.get(REPORT if kind == IMAGE else IMAGE)
        others = None if other is None else other.vectors
        settings[kind], recall = build_part(folder, info, kind, rows[kind], others, name, engines)
        recalls.append(recall)
        report.add(info.rows(kind))
    scores = measure_scores(catalog, rows)
    rows.clear()
    for kind in chosen:
        shutil.rmtree(folder / str(info.id) / f"{kind}.rows", ignore_errors=True)
    return activate(catalog, info.id, BUILDING, settings, min(recalls), scores)


class _Halves:
    """Progress in rows where each is met twice: read, and built."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._met = progress, total, 0

    def add(self, rows: int) -> None:
        self._met += rows
        if self._progress:
            self._progress(self._met // 2, self._total)


def _known_path(catalog: Catalog, fingerprint: str) -> str | None:
    of_model = (info for info in list_generations(catalog) if info.model_fingerprint == fingerprint)
    return next((info.model_path for info in of_model if info.model_path), None)


def _dimension(session: Session, fingerprint: str) -> int:
    """D of the first embedding; every other is compared with its kind's, and the kinds below."""
    widths = set()
    for kind in KINDS:
        query = sa.select(sa.func.length(Embedding.vector)).where(
            Embedding.kind == kind, Embedding.model_fingerprint == fingerprint
        )
        size = session.scalar(query.order_by(Embedding.id).limit(1))
        if size is not None:
            widths.add(size // 4)
    if len(widths) > 1:
        raise ArchiveError(f"Image and report embeddings differ in width: {sorted(widths)}.", "bad-embedding")
    return int(widths.pop())


def _current(
    session: Session,
    folder: Path,
    fingerprint: str,
    census: Census,
    engine: str | None,
    engines: Mapping[str, Engine],
) -> GenerationInfo | None:
    """The live generation when it already holds exactly the rows there are, its files are whole and scores measured."""
    live = live_row(session)
    if live is None or live.model_fingerprint != fingerprint or not live.scores.measured:
        return None
    for kind in KINDS:
        # Rows are added and deleted, never changed, and ids only grow: these two name the set of rows.
        if (census.rows[kind], census.max_ids[kind]) != (live.rows(kind), live.max_id(kind)):
            return None
        if not live.rows(kind):
            continue
        settings = live.settings.get(kind, {})
        if engine is not None and engine not in (settings.get("engine"), settings.get("instead_of")):
            return None
        try:
            if named_engine(engines, live.engine_of(kind)).local:
                verify(place_of(folder, live.id, kind), live.token(kind), hashes=True)
        except ArchiveError:
            return None
    return live


def _forget_interrupted(catalog: Catalog, folder: Path, engines: Mapping[str, Engine]) -> None:
    """A building row under the builder's lock was left by a process that died, on this host or another."""
    for info in list_generations(catalog, BUILDING):
        if unknown_engines(info, engines):
            continue  # what it left there is to be removed yet
        _fail(catalog, folder, info.id, engines, "The process ended while building.")


def _fail(catalog: Catalog, folder: Path, generation_id: int, engines: Mapping[str, Engine], detail: str) -> None:
    info = read_generation(catalog, generation_id)
    remove_parts(folder, info, engines)
    with catalog.write() as session:
        row = session.get_one(Generation, generation_id)
        row.state, row.detail = FAILED, detail.replace("\x00", "")


@contextmanager
def one_builder(catalog: Catalog, folder: Path) -> Iterator[None]:
    """Whoever builds, switches or removes generations does so alone; waits for others. The folder exists."""
    with catalog.one_builder() as locked:
        if locked:  # by the database: hosts that share it need not share the folder
            yield
            return
        with (folder / ".build.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel when the process dies
            yield
