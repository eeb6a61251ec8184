"""Messages about jobs that ended: taken by one sender at a time, tried again later and later, given up after a day."""

import random
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..catalog import JOBS_LOCK, Catalog
from ..tables import WebhookDelivery
from .ending import clock

__all__ = ["Delivery", "deliveries_of", "delivered", "give_up", "later", "take_due"]

SENDING_S: Final = 60.0  # how long a sender has to say what became of a message, before another tries
FIRST_S: Final = 5.0
LONGEST_S: Final = 3600.0
GIVEN_UP_AFTER: Final = timedelta(days=1)


@dataclass(frozen=True)
class Delivery:
    """state: waiting, delivered or given-up. id: the same in every attempt, so that a receiver knows a repetition."""

    id: str
    job_id: str
    url: str
    body: str
    attempts: int
    state: str
    last_error: str | None
    next_attempt_at: datetime

    @classmethod
    def of(cls, row: WebhookDelivery) -> "Delivery":
        state = "delivered" if row.delivered_at else "given-up" if row.given_up_at else "waiting"
        return cls(row.id, row.job_id, row.url, row.body, row.attempts, state, row.last_error, row.next_attempt_at)


def take_due(catalog: Catalog) -> Delivery | None:
    """A message that is due, for this sender alone; None when there is none. A sender that dies has tried in vain."""
    with catalog.session() as session:
        if session.scalar(_due(session)) is None:
            return None
    with catalog.write(JOBS_LOCK) as session:
        row = session.scalar(_due(session))
        if row is None:
            return None
        row.attempts += 1
        row.next_attempt_at = clock(session) + timedelta(seconds=SENDING_S)
        return Delivery.of(row)


def delivered(catalog: Catalog, delivery: Delivery) -> None:
    """Its receiver has it."""
    with catalog.write(JOBS_LOCK) as session:
        row = session.get_one(WebhookDelivery, delivery.id)
        row.delivered_at, row.last_error = clock(session), None


def later(catalog: Catalog, delivery: Delivery, error: str) -> None:
    """Its receiver does not have it: again after 5 s, 10 s and so on to an hour, half as long to half as long again, so
    that messages which failed together do not come again together."""
    wait = min(LONGEST_S, FIRST_S * 2 ** min(delivery.attempts - 1, 20)) * random.uniform(0.5, 1.5)
    with catalog.write(JOBS_LOCK) as session:
        row = session.get_one(WebhookDelivery, delivery.id)
        moment = clock(session)
        row.last_error = error[:64]
        row.next_attempt_at = moment + timedelta(seconds=wait)
        if row.next_attempt_at > row.created_at + GIVEN_UP_AFTER:
            row.given_up_at = moment


def give_up(catalog: Catalog, delivery: Delivery, error: str) -> None:
    """It must not be sent, or its receiver wants no more."""
    with catalog.write(JOBS_LOCK) as session:
        row = session.get_one(WebhookDelivery, delivery.id)
        row.given_up_at, row.last_error = clock(session), error[:64]


def deliveries_of(catalog: Catalog, job_ids: Collection[str]) -> dict[str, Delivery]:
    """The messages about the ends of jobs, by job; one that has not ended, or tells nobody, is absent."""
    with catalog.session() as session:
        rows = session.scalars(sa.select(WebhookDelivery).where(WebhookDelivery.job_id.in_(job_ids)))
        return {row.job_id: Delivery.of(row) for row in rows}


def _due(session: Session) -> sa.Select[WebhookDelivery]:
    query = sa.select(WebhookDelivery).where(
        WebhookDelivery.delivered_at.is_(None),
        WebhookDelivery.given_up_at.is_(None),
        WebhookDelivery.next_attempt_at <= clock(session),
    )
    return query.order_by(WebhookDelivery.next_attempt_at).limit(1)
