"""Deleting embeddings: every deletion is written down, so that a searcher whose index holds the row leaves it out."""

from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..tables import Embedding, EmbeddingFailure, EmbeddingRemoval

__all__ = ["forget_embeddings", "remove_embeddings"]


def remove_embeddings(session: Session, *where: sa.ColumnElement[bool]) -> int:
    """Delete the embedding rows of a condition; returns how many. The one way to delete them."""
    columns = ("embedding_id", "study_id", "kind", "model_fingerprint", "created_at")
    rows = sa.select(
        Embedding.id,
        Embedding.study_id,
        Embedding.kind,
        Embedding.model_fingerprint,
        sa.literal(datetime.now(UTC), EmbeddingRemoval.created_at.type),
    ).where(*where)
    session.execute(sa.insert(EmbeddingRemoval).from_select(columns, rows))
    return session.execute(sa.delete(Embedding).where(*where)).rowcount  # type: ignore[attr-defined]


def forget_embeddings(session: Session, study_ids: Sequence[int], kind: str) -> None:
    """What a study no longer has must no longer be found."""
    remove_embeddings(session, Embedding.kind == kind, Embedding.study_id.in_(study_ids))
    session.execute(
        sa.delete(EmbeddingFailure).where(EmbeddingFailure.kind == kind, EmbeddingFailure.study_id.in_(study_ids))
    )
