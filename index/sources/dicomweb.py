"""Studies of a DICOMweb server, by study date: found with QIDO-RS, fetched with WADO-RS, day after day."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Final

from ..catalog import Catalog
from ..dicom import MODALITIES, Refusal
from ..intake.examine import Source
from ..intake.received import ReceivedStore
from ..progress import Progress
from .archived import known_uids
from .by_date import REPORT_MODALITY, ByDate, Plan
from .dicomweb_http import FAILURES, FetchFailed, PeerError
from .dicomweb_peer import DicomWebPeer, FoundInstance

__all__ = ["DicomWebSource"]

logger = logging.getLogger(__name__)

PATIENCE: Final = 10  # failures of the connection, one after the other, before the server counts as gone
CONNECTION: Final = ("server-busy", "server-error", "timeout", "connection-lost")


class DicomWebSource(ByDate):
    """The studies of a span of days of a DICOMweb server. ``files`` raises PeerError; ArchiveError: storage-full."""

    failures = FAILURES

    def __init__(
        self,
        catalog: Catalog,
        peer: DicomWebPeer,
        store: ReceivedStore,
        first: date,
        last: date,
        *,
        modalities: Sequence[str] = MODALITIES,
        again: bool = False,
        days: Progress | None = None,
    ) -> None:
        super().__init__(
            f"dicomweb:{peer.origin.name}",
            peer,
            catalog,
            store,
            first,
            last,
            modalities=modalities,
            again=again,
            days=days,
        )
        self._peer = peer
        self._failures: Counter[str] = Counter()  # in a row, of searches and of retrievals

    def files(self) -> Iterator[Source]:
        for found in self._found():
            if isinstance(found, Source):
                yield found
                continue
            missing, _ = self._split(found)
            self._known += len(missing)
            for instance in missing:
                yield self._fetch(instance)
            self._forget_failures()
        self._forget_failures()

    def plan(self) -> Plan:
        """What ``files`` would fetch. Fetches and records nothing."""
        plan = Plan()
        for found in self._found():
            if isinstance(found, Source):
                plan.failed += 1
                continue
            missing, known = self._split(found)
            plan.studies += 1
            plan.instances += len(missing) + known
            plan.missing += len(missing)
        return plan

    def _found(self) -> Iterator[list[FoundInstance] | Source]:
        """The wanted instances of each wanted study, and what could not be searched."""
        for day in self._each_day():
            place = f"studies?StudyDate={day:%Y%m%d}"
            try:
                studies = [study for study in self._peer.studies(day) if self._wants(study.modalities)]
                self._failures["search"] = 0
                self._mended.append(self._place(place))
                yield from self._unusable(place)
            except FetchFailed as error:
                yield self._failed("search", place, error)
                studies = []
            for study in studies:
                place = f"studies/{study.uid}/instances"
                try:
                    instances = [item for item in self._peer.instances(study) if self._takes(item.modality)]
                    self._failures["search"] = 0
                    self._mended.append(self._place(place))
                    yield from self._unusable(place)
                except FetchFailed as error:
                    yield self._failed("search", place, error)
                    continue
                if any(instance.modality != REPORT_MODALITY for instance in instances):
                    yield instances

    def _split(self, instances: list[FoundInstance]) -> tuple[list[FoundInstance], int]:
        """Those to be fetched, and how many others there are."""
        if self._again:
            return instances, 0
        known = known_uids(self._catalog, self._store, (instance.uid for instance in instances))
        missing = [instance for instance in instances if instance.uid not in known]
        return missing, len(instances) - len(missing)

    def _fetch(self, instance: FoundInstance) -> Source:
        try:
            path = self._peer.retrieve(instance, self._store)
        except FetchFailed as error:
            return self._failed("retrieval", instance.path, error)
        self._failures["retrieval"] = 0
        self._mended.append(self._place(instance.path))
        return Source(path, replaces=True)

    def _failed(self, what: str, place: str, error: FetchFailed) -> Source:
        logger.warning("%s/%s: %s", self.name, place, error.message)
        self._failures[what] = self._failures[what] + 1 if error.slug in CONNECTION else 0
        if self._failures[what] >= PATIENCE:
            raise PeerError(
                f"The {what} failed {PATIENCE} times in a row at {self.name}, last so: {error.message}"
                " Run it again when the server is well."
            )
        return Source(self._place(place), refusal=Refusal(error.slug, error.message))
