"""API keys: made, looked up, revoked.

A key reads ``alta_ID_SECRET``: the id is public and names the row, the secret is 256 random bits. Only the secret's
SHA-256 is kept. Slow hashes (bcrypt, Argon2) make guessing a secret that a person chose expensive; nobody guesses
2^256 of them, and a slow hash would cost every request.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from model.errors import ArchiveError, InputError

from ..catalog import ACCESS_LOCK, Catalog
from ..tables import ApiKey
from ..tables.base import now
from .audit import Event, append_events

__all__ = [
    "ADMIN",
    "METRICS",
    "SCOPES",
    "SEARCH",
    "WRITE",
    "KeyRecord",
    "create_key",
    "find_key",
    "has_keys",
    "list_keys",
    "note_use",
    "parse_key",
    "revoke_key",
    "secret_matches",
]

SEARCH, WRITE, ADMIN, METRICS = "search", "write", "admin", "metrics"
SCOPES: Final = (SEARCH, WRITE, ADMIN, METRICS)  # none includes another, but ADMIN sees what METRICS is for

_FORM = re.compile(r"alta_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class KeyRecord:
    """What is kept of a key. ``requests_per_*``: None for the service's default."""

    id: str
    name: str
    secret_sha256: str
    scopes: frozenset[str]
    requests_per_minute: int | None
    requests_per_day: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_on: date | None

    def usable_at(self, time: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or time < self.expires_at)


def create_key(
    catalog: Catalog,
    name: str,
    scopes: Iterable[str],
    by: str,
    *,
    expires_at: datetime | None = None,
    requests_per_minute: int | None = None,
    requests_per_day: int | None = None,
) -> tuple[str, KeyRecord]:
    """A new key, to be shown once, and its record. by: who asks, for the audit.

    Raises InputError bad-key: no name, or no scope or one of no meaning.
    """
    wanted = frozenset(scopes)
    if not wanted or not wanted <= set(SCOPES):
        raise InputError(f"Expected scopes among {', '.join(SCOPES)}, found {sorted(wanted) or 'none'}.", "bad-key")
    if not name.strip() or len(name) > 128:
        raise InputError("Expected a name of 1 to 128 characters, which says whose key it is.", "bad-key")
    identifier, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    row = ApiKey(
        id=identifier,
        name=name.strip(),
        secret_sha256=_hash(secret),
        scopes=" ".join(scope for scope in SCOPES if scope in wanted),
        requests_per_minute=requests_per_minute,
        requests_per_day=requests_per_day,
        created_at=now(),
        expires_at=expires_at,
    )
    with catalog.write(ACCESS_LOCK) as session:
        session.add(row)
        append_events(session, [Event(by, f"key-created {identifier}")])
    return f"alta_{identifier}_{secret}", _record(row)


def revoke_key(catalog: Catalog, identifier: str, by: str) -> KeyRecord:
    """The key is of no use from now on; again does nothing. Raises ArchiveError unknown-key."""
    with catalog.write(ACCESS_LOCK) as session:
        row = session.get(ApiKey, identifier)
        if row is None:
            raise ArchiveError(f"There is no key {identifier}: `alta keys list` shows them.", "unknown-key")
        if row.revoked_at is None:
            row.revoked_at = now()
            append_events(session, [Event(by, f"key-revoked {identifier}")])
    return _record(row)


def list_keys(catalog: Catalog) -> list[KeyRecord]:
    """Every key there ever was, the oldest first."""
    with catalog.session() as session:
        return [_record(row) for row in session.scalars(sa.select(ApiKey).order_by(ApiKey.created_at, ApiKey.id))]


def find_key(catalog: Catalog, identifier: str) -> KeyRecord | None:
    with catalog.session() as session:
        row = session.get(ApiKey, identifier)
        return None if row is None else _record(row)


def has_keys(catalog: Catalog, *, usable: bool = False) -> bool:
    """Whether a key was ever made; with ``usable``, whether one can be used now."""
    query = sa.select(ApiKey.id).limit(1)
    if usable:
        time = now()
        query = query.where(ApiKey.revoked_at.is_(None), (ApiKey.expires_at.is_(None)) | (ApiKey.expires_at > time))
    with catalog.session() as session:
        return session.scalar(query) is not None


def note_use(session: Session, days: Mapping[str, date]) -> None:
    """Write on which day keys (by id) were used last."""
    for identifier, day in sorted(days.items()):
        changed = sa.or_(ApiKey.last_used_on.is_(None), ApiKey.last_used_on < day)
        session.execute(sa.update(ApiKey).where(ApiKey.id == identifier, changed).values(last_used_on=day))


def parse_key(text: str) -> tuple[str, str] | None:
    """The id and the secret of a key as it is sent; None for what has not its form."""
    found = _FORM.fullmatch(text)
    return None if found is None else (found[1], found[2])


def secret_matches(record: KeyRecord, secret: str) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(_hash(secret), record.secret_sha256)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def _record(row: ApiKey) -> KeyRecord:
    return KeyRecord(
        row.id,
        row.name,
        row.secret_sha256,
        frozenset(row.scopes.split()),
        row.requests_per_minute,
        row.requests_per_day,
        row.created_at,
        row.expires_at,
        row.revoked_at,
        row.last_used_on,
    )
