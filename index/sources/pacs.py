"""Studies of a PACS, by study date: found with C-FIND, fetched with C-MOVE or C-GET, day after day."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from ..batches import batched
from ..catalog import Catalog
from ..dicom import MODALITIES, Refusal
from ..intake.examine import Source
from ..intake.received import ReceivedStore
from ..progress import Progress
from .archived import known_uids
from .by_date import REPORT_MODALITY, ByDate, Plan
from .pacs_peer import FAILURES, FoundSeries, FoundStudy, PacsError, PacsFailure, PacsPeer, TooMany

__all__ = ["PacsSource"]

logger = logging.getLogger(__name__)

UIDS_A_REQUEST: Final = 100
PATIENCE: Final = 10  # retrievals that the PACS answers with a failure, one after the other, before the run ends
SMALLEST_MINUTES: Final = 1


@dataclass(frozen=True)
class _Wanted:
    """A series and which of its instances to fetch; whole: all of them, which is one request."""

    series: FoundSeries
    missing: list[str]
    known: int
    whole: bool


class PacsSource(ByDate):
    """The studies of a span of days of a PACS. ``files`` raises PacsError; ArchiveError: storage-full."""

    failures = FAILURES

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
        super().__init__(
            f"pacs:{peer.node.called_aet}",
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
        self._failures = 0  # in a row

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

    def plan(self) -> Plan:
        """What ``files`` would fetch. Fetches and records nothing."""
        plan = Plan()
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
        for day in self._each_day():
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
                if self._wants(study.modalities):
                    yield from self._of_study(study)

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
            found = [series for series in self._peer.series(study.uid) if self._takes(series.modality)]
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


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}{minutes % 60:02d}"
