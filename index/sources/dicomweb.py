"""Studies of a DICOMweb server, by study date: found with QIDO-RS, fetched with WADO-RS, day after day."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from model.errors import InputError

from ..catalog import Catalog
from ..dicom import MODALITIES, Refusal
from ..intake.examine import Source
from ..intake.received import ReceivedStore
from ..progress import Progress
from ..reports.texts import ReportText
from .archived import forget_failures, known_uids
from .dicomweb_http import FAILURES, FetchFailed, PeerError
from .dicomweb_peer import DicomWebPeer, FoundInstance, FoundStudy

__all__ = ["DicomWebSource", "Plan"]

logger = logging.getLogger(__name__)

REPORT_MODALITY: Final = "SR"  # structured reports come along with the images they are about
PATIENCE: Final = 10  # failures of the connection, one after the other, before the server counts as gone
CONNECTION: Final = ("server-busy", "server-error", "timeout", "connection-lost")


@dataclass
class Plan:
    """What a pull would do. missing: instances that it would fetch."""

    studies: int = 0
    instances: int = 0
    missing: int = 0
    failed: int = 0


class DicomWebSource:
    """The studies of a span of days that hold an image of some modality, their images and structured reports.

    Instances that the archive has, or refused when it had them, are not fetched ``again``. What cannot be fetched is
    a refused file named ``dicomweb:NAME/studies/...`` until a later run can fetch it. ``days``: called with the days
    done and all of them. ``files`` raises InputError: bad-dates; PeerError; ArchiveError: storage-full.
    """

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
        if first > last:
            raise InputError(f"Expected a first day before the last, found {first} to {last}.", "bad-dates")
        self.name = f"dicomweb:{peer.origin.name}"
        self.store: ReceivedStore | None = store
        self._store = store
        self._catalog = catalog
        self._peer = peer
        self._first = first
        self._days = (last - first).days + 1
        self._modalities = frozenset(modality.upper() for modality in modalities)
        self._again = again
        self._progress = days
        self._known = 0
        self._failures: Counter[str] = Counter()  # in a row, of searches and of retrievals
        self._mended: list[Path] = []

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

    def reports(self) -> Iterator[ReportText]:
        return iter(())

    def known(self) -> int:
        return self._known

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
        for number in range(self._days):
            day = self._first + timedelta(number)
            place = f"studies?StudyDate={day:%Y%m%d}"
            try:
                studies = [study for study in self._peer.studies(day) if self._wants(study)]
                self._failures["search"] = 0
                self._mended.append(self._place(place))
                yield from self._unusable(place)
            except FetchFailed as error:
                yield self._failed("search", place, error)
                studies = []
            for study in studies:
                place = f"studies/{study.uid}/instances"
                try:
                    instances = [item for item in self._peer.instances(study) if self._takes(item)]
                    self._failures["search"] = 0
                    self._mended.append(self._place(place))
                    yield from self._unusable(place)
                except FetchFailed as error:
                    yield self._failed("search", place, error)
                    continue
                if any(instance.modality != REPORT_MODALITY for instance in instances):
                    yield instances
            if self._progress:
                self._progress(number + 1, self._days)

    def _wants(self, study: FoundStudy) -> bool:
        # Not asked of the server: ModalitiesInStudy is no key that every server knows (PS3.18 table 10.6.1-5).
        return study.modalities is None or not self._modalities.isdisjoint(study.modalities)

    def _takes(self, instance: FoundInstance) -> bool:
        return instance.modality in (None, REPORT_MODALITY) or instance.modality in self._modalities

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

    def _unusable(self, place: str) -> Iterator[Source]:
        count, self._peer.unusable = self._peer.unusable, 0
        if count:
            message = f"{count} results have no valid UID (PS3.5 9.1) to ask for them by."
            yield Source(self._place(f"{place}#unusable"), refusal=Refusal("bad-answer", message))

    def _place(self, place: str) -> Path:
        return Path(f"{self.name}/{place}")

    def _forget_failures(self) -> None:
        """What failed in an earlier run and is here now needs no row of its own any more."""
        places, self._mended = self._mended, []
        forget_failures(self._catalog, places, FAILURES)
