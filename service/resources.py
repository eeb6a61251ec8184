"""What the service holds open while it runs, and what a request takes of it."""

import logging
from dataclasses import dataclass

from anyio import CapacityLimiter

from index import Catalog, DecoderPool, Gallery, Snapshot
from model.errors import ArchiveError, EmptyIndex, ModelMismatch

from .errors import RequestError
from .inference import Encoders, Inference
from .observing import Observer
from .receiving import Receiver
from .settings import Settings

__all__ = ["Moment", "Resources"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Moment:
    """The archive as it is when a request begins, and the encoders of what it searches.

    problem: why a newer generation than this is not used, or why there is none at all.
    """

    inference: Inference
    snapshot: Snapshot | None
    problem: ArchiveError | None

    def searched(self) -> Snapshot:
        """Raises EmptyIndex, ArchiveError."""
        if self.snapshot is not None:
            return self.snapshot
        raise self.problem or EmptyIndex(
            "No generation is live. Run `alta ingest`, `alta embed` and `alta index build`."
        )


@dataclass(frozen=True)
class Resources:
    """What the service holds open while it runs; all of it can be rebuilt from the database and the settings.

    probes: threads of their own for who looks from outside, so that they see a service whose threads are all at work.
    """

    settings: Settings
    catalog: Catalog
    gallery: Gallery
    encoders: Encoders
    decoder: DecoderPool
    receiver: Receiver
    observer: Observer
    probes: CapacityLimiter

    def top_k(self, asked: int | None) -> int:
        top_k = self.settings.default_top_k if asked is None else asked
        if top_k > self.settings.max_top_k:
            raise RequestError(
                f"Expected top_k from 1 to {self.settings.max_top_k}, found {top_k}.", "top-k-out-of-range"
            )
        return top_k

    def moment(self) -> Moment:
        """What a request works with from its beginning to its end."""
        problem: ArchiveError | None = None
        try:
            self.gallery.refresh()
        except ArchiveError as error:
            problem = error
            if self.gallery.snapshot is not None:
                log.warning("the live generation cannot be opened (%s); searching the one before", error.slug)
        while True:
            snapshot = self.gallery.snapshot
            if snapshot is None:
                return Moment(self.encoders.configured, None, problem or self.encoders.problem)
            inference = self.encoders.of(snapshot.info.model_fingerprint)
            if inference is not None:
                self.encoders.drop_unused(lambda: self.gallery.generation)
                return Moment(inference, snapshot, problem or self.encoders.problem)
            if snapshot is self.gallery.snapshot:  # else a newer one was switched to between these lines
                lost = ModelMismatch(f"The encoders of generation {snapshot.info.id} are not loaded.", "model-loading")
                return Moment(self.encoders.configured, None, problem or self.encoders.problem or lost)
