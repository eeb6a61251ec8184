"""Embeddings of studies, and the generations that make them searchable."""

from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base, UtcDateTime, now

__all__ = ["IMAGE", "KINDS", "REPORT", "Embedding", "EmbeddingFailure", "EmbeddingRemoval", "Generation"]

IMAGE: Final = "image"
REPORT: Final = "report"
KINDS: Final = (IMAGE, REPORT)


class Embedding(Base):
    """A vector of one study. A new source means a new row: a row is never changed, so ids tell what is new."""

    __tablename__ = "embedding"
    __table_args__ = (
        sa.UniqueConstraint("study_id", "kind", "model_fingerprint"),
        sa.Index(None, "model_fingerprint", "kind", "id"),  # the newest rows of a model, asked for twice a second
        {"sqlite_autoincrement": True},  # ids are never used twice
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(sa.ForeignKey("study.id"))
    kind: Mapped[str] = mapped_column(sa.String(16))
    model_fingerprint: Mapped[str] = mapped_column(sa.String(64))
    vector: Mapped[bytes]  # float32, little-endian, length 1
    source_hash: Mapped[str] = mapped_column(sa.String(64))  # Study.image_source or Report.sha256 it was made from
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class EmbeddingRemoval(Base):
    """An embedding row that was deleted: a searcher whose index still holds it leaves it out."""

    __tablename__ = "embedding_removal"
    __table_args__ = ({"sqlite_autoincrement": True},)  # ids are never used twice

    id: Mapped[int] = mapped_column(primary_key=True)
    embedding_id: Mapped[int]
    study_id: Mapped[int]  # no foreign key: the study may be gone too
    kind: Mapped[str] = mapped_column(sa.String(16))
    model_fingerprint: Mapped[str] = mapped_column(sa.String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class EmbeddingFailure(Base):
    """A study that cannot be embedded as it is. Tried again when its source changes, or when asked."""

    __tablename__ = "embedding_failure"
    __table_args__ = (sa.UniqueConstraint("study_id", "kind", "model_fingerprint"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(sa.ForeignKey("study.id"))
    kind: Mapped[str] = mapped_column(sa.String(16))
    model_fingerprint: Mapped[str] = mapped_column(sa.String(64))
    source_hash: Mapped[str] = mapped_column(sa.String(64))
    reason: Mapped[str] = mapped_column(sa.String(64))
    detail: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class Generation(Base):
    """An index of the embeddings of one model up to a row; at most one is live.

    ``state``: building, live, retired (kept to go back to), failed, removed (no index any more).
    """

    __tablename__ = "generation"
    __table_args__ = (
        sa.Index(
            "uq_generation_live",
            "state",
            unique=True,
            sqlite_where=sa.text("state = 'live'"),
            postgresql_where=sa.text("state = 'live'"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(sa.String(16))
    model_fingerprint: Mapped[str] = mapped_column(sa.String(64))
    model_path: Mapped[str | None] = mapped_column(sa.Text)  # where the encoders lay that queries are embedded with
    engine: Mapped[str] = mapped_column(sa.String(32))  # names joined by + where the kinds differ
    settings: Mapped[str] = mapped_column(sa.Text, default="{}")  # JSON: by kind, the engine and its settings
    dimension: Mapped[int]
    image_rows: Mapped[int]
    image_max_id: Mapped[int]
    report_rows: Mapped[int]
    report_max_id: Mapped[int]
    removal_max_id: Mapped[int] = mapped_column(default=0)  # rows removed up to here are not in it
    recall: Mapped[float | None]  # recall@10 against exact search, the lower of the two kinds
    # JSON: quantiles of the cosines between studies of different patients, by the kinds of query and candidate.
    scores: Mapped[str] = mapped_column(sa.Text, default="{}")
    detail: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    activated_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
