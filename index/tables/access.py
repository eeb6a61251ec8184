"""Who may use the service, and who did."""

from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base, UtcDateTime, now

__all__ = ["ApiKey", "AuditEntry", "Usage"]


class ApiKey(Base):
    """A key that a client authenticates with. Only its hash is kept: a random secret of 256 bits needs no slow one."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True)  # the public part of the key
    name: Mapped[str] = mapped_column(sa.String(128))
    secret_sha256: Mapped[str] = mapped_column(sa.String(64))
    scopes: Mapped[str] = mapped_column(sa.String(64))  # joined by spaces, as in OAuth 2.0 (RFC 6749 3.3)
    requests_per_minute: Mapped[int | None]
    requests_per_day: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_on: Mapped[date | None]


class Usage(Base):
    """Requests of one caller on one day (UTC), for quotas that hold over all replicas."""

    __tablename__ = "usage"

    caller: Mapped[str] = mapped_column(sa.String(96), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    requests: Mapped[int]


class AuditEntry(Base):
    """Who did what, when and from where. Rows are only ever added (triggers refuse the rest), and each holds the digest
    of the one before: a row that was changed or taken out breaks the chain.

    ``study_key``: HMAC of the StudyInstanceUID asked about, so that a forgotten patient's UID is not kept here.
    """

    __tablename__ = "audit_entry"
    __table_args__ = ({"sqlite_autoincrement": True},)  # ids are never used twice

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    caller: Mapped[str] = mapped_column(sa.String(96), index=True)
    action: Mapped[str] = mapped_column(sa.String(64))
    study_key: Mapped[str | None] = mapped_column(sa.String(64), index=True)
    address: Mapped[str | None] = mapped_column(sa.String(64))
    status: Mapped[int | None]  # of HTTP
    results: Mapped[int | None]
    request_id: Mapped[str | None] = mapped_column(sa.String(64))
    previous: Mapped[str] = mapped_column(sa.String(64))
    digest: Mapped[str] = mapped_column(sa.String(64), unique=True)
