"""No studies: for reports by themselves, about studies that the archive has or will have."""

from collections.abc import Iterator
from pathlib import Path

from ..intake.examine import Source
from ..reports.texts import ReportText

__all__ = ["NoStudies"]


class NoStudies:
    """Beside the reports at a path, by which it is called."""

    store = None

    def __init__(self, reports: Path) -> None:
        self.name = str(reports)

    def files(self) -> Iterator[Source]:
        return iter(())

    def reports(self) -> Iterator[ReportText]:
        return iter(())

    def known(self) -> int:
        return 0
