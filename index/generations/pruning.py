"""What no kept generation needs: old indexes, embeddings of unused models, removals that are taken in."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..catalog import Catalog
from ..engines import LOCAL_ENGINES, Engine
from ..tables import Embedding, EmbeddingFailure, EmbeddingRemoval
from .lifecycle import KEPT, one_builder
from .reindex import reindex_under_way
from .removal import old_generations, remove_old
from .table import LIVE, RETIRED, GenerationInfo, list_generations

__all__ = ["PruneSummary", "prune"]

BATCH: Final = 5_000  # rows of one transaction: others write in between


@dataclass
class PruneSummary:
    """generations: ids. embeddings: rows by model fingerprint. failures, removals: rows."""

    generations: list[int] = field(default_factory=list)
    embeddings: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    removals: int = 0


def prune(
    catalog: Catalog,
    folder: Path,
    *,
    models: Collection[str],
    keep: int = KEPT,
    dry_run: bool = False,
    engines: Mapping[str, Engine] = LOCAL_ENGINES,
) -> PruneSummary:
    """Remove all but ``keep`` generations, and the rows of models that none of these uses.

    models: fingerprints that stay in any case, the configured one; so does one that a reindex is under way to.
    """
    if dry_run:
        return _prune(catalog, folder, set(models), keep, True, engines)
    folder.mkdir(parents=True, exist_ok=True)
    with one_builder(catalog, folder):
        return _prune(catalog, folder, set(models), keep, False, engines)


def _prune(
    catalog: Catalog, folder: Path, models: set[str], keep: int, dry_run: bool, engines: Mapping[str, Engine]
) -> PruneSummary:
    old = {info.id for info in old_generations(catalog, keep)}
    kept = [info for info in list_generations(catalog, LIVE, RETIRED) if info.id not in old]
    models |= {info.model_fingerprint for info in kept}
    under_way = reindex_under_way(catalog)
    if under_way is not None:
        models.add(under_way.model_fingerprint)
    taken_in = _taken_in(kept)
    with catalog.session() as session:
        embeddings, failures = (_unused(session, table, models) for table in (Embedding, EmbeddingFailure))
        summary = PruneSummary(
            generations=sorted(old),
            embeddings=embeddings,
            failures=sum(failures.values()),
            removals=session.scalar(sa.select(sa.func.count()).select_from(EmbeddingRemoval).where(taken_in)) or 0,
        )
    if not dry_run:
        summary.generations = sorted(remove_old(catalog, folder, keep=keep, engines=engines))
        # No generation of these models is left, so no searcher has to be told that their rows go.
        for table, unused in ((Embedding, embeddings), (EmbeddingFailure, failures)):
            for model in unused:
                _delete(catalog, table, table.model_fingerprint == model, model)
        _delete(catalog, EmbeddingRemoval, taken_in)
    return summary


def _unused(session: Session, table: Any, models: set[str]) -> dict[str, int]:
    """Rows by model, of all but these."""
    query = sa.select(table.model_fingerprint, sa.func.count()).where(table.model_fingerprint.not_in(models))
    return {row[0]: row[1] for row in session.execute(query.group_by(table.model_fingerprint))}


def _taken_in(kept: Collection[GenerationInfo]) -> sa.ColumnElement[bool]:
    """Removals that every kept generation of their model was built after."""
    oldest: dict[str, int] = {}
    for info in kept:
        model = info.model_fingerprint
        oldest[model] = min(oldest.get(model, info.removal_max_id), info.removal_max_id)
    needed = [
        sa.and_(EmbeddingRemoval.model_fingerprint == model, EmbeddingRemoval.id > removal_id)
        for model, removal_id in oldest.items()
    ]
    return ~sa.or_(sa.false(), *needed)


def _delete(catalog: Catalog, table: Any, where: sa.ColumnElement[bool], model: str | None = None) -> None:
    """Batch by batch, until a reindex to this model begins."""
    while True:
        with catalog.write() as session:
            under_way = reindex_under_way(catalog)
            if under_way is not None and under_way.model_fingerprint == model:
                return
            ids = session.scalars(sa.select(table.id).where(where).limit(BATCH)).all()
            session.execute(sa.delete(table).where(table.id.in_(ids)))
        if len(ids) < BATCH:
            return
