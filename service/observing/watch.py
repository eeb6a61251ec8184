"""Gauges that are read when they are scraped: from the open snapshot, the queues, and with cheap SQL statements."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from index import Catalog, Gallery
from index.tables import KINDS, Job
from model.errors import AltaError

__all__ = ["ArchiveWatch"]

log = logging.getLogger(__name__)

STATES: Final = ("queued", "running", "succeeded", "failed", "cancelled")

FAMILIES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "alta_generation": ("Identifier of the index generation that is searched.", ()),
    "alta_searchable_studies": ("Studies that can be found by their images and by their reports.", ("kind",)),
    "alta_queue_depth": ("Items that wait to be encoded.", ("line",)),
    "alta_database_up": ("1 where the database answered this scrape, else 0.", ()),
    "alta_jobs": ("Jobs in the database, by state.", ("state",)),
    "alta_returns": ("Results to be sent back in the database, by state; counted now and then.", ("state",)),
    "alta_embeddings_pending": (
        "Studies that lack an embedding of the encoders in use; counted now and then, of millions every few minutes.",
        ("kind",),
    ),
}


class ArchiveWatch(Collector):
    """depths: what waits, by line. pending: studies that lack an embedding, by kind, none before they were counted.
    returns: results that go back, by state, likewise. A database that is away costs its gauges."""

    def __init__(
        self,
        catalog: Catalog,
        gallery: Gallery,
        depths: Callable[[], Mapping[str, int]],
        pending: Callable[[], Mapping[str, int]],
        returns: Callable[[], Mapping[str, int]],
    ) -> None:
        self._catalog, self._gallery = catalog, gallery
        self._depths, self._pending, self._returns = depths, pending, returns

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Without values: the registry asks when the app starts, when nothing need be counted."""
        yield from (_family(name) for name in FAMILIES)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        values: dict[str, dict[str, float]] = {name: {} for name in FAMILIES}
        snapshot = self._gallery.snapshot
        if snapshot is not None:
            values["alta_generation"] = {"": snapshot.info.id}
            values["alta_searchable_studies"] = {kind: snapshot.rows(kind) for kind in KINDS}
        values["alta_queue_depth"] = dict(self._depths())
        try:
            values["alta_jobs"] = self._jobs_by_state()
            values["alta_returns"] = {state: float(count) for state, count in self._returns().items()}
            values["alta_embeddings_pending"] = {kind: float(count) for kind, count in self._pending().items()}
        except (AltaError, SQLAlchemyError) as error:
            log.warning("the database cannot be asked for metrics (%s)", type(error).__name__)
        values["alta_database_up"] = {"": float(bool(values["alta_jobs"]))}
        for name, found in values.items():
            family = _family(name)
            for label, value in found.items():
                family.add_metric((label,) if label else (), value)
            yield family

    def _jobs_by_state(self) -> dict[str, float]:
        with self._catalog.session() as session:
            rows = session.execute(sa.select(Job.state, sa.func.count()).group_by(Job.state))
            return dict.fromkeys(STATES, 0.0) | {row[0]: row[1] for row in rows}


def _family(name: str) -> GaugeMetricFamily:
    text, labels = FAMILIES[name]
    return GaugeMetricFamily(name, text, labels=labels)
