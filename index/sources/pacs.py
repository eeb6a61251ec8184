"""Studies of a PACS, by study date: found with C-FIND, fetched with C-MOVE or C-GET, day after day."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from model.errors import InputError

from ..batches import batched
from ..catalog import Catalog
from ..dicom import MODALITIES, Refusal
from ..intake.examine import Source
from ..intake.received import ReceivedStore
from ..progress import Progress
from ..reports.texts import ReportText
from .archived import forget_failures, known_uids
from .pacs_peer import FAILURES, FoundSeries, FoundStudy, PacsError, PacsFailure, PacsPeer, TooMany

__all__ = ["PacsPlan", "PacsSource"]

logger = logging.getLogger(__name__)

REPORT_MODALITY: Final = "SR"  # structured reports come along with the images they are about
UIDS_A_REQUEST: Final = 100
PATIENCE: Final = 10  # retrievals that the PACS answers with a failure, one after the other, before the run ends
SMALLEST_MINUTES: Final = 1


@dataclass
class PacsPlan:
    """What a pull would do. missing: instances that it would fetch."""

    studies: int = 0
    instances: int = 0
    missing: int = 0
    failed: int = 0


@dataclass(frozen=True)
class _Wanted:
    """A series and which of its instances to fetch; whole: all of them, which is one request."""

    series: FoundSeries
    missing: list[str]
    known: int
    whole: bool


class PacsSource:
    """The studies of a span of days that hold an image of some modality, their images and structured reports.

    Instances that the archive has, or refused when it had them, are not fetched ``again``. What cannot be fetched is
    a refused file named ``pacs:AET/studies/...`` until a later run can fetch it. ``days``: called with the days done
    and all of them. ``files`` raises PacsError; ArchiveError: storage-full. Raises InputError: bad-dates.
    """

    def __init__(
        self,
        catalog: Catalog,
        peer: PacsPeer,
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
        self.name = f"pacs:{peer.node.called_aet}"
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
        self._failures = 0  # in a row
        self._mended: list[Path] = []

    def files(self) -> Iterator[Source]:
        for found in self._found():
            if isinstance(found, Source):
                yield found
                continue
            for wanted in found:
                self._known += len(wanted.missing)
                yield from self._fetch(wanted)
            self._forget_failures()
        self._forget_failures()

    def reports(self) -> Iterator[ReportText]:
        return iter(())

    def known(self) -> int:
        return self._known

    def plan(self) -> PacsPlan:
        """What ``files`` would fetch. Fetches and records nothing."""
        plan = PacsPlan()
        for found in self._found():
            if isinstance(found, Source):
                plan.failed += 1
                continue
            plan.studies += 1
            plan.missing += sum(len(wanted.missing) for wanted in found)
            plan.instances += sum(len(wanted.missing) + wanted.known for wanted in found)
        return plan

    def _found(self) -> Iterator[list[_Wanted] | Source]:
        """The wanted series of each wanted study, and what could not be searched."""
        for number in range(self._days):
            day = self._first + timedelta(number)
            place = f"studies?StudyDate={day:%Y%m%d}"
            studies: dict[str, FoundStudy] = {}
            try:
                complete = self._search(day, studies)
                if complete:
                    self._mended.append(self._place(place))
                else:
                    message = "The PACS limits its results so much that not even those of one minute come whole."
                    yield self._failed(place, PacsFailure(message, "too-many-results"))
            except PacsFailure as error:
                yield self._failed(place, error)
            yield from self._unusable(place)
            for study in studies.values():
                if study.modalities is None or not self._modalities.isdisjoint(study.modalities):
                    yield from self._of_study(study)
            if self._progress:
                self._progress(number + 1, self._days)

    def _search(self, day: date, studies: dict[str, FoundStudy], start: int = 0, end: int = 24 * 60) -> bool:
        """Fill ``studies`` with those of some minutes of a day, in halves where the PACS has a limit of results.

        False when even the smallest part is over the limit. A study without a time is only found by the whole day.
        """
        part = None if (start, end) == (0, 24 * 60) else (_clock(start), _clock(end - 1))
        try:
            found = self._peer.studies(day, part)
        except TooMany as error:
            studies |= {study.uid: study for study in self._peer.as_studies(error.found)}
            if end - start <= SMALLEST_MINUTES:
                return False
            middle = (start + end) // 2
            halves = [self._search(day, studies, *half) for half in ((start, middle), (middle, end))]
            return all(halves)
        studies |= {study.uid: study for study in found}
        return True

    def _of_study(self, study: FoundStudy) -> Iterator[list[_Wanted] | Source]:
        place = f"studies/{study.uid}"
        wanted: list[_Wanted] = []
        try:
            found = [series for series in self._peer.series(study.uid) if self._takes(series)]
            if all(series.modality == REPORT_MODALITY for series in found):
                return
            for series in found:
                wanted.append(self._missing(series, self._peer.instances(series)))
        except PacsFailure as error:
            yield self._failed(place, error)
            return
        yield from self._unusable(place)
        self._mended.append(self._place(place))
        yield wanted

    def _takes(self, series: FoundSeries) -> bool:
        return series.modality in (None, REPORT_MODALITY) or series.modality in self._modalities

    def _missing(self, series: FoundSeries, uids: list[str]) -> _Wanted:
        known = set() if self._again else known_uids(self._catalog, self._store, uids)
        missing = [uid for uid in uids if uid not in known]
        # Without any instance found: the PACS may not answer at this level, so the series is asked for as it is.
        return _Wanted(series, missing, len(uids) - len(missing), whole=not known)

    def _fetch(self, wanted: _Wanted) -> Iterator[Source]:
        if not wanted.missing and not wanted.whole:
            return
        arrived: dict[str, Path] = {}
        why = "The PACS did not send it."
        requests = [[]] if wanted.whole else list(batched(wanted.missing, UIDS_A_REQUEST))
        for again in (False, True):
            for uids in requests:
                try:
                    arrived |= self._peer.fetch(wanted.series, uids)
                    self._failures = 0
                except PacsFailure as error:
                    why = error.message
                    self._failures += not again
            lacking = [uid for uid in wanted.missing if uid not in arrived]
            requests = list(batched(lacking, UIDS_A_REQUEST))  # once more, these alone
        if self._failures >= PATIENCE:
            raise PacsError(f"{self.name} failed to send {PATIENCE} times in a row, last so: {why}", "not-sent")
        if not wanted.missing and not arrived:
            yield self._failed(self._of_series(wanted.series), PacsFailure(why, "not-sent"))
        for uid in [*wanted.missing, *(uid for uid in arrived if uid not in wanted.missing)]:
            place = f"{self._of_series(wanted.series)}/instances/{uid}"
            if uid in arrived:
                self._mended.append(self._place(place))
                yield Source(arrived[uid], replaces=True)
            else:
                yield self._failed(place, PacsFailure(why, "not-sent"))

    def _of_series(self, series: FoundSeries) -> str:
        return f"studies/{series.study}/series/{series.uid}"

    def _failed(self, place: str, error: PacsFailure) -> Source:
        logger.warning("%s/%s: %s", self.name, place, error.message)
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


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}{minutes % 60:02d}"
