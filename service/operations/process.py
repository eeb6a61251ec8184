"""The process that answers: what runs in it, and how its requests went since it was started."""

import socket
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version

from model.checkpoint import Provenance, read_provenance
from model.encoder import StudyEncoder
from model.errors import AltaError

from ..observing import Answers
from ..resources import Resources
from ..schemas import EncodersNow, LatencyNow, ProcessNow
from ..settings import DEMO_ENCODERS

__all__ = ["ProcessFigures"]


class ProcessFigures:
    """started_at is when this is made."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._started_at = datetime.now(UTC)
        self._demo: Provenance | None = None
        with suppress(AltaError, OSError):  # they are not shipped with every installation
            self._demo = read_provenance(DEMO_ENCODERS)

    def now(self) -> ProcessNow:
        """From memory alone."""
        resources, settings = self._resources, self._resources.settings
        answers = resources.observer.metrics.answers()
        searches = Answers.together(each for each in answers if _is_search(each.route))
        requests: Counter[str] = Counter()
        for each in answers:
            requests[each.status] += each.count
        return ProcessNow(
            version=version("alta-retrieval"),
            host=socket.gethostname(),
            started_at=self._started_at,
            encoders=self._encoders(resources.encoders.configured.encoder),
            decoders=settings.decode_workers,
            requests_running=resources.observer.metrics.running,
            requests=dict(sorted(requests.items())),
            turned_away=resources.observer.metrics.turned_away,
            searches=LatencyNow(count=searches.count, median=searches.quantile(0.5), p95=searches.quantile(0.95)),
            queue=resources.encoders.depths,
            receives=settings.receive,
            ingest_roots=[str(root) for root in settings.ingest_roots],
        )

    def _encoders(self, encoder: StudyEncoder) -> EncodersNow:
        # What a fake or another encoder does not tell is unknown.
        provenance, device, dtype = (getattr(encoder, name, None) for name in ("provenance", "device", "dtype"))
        return EncodersNow(
            name=getattr(provenance, "name", "unknown"),
            fingerprint=encoder.fingerprint,
            demo=self._demo is not None and provenance == self._demo,
            device=None if device is None else str(device),
            dtype=None if dtype is None else str(dtype).removeprefix("torch."),
        )


def _is_search(route: str) -> bool:
    return route.startswith("/v1/search") or route.endswith("/similar")
