"""By which doors studies came, and what is sent back for them."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base, UtcDateTime, now

__all__ = ["StudyArrival", "StudyReturn"]


class StudyArrival(Base):
    """A study was sent to us: by which door, and by whom where senders say who they are (C-STORE)."""

    __tablename__ = "study_arrival"
    __table_args__ = (sa.UniqueConstraint("study_id", "door", "sender"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(sa.ForeignKey("study.id"))
    door: Mapped[str] = mapped_column(sa.String(16))
    sender: Mapped[str] = mapped_column(sa.String(16), default="")  # calling AE title
    arrived_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)  # of the newest image


class StudyReturn(Base):
    """Results of one state of a study that go back by one route. What was sent stays: it says what the receiver has.

    ``made``: the result as it was first made, without anything of the patient, until it was taken or given up: a
    document that is sent again is the same one. ``attempts`` counts how often somebody began to send and never goes
    back: with it, a sender that has lost the row to another is told from who has it now.
    """

    __tablename__ = "study_return"
    __table_args__ = (
        sa.UniqueConstraint("study_id", "route", "source_hash"),
        sa.Index(None, "route", "sent_at", "given_up_at", "next_attempt_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(sa.ForeignKey("study.id"))
    route: Mapped[str] = mapped_column(sa.String(32))
    source_hash: Mapped[str] = mapped_column(sa.String(64))  # Study.image_source of the state
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)  # not tried after that
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    given_up_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_error: Mapped[str | None] = mapped_column(sa.String(64))
    made: Mapped[str | None] = mapped_column(sa.Text)
    sop_instance_uid: Mapped[str | None] = mapped_column(sa.String(64))  # of the structured report that was sent
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
