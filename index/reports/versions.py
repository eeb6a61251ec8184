"""Which of two versions of a report is in force: what is compared is when each was issued and how far it had come.

A row of a table says neither. Tables are read again in every run, so such a row changes nothing that a sender has
dated, corrected or withdrawn.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Final

from ..tables import WITHDRAWN, Report
from .texts import ReportText

__all__ = ["CORRECTED", "FINAL", "PRELIMINARY", "Standing", "Version", "compare"]

PRELIMINARY: Final = "preliminary"
FINAL: Final = "final"
CORRECTED: Final = "corrected"

_RANKS: Final = {PRELIMINARY: 0, FINAL: 1, None: 1, CORRECTED: 2}
_WITHDRAWN_RANK: Final = 3


class Standing(IntEnum):
    """Of a version that arrives, against the one that is held."""

    OLDER = -1
    EQUAL = 0
    NEWER = 1


@dataclass(frozen=True)
class Version:
    """stage, issued_at, withdrawn: see ``ReportText``."""

    stage: str | None
    issued_at: datetime | None
    withdrawn: bool

    @classmethod
    def of(cls, report: ReportText | Report) -> "Version":
        withdrawn = report.withdrawn if isinstance(report, ReportText) else report.status == WITHDRAWN
        return cls(report.stage, report.issued_at, withdrawn)

    @property
    def stated(self) -> bool:
        """Whether its sender said anything about it."""
        return self.withdrawn or self.stage is not None or self.issued_at is not None

    @property
    def rank(self) -> int:
        return _WITHDRAWN_RANK if self.withdrawn else _RANKS[self.stage]


def compare(arriving: Version, held: Version) -> Standing:
    """How a version that arrives stands to the one that is held.

    The later issued is the newer; of one time, the one that had come further: preliminary, final, corrected, withdrawn.
    Without both times the one that arrives is the newer, but for a preliminary one after a final one.
    """
    if not (arriving.stated and held.stated):
        return Standing(arriving.stated - held.stated)
    if arriving.issued_at and held.issued_at:
        first, second = (arriving.issued_at, arriving.rank), (held.issued_at, held.rank)
        return Standing((first > second) - (first < second))
    if arriving.stage == PRELIMINARY and held.stage in (FINAL, CORRECTED) and not held.withdrawn:
        return Standing.OLDER
    return Standing.EQUAL if arriving == held else Standing.NEWER
