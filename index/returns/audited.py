"""What went to other systems, or was given up, in the audit: in the transaction that says so of the row, so that one is
never without the other."""

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..access.audit import Event, append_events
from ..catalog import ACCESS_LOCK

__all__ = ["GIVEN_UP", "SENT", "audit_returns", "return_event"]

SENT: Final = "result-sent"
GIVEN_UP: Final = "result-given-up"


def return_event(action: str, study_key: str, route: str, kind: str = "", host: str | None = None) -> Event:
    """kind: of the document; empty where the route is gone, and with it what it sent. host: to which it goes."""
    address = None if host is None else host[:64]
    return Event(f"route:{route}", f"{action} {kind}".strip(), study_key, address)


def audit_returns(session: Session, events: Sequence[Event]) -> None:
    """Add entries, last in a transaction: every answer waits for who has the audit's lock, who waits for nobody."""
    if not events:
        return
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sa.select(sa.func.pg_advisory_xact_lock(ACCESS_LOCK)))
    append_events(session, events)
