"""What the administrator decided or did, and the catalog's own secrets."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base, UtcDateTime, now

__all__ = ["Backup", "DeletedStudy", "ForgottenPatient", "Secret", "Setting"]


class Secret(Base):
    """A random value made once for this catalog, such as the key of the patient pseudonyms."""

    __tablename__ = "secret"

    name: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    value: Mapped[bytes]


class Setting(Base):
    """What holds for the whole archive, whichever process reads it, such as how old a prior study may be."""

    __tablename__ = "setting"

    name: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    value: Mapped[str] = mapped_column(sa.Text)


class ForgottenPatient(Base):
    """A pseudonym of a patient who was removed for good, or of one of their studies: what comes under it is refused."""

    __tablename__ = "forgotten_patient"

    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    patient: Mapped[str] = mapped_column(sa.String(64))  # HMAC of who was named: what `remember` takes back together
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class DeletedStudy(Base):
    """A pseudonym of a study that was deleted: what comes of it is refused until it is restored."""

    __tablename__ = "deleted_study"

    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class Backup(Base):
    """A backup that was made: forgetting a patient has to reach it too."""

    __tablename__ = "backup"

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
