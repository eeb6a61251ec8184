"""The audit: who did what, about which study, when, from where, with how many results.

Every entry holds the digest of the one before it, and its own is

    SHA-256(UTF-8(JSON([previous, id, at, caller, action, study_key, address, status, results, request_id])))

JSON without spaces, non-ASCII characters escaped; ``at`` in UTC as 2026-01-31T12:00:00.000000Z; ids count up from 1
without a gap; ``previous`` of the first entry is 64 zeros. So an entry that was changed, put in or taken out is found.
Who owns the database can compute the whole chain anew: only a digest that was noted elsewhere shows that.
"""

import hashlib
import json
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..catalog import ACCESS_LOCK, Catalog
from ..tables import AuditEntry
from ..tables.base import now

__all__ = [
    "ORIGIN",
    "Event",
    "Verified",
    "append_events",
    "canonical",
    "list_entries",
    "record_events",
    "study_key",
    "verify_audit",
]

ORIGIN: Final = 64 * "0"
CHUNK: Final = 1000
# In the place of a patient's issuer, which holds no control character: no other pseudonym of the catalog is the same.
_STUDY: Final = "study\x1fin the audit"
_LAST: Final = sa.select(AuditEntry.id, AuditEntry.digest).order_by(AuditEntry.id.desc()).limit(1)
_INSERT: Final = sa.insert(AuditEntry)


@dataclass(frozen=True)
class Event:
    """What is to be written. ``study_key``: of ``study_key``; never a UID."""

    caller: str
    action: str
    study_key: str | None = None
    address: str | None = None
    status: int | None = None  # of HTTP
    results: int | None = None
    request_id: str | None = None


@dataclass(frozen=True)
class Verified:
    """What became of checking the chain.

    head: digest of the last entry, to be noted elsewhere. broken_at: id of the first entry that is not what was
    written there. anchor_found: whether the digest that was expected is one of the chain; None where none was given.
    """

    entries: int
    head: str
    broken_at: int | None = None
    reason: str | None = None
    anchor_found: bool | None = None

    @property
    def whole(self) -> bool:
        return self.broken_at is None and self.anchor_found is not False


def study_key(catalog: Catalog, study_instance_uid: str) -> str:
    """What stands for a study in the audit: HMAC-SHA256 under this catalog's own secret."""
    return catalog.patient_key(study_instance_uid, _STUDY)


def append_events(session: Session, events: Sequence[Event]) -> None:
    """Add entries to the chain, in a transaction that holds ``ACCESS_LOCK`` (``Catalog.write``)."""
    connection = session.connection()  # without the ORM's work: an entry is written for every request
    last = connection.execute(_LAST).one_or_none()
    before, previous = (last.id, last.digest) if last else (0, ORIGIN)
    rows = []
    for number, event in enumerate(events, start=before + 1):
        row = {"id": number, "at": now(), **vars(event), "previous": previous}
        row["digest"] = previous = hashlib.sha256(canonical(row)).hexdigest()
        rows.append(row)
    if rows:
        connection.execute(_INSERT, rows)


def record_events(catalog: Catalog, events: Sequence[Event]) -> None:
    """Add entries in a transaction of their own. Raises ArchiveError database-unavailable."""
    with catalog.write(ACCESS_LOCK) as session:
        append_events(session, events)


def canonical(row: dict[str, Any]) -> bytes:
    """The bytes whose digest an entry has."""
    at: datetime = row["at"]
    fields = [row["previous"], row["id"], at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")]
    fields += [row[name] for name in ("caller", "action", "study_key", "address", "status", "results", "request_id")]
    return json.dumps(fields, separators=(",", ":")).encode()


def verify_audit(catalog: Catalog, expected: str | None = None) -> Verified:
    """Compute every digest again, to the first entry that is wrong. expected: a digest noted earlier."""
    entries, head, anchored = 0, ORIGIN, expected == ORIGIN
    with closing(list_entries(catalog)) as rows:
        for row in rows:
            reason = _fault(row, entries, head)
            if reason is not None:
                return Verified(entries, head, row["id"], reason, None if expected is None else anchored)
            entries, head = entries + 1, row["digest"]
            anchored = anchored or head == expected
    return Verified(entries, head, anchor_found=None if expected is None else anchored)


def list_entries(
    catalog: Catalog,
    *,
    caller: str | None = None,
    action: str | None = None,
    study: str | None = None,
    since: datetime | None = None,
    last: int | None = None,
) -> Generator[dict[str, Any], None, None]:
    """Entries as mappings of their columns, the oldest first. study: a StudyInstanceUID. last: only so many."""
    table = AuditEntry.__table__
    query = sa.select(table)
    if caller is not None:
        query = query.where(table.c.caller == caller)
    if action is not None:
        query = query.where(table.c.action == action)
    if study is not None:
        query = query.where(table.c.study_key == study_key(catalog, study))
    if since is not None:
        query = query.where(table.c.at >= since)
    if last is not None:
        newest = query.order_by(table.c.id.desc()).limit(last).subquery()
        query = sa.select(newest).order_by(newest.c.id)
    else:
        query = query.order_by(table.c.id)
    with (
        catalog.snapshot() as session,
        session.execute(query, execution_options={"yield_per": CHUNK}) as rows,
    ):
        for row in rows.mappings():
            yield dict(row)


def _fault(row: dict[str, Any], before: int, head: str) -> str | None:
    if row["id"] != before + 1:
        return f"entries {before + 1} to {row['id'] - 1} are gone"
    if row["previous"] != head:
        return "it does not follow the entry before it"
    if hashlib.sha256(canonical(row)).hexdigest() != row["digest"]:
        return "it is not what was written"
    return None
