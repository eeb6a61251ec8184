"""The table of generations: which is live, which were, and what each was made of."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from model.errors import ArchiveError

from ..catalog import Catalog
from ..tables import IMAGE, KINDS, REPORT, Generation
from .rows import Census
from .scores import ArchiveScores

__all__ = [
    "BUILDING",
    "FAILED",
    "LIVE",
    "REMOVED",
    "RETIRED",
    "GenerationInfo",
    "activate",
    "list_generations",
    "live_generation",
    "live_row",
    "read_generation",
    "register",
]

BUILDING: Final = "building"
LIVE: Final = "live"
RETIRED: Final = "retired"  # kept, to go back to
FAILED: Final = "failed"
REMOVED: Final = "removed"


@dataclass(frozen=True)
class GenerationInfo:
    """A searchable set of embeddings.

    engine: names joined by + where the kinds differ. settings: by kind, what the engine chose. recall: recall@10
    against exact search, measured when it was built, the lower of the two kinds. scores: what is usual, measured then
    too. Rows of a kind up to ``max_id`` that
    were not removed by the removal ``removal_max_id`` are in its index.
    """

    id: int
    state: str
    model_fingerprint: str
    model_path: str | None
    engine: str
    settings: Mapping[str, Mapping[str, Any]]
    dimension: int
    image_rows: int
    image_max_id: int
    report_rows: int
    report_max_id: int
    removal_max_id: int
    recall: float | None
    scores: ArchiveScores
    detail: str | None
    created_at: datetime
    activated_at: datetime | None

    def rows(self, kind: str) -> int:
        return self.image_rows if kind == IMAGE else self.report_rows

    def max_id(self, kind: str) -> int:
        return self.image_max_id if kind == IMAGE else self.report_max_id

    def engine_of(self, kind: str) -> str:
        return str(self.settings.get(kind, {}).get("engine", self.engine))

    def token(self, kind: str) -> str:
        """What tells this part from one of the same number in another catalog."""
        made = self.created_at.astimezone(UTC).isoformat()
        named = (self.id, kind, self.model_fingerprint, self.max_id(kind), self.removal_max_id, made)
        return hashlib.sha256(repr(named).encode()).hexdigest()


def live_generation(catalog: Catalog) -> GenerationInfo | None:
    """The generation that answers searches, or None before the first build."""
    with catalog.session() as session:
        return live_row(session)


def list_generations(catalog: Catalog, *states: str) -> list[GenerationInfo]:
    """Generations in these states, all of them without any, newest first."""
    query = sa.select(Generation).order_by(Generation.id.desc())
    if states:
        query = query.where(Generation.state.in_(states))
    with catalog.session() as session:
        return [_info(row) for row in session.scalars(query)]


def read_generation(catalog: Catalog, generation_id: int) -> GenerationInfo:
    """Raises ArchiveError: unknown-generation."""
    with catalog.session() as session:
        row = session.get(Generation, generation_id)
        if row is None:
            raise ArchiveError(f"There is no generation {generation_id}: `alta index list`.", "unknown-generation")
        return _info(row)


def live_row(session: Session) -> GenerationInfo | None:
    row = session.scalar(sa.select(Generation).where(Generation.state == LIVE))
    return _info(row) if row else None


def register(
    catalog: Catalog, fingerprint: str, model_path: str | None, census: Census, engines: Sequence[str], dimension: int
) -> GenerationInfo:
    """A new generation, building."""
    with catalog.write() as session:
        row = Generation(
            state=BUILDING,
            model_fingerprint=fingerprint,
            model_path=model_path,
            engine=_joined(engines),
            settings="{}",
            dimension=dimension,
            image_rows=census.rows[IMAGE],
            image_max_id=census.max_ids[IMAGE],
            report_rows=census.rows[REPORT],
            report_max_id=census.max_ids[REPORT],
            removal_max_id=census.removal_max_id,
        )
        session.add(row)
        session.flush()
        return _info(row)


def activate(
    catalog: Catalog,
    generation_id: int,
    expected: str,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    recall: float | None = None,
    scores: Mapping[str, Any] | None = None,
) -> GenerationInfo:
    """Make a generation live in one transaction; the live one is retired. settings, recall, scores: of one just built.

    Raises ArchiveError (generation-changed) when its state is no longer ``expected``.
    """
    with catalog.write() as session:
        row = session.get_one(Generation, generation_id)
        if row.state != expected:
            message = f"Generation {row.id} is {row.state}, expected {expected}: another process changed it meanwhile."
            raise ArchiveError(message, "generation-changed")
        session.execute(sa.update(Generation).where(Generation.state == LIVE).values(state=RETIRED))
        if settings is not None:
            row.settings = json.dumps(settings)
            row.engine = _joined([settings[kind]["engine"] for kind in KINDS if kind in settings])
            row.recall = recall
            row.scores = json.dumps(scores or {})
        row.state, row.activated_at = LIVE, datetime.now(UTC)
        session.flush()
        return _info(row)


def _joined(engines: Sequence[str]) -> str:
    return "+".join(sorted(set(engines)))


def _info(row: Generation) -> GenerationInfo:
    return GenerationInfo(
        id=row.id,
        state=row.state,
        model_fingerprint=row.model_fingerprint,
        model_path=row.model_path,
        engine=row.engine,
        settings=json.loads(row.settings or "{}"),
        dimension=row.dimension,
        image_rows=row.image_rows,
        image_max_id=row.image_max_id,
        report_rows=row.report_rows,
        report_max_id=row.report_max_id,
        removal_max_id=row.removal_max_id,
        recall=row.recall,
        scores=ArchiveScores.of(json.loads(row.scores or "{}")),
        detail=row.detail,
        created_at=row.created_at,
        activated_at=row.activated_at,
    )
