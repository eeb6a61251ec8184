"""What sources have in common that fetch the studies of a span of days from somebody else."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import ClassVar, Final, Protocol

from model.errors import InputError

from ..catalog import Catalog
from ..dicom import MODALITIES, Refusal
from ..intake.examine import Source
from ..intake.received import ReceivedStore
from ..progress import Progress
from ..reports.texts import ReportText
from .archived import forget_failures

__all__ = ["REPORT_MODALITY", "ByDate", "Plan"]

REPORT_MODALITY: Final = "SR"  # structured reports come along with the images they are about


@dataclass
class Plan:
    """What a pull would do. missing: instances that it would fetch."""

    studies: int = 0
    instances: int = 0
    missing: int = 0
    failed: int = 0


class Peer(Protocol):
    unusable: int  # results without a valid UID, counted by the peer until they are told


class ByDate(ABC):
    """Studies that hold an image of some modality, day after day, their images and structured reports.

    Instances that the archive has, or refused when it had them, are not fetched ``again``. What cannot be fetched is
    a refused file named after the peer and its place there, until a later run can fetch it. ``days``: called with the
    days done and all of them. Raises InputError: bad-dates.
    """

    failures: ClassVar[Collection[str]]  # reasons for which something could not be fetched

    def __init__(
        self,
        name: str,
        peer: Peer,
        catalog: Catalog,
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
        self.name = name
        self.store: ReceivedStore | None = store
        self._store = store
        self._catalog = catalog
        self._unusable_of = peer
        self._first, self._days = first, (last - first).days + 1
        self._modalities = frozenset(modality.upper() for modality in modalities)
        self._again = again
        self._progress = days
        self._known = 0
        self._mended: list[Path] = []

    @abstractmethod
    def files(self) -> Iterator[Source]:
        """As ``StudySource.files``, fetched as they are asked for."""

    @abstractmethod
    def plan(self) -> Plan:
        """What ``files`` would fetch. Fetches and records nothing."""

    def reports(self) -> Iterator[ReportText]:
        return iter(())

    def known(self) -> int:
        return self._known

    def _each_day(self) -> Iterator[date]:
        for number in range(self._days):
            yield self._first + timedelta(number)
            if self._progress:
                self._progress(number + 1, self._days)

    def _wants(self, modalities: Collection[str] | None) -> bool:
        # Not asked of the peer: ModalitiesInStudy is no key that everyone matches (PS3.4 C.6.2.1.2, PS3.18 10.6.1.2).
        return modalities is None or not self._modalities.isdisjoint(modalities)

    def _takes(self, modality: str | None) -> bool:
        return modality in (None, REPORT_MODALITY) or modality in self._modalities

    def _place(self, place: str) -> Path:
        return Path(f"{self.name}/{place}")

    def _unusable(self, place: str) -> Iterator[Source]:
        count, self._unusable_of.unusable = self._unusable_of.unusable, 0
        if count:
            message = f"{count} results have no valid UID (PS3.5 9.1) to ask for them by."
            yield Source(self._place(f"{place}#unusable"), refusal=Refusal("bad-answer", message))

    def _forget_failures(self) -> None:
        """What failed in an earlier run and is here now needs no row of its own any more."""
        places, self._mended = self._mended, []
        forget_failures(self._catalog, places, self.failures)
