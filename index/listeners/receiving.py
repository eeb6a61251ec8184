"""Takes in what a store receives, soon after it came, for as long as somebody listens."""

import logging
import threading
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from model.errors import ArchiveError

from ..catalog import Catalog
from ..intake.examine import examiner
from ..intake.ingest import ingest_received
from ..intake.received import ReceivedStore
from ..intake.summary import IngestSummary

__all__ = ["Arrivals", "take_in_arrivals"]

logger = logging.getLogger(__name__)

GATHER_SECONDS: Final = 0.3  # what one association sends together is recorded together
LOOK_SECONDS: Final = 5.0  # another process may share the store
RETRY_SECONDS: Final = 5.0  # the database is away


class Arrivals:
    """Tells the loop that something came, and when to end. Thread-safe; may be used from a signal handler."""

    def __init__(self) -> None:
        self._came = threading.Event()
        self._ended = threading.Event()

    def came(self) -> None:
        self._came.set()

    def end(self) -> None:
        self._ended.set()
        self._came.set()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def wait(self) -> None:
        """Until something came and what comes with it may be there too, or the end."""
        if self._came.wait(LOOK_SECONDS):
            self._ended.wait(GATHER_SECONDS)
        self._came.clear()

    def wait_for_end(self, seconds: float) -> None:
        self._ended.wait(seconds)


def take_in_arrivals(
    catalog: Catalog,
    store: ReceivedStore,
    arrivals: Arrivals,
    taken_in: Callable[[IngestSummary], None],
    *,
    workers: int | None = None,
    stop_receiving: Callable[[], None] = lambda: None,
) -> None:
    """Ingest what waits now, then what arrives, until ``arrivals.end``; then ``stop_receiving`` and the rest.

    ``taken_in`` hears of every round that met something. A database that is away costs nothing but time: objects wait
    in the store. At the end it is tried once only.
    """
    with examiner(workers) as examine:

        def take_in() -> bool:
            if not store.waiting():
                return True
            try:
                taken_in(ingest_received(catalog, store, examine=examine))
            except (ArchiveError, OSError, sa.exc.DBAPIError) as error:
                logger.error("what waits could not be taken in and goes on waiting: %s", error)
                return False
            return True

        while not arrivals.ended:
            if take_in():
                arrivals.wait()
            else:
                arrivals.wait_for_end(RETRY_SECONDS)
        stop_receiving()
        take_in()
