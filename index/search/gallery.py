"""The searchable archive, kept up to date.

A request works on one immutable ``Snapshot``; ``refresh`` swaps in a newer one and touches nothing a request holds.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Final, Literal

import numpy as np

from model.errors import ArchiveError, EmptyIndex

from ..catalog import Catalog
from ..engines import LOCAL_ENGINES, Engine
from ..generations.opening import open_or_restore
from ..generations.parts import remove_folders
from ..generations.table import BUILDING, LIVE, RETIRED, GenerationInfo, list_generations, live_generation
from ..tables import KINDS
from .delta import Seen, empty_delta, newest, read_since
from .filters import NO_FILTERS, Filters
from .snapshot import Hit, Snapshot

__all__ = ["Gallery"]

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.5  # what was committed is searchable after this and the reading of it
RETRY_SECONDS: Final = 10  # files that cannot be used are not read for every request
NOTHING: Final = Seen(None, 0, 0)


@dataclass(frozen=True)
class _Failure:
    generation_id: int
    until: float  # seconds of the monotonic clock
    error: ArchiveError


class Gallery:
    """Thread-safe. usable: whether queries for a generation can be made, asked before it is switched to."""

    def __init__(
        self,
        catalog: Catalog,
        folder: Path,
        *,
        engines: Mapping[str, Engine] = LOCAL_ENGINES,
        usable: Callable[[GenerationInfo], bool] = lambda info: True,
    ) -> None:
        self._catalog = catalog
        self._folder = folder
        self._engines = engines
        self._usable = usable
        self._snapshot: Snapshot | None = None
        self._seen = NOTHING
        self._polled = -POLL_SECONDS
        self._refreshing = threading.Lock()  # held for a query or two: snapshot and seen belong together
        self._opening = threading.Lock()  # held for as long as it takes to open a generation, or to make its files
        self._failure: _Failure | None = None
        self._problem: ArchiveError | None = None  # why the live generation is not the open one

    @property
    def snapshot(self) -> Snapshot | None:
        """What a request searches; ``refresh`` first for the newest. None before the first generation."""
        return self._snapshot

    @property
    def generation(self) -> GenerationInfo | None:
        """The generation that ``search`` uses."""
        snapshot = self._snapshot
        return snapshot.info if snapshot else None

    def refresh(self, *, now: bool = False) -> None:
        """Take in what the database has: a new live generation, new embeddings, removals. Asked at most every
        ``POLL_SECONDS`` unless ``now``; one small query when there is nothing new.

        While one caller opens a generation, the others go on with the one before and keep it up to date. Raises
        ArchiveError (index-file-missing, index-file-corrupt); what was open stays open, and the files are read again
        after ``RETRY_SECONDS``.
        """
        wait = now or self._snapshot is None
        recent = self._snapshot is not None and monotonic() - self._polled < POLL_SECONDS
        if (now or not recent) and self._refreshing.acquire(blocking=wait):
            try:
                another = self._keep_up()
                self._polled = monotonic()
            finally:
                self._refreshing.release()
            if another:
                self._switch(wait)
            else:
                self._problem = None
        problem = self._problem
        if problem is not None:
            raise ArchiveError(problem.message, problem.slug)

    def search(
        self,
        kind: Literal["image", "report"],
        vector: np.ndarray,
        top_k: int,
        filters: Filters = NO_FILTERS,
        fingerprint: str | None = None,
    ) -> list[Hit]:
        """``Snapshot.search`` of the open one. Raises EmptyIndex before the first generation too."""
        snapshot = self._snapshot
        if snapshot is None:
            raise EmptyIndex("No generation is live. Run `alta embed`, then `alta index build`.")
        return snapshot.search(kind, vector, top_k, filters, fingerprint)

    def _keep_up(self) -> bool:
        """Take into the open snapshot what came since. Returns whether another generation is live, and usable."""
        with self._catalog.session() as session:
            seen = newest(session.connection())
        snapshot = self._snapshot
        if snapshot is not None and seen != self._seen:
            self._take_in(snapshot, self._seen)
        if snapshot is not None and seen.live_id == snapshot.info.id:
            self._usable(snapshot.info)  # it may have been gone back to: no other is waited for any more
            return False
        live = live_generation(self._catalog) if seen.live_id is not None else None
        return live is not None and self._usable(live)

    def _switch(self, wait: bool) -> None:
        """Open the live generation, unless another caller is at it and nobody need wait."""
        if not self._opening.acquire(blocking=wait):
            return
        try:
            live = live_generation(self._catalog)  # again: it may have been waited for
            open_id = self._snapshot.info.id if self._snapshot else None
            if live is not None and live.id != open_id and self._usable(live):
                self._open_or_remember(live)
            self._problem = None
        except ArchiveError as error:
            self._problem = error
        finally:
            self._opening.release()

    def _take_in(self, snapshot: Snapshot, since: Seen) -> None:
        with self._catalog.snapshot() as session:
            connection = session.connection()
            seen = newest(connection)
            deltas = read_since(connection, snapshot.info, since, dict(snapshot.deltas))
        self._snapshot, self._seen = replace(snapshot, deltas=deltas, seen=seen), seen

    def _open_or_remember(self, live: GenerationInfo) -> None:
        failure = self._failure
        if failure is not None and failure.generation_id == live.id and monotonic() < failure.until:
            raise ArchiveError(failure.error.message, failure.error.slug)
        try:
            self._open(live)
        except ArchiveError as error:
            # Its files may have been removed because a newer one went live a moment ago.
            newer = live_generation(self._catalog)
            if newer is None or newer.id == live.id or not self._usable(newer):
                self._failure = _Failure(live.id, monotonic() + RETRY_SECONDS, error)
                raise
            self._open(newer)

    def _open(self, live: GenerationInfo) -> None:
        parts = {kind: open_or_restore(self._catalog, self._folder, live, kind, self._engines) for kind in KINDS}
        nothing = {kind: empty_delta(live.dimension) for kind in KINDS}
        opened = Snapshot(self._catalog, live, parts, nothing, NOTHING)
        with self._refreshing:
            self._take_in(opened, NOTHING)
        logger.info("generation %d is open", live.id)
        # Hosts that build nothing have folders of their own too.
        remove_folders(
            self._folder, lambda: [info.id for info in list_generations(self._catalog, LIVE, RETIRED, BUILDING)]
        )
