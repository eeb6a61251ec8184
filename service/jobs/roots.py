"""Which files of the machine a job may take in: those under the folders that its administrator named, and no others."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from index import StudySource
from index.intake.examine import Source
from index.intake.received import ReceivedStore
from index.reports.texts import ReportText

from ..errors import RequestError

__all__ = ["WithinRoots", "path_within", "require_named_within"]


def require_named_within(roots: Sequence[Path], given: str) -> None:
    """By its name alone: the service need not see the folders of the worker's machine, and tells nothing about its own.

    Raises RequestError path-not-allowed.
    """
    named = os.path.normpath(given)
    if "\0" in given or not os.path.isabs(named) or not any(Path(named).is_relative_to(root) for root in roots):
        raise RequestError("Expected an absolute path under one of ALTA_INGEST_ROOTS.", "path-not-allowed")


def path_within(roots: Sequence[Path], given: str) -> Path:
    """The place that a path leads to on this machine, links followed. Raises RequestError path-not-allowed, whether
    nothing is there or nothing may be taken from there."""
    try:
        path = Path(given).resolve(strict=True)
        if Path(given).is_absolute() and _is_within(path, roots):
            return path
    except (OSError, ValueError, RuntimeError):  # nothing there, a NUL, a loop of links
        pass
    message = "Expected the absolute path of something that is there, under one of ALTA_INGEST_ROOTS."
    raise RequestError(message, "path-not-allowed")


class WithinRoots:
    """A source without what leads out of the roots: linked files and folders, rows of a manifest. outside: how many,
    with those of a folder of reports that ``may_read`` was asked of.

    They are not refused as files are that cannot be used: one may be in the archive by another door.
    """

    name = "ingest root"  # in the log, where a folder that is called after a patient must not stand

    def __init__(self, source: StudySource, roots: Sequence[Path]) -> None:
        self._source = source
        self._roots = roots
        self.outside = 0

    @property
    def store(self) -> ReceivedStore | None:
        return self._source.store

    def files(self) -> Iterator[Source]:
        for source in self._source.files():
            # What a source unpacks lies in the store, and what it could not unpack nowhere.
            if self.store is not None or self.may_read(source.path):
                yield source

    def reports(self) -> Iterator[ReportText]:
        for report in self._source.reports():
            if not report.by_name or self.may_read(Path(report.source)):
                yield report

    def may_read(self, path: Path) -> bool:
        """Whether a file lies under a root; one that does not is counted."""
        within = _is_within(path, self._roots)
        self.outside += not within
        return within

    def known(self) -> int:
        return self._source.known()


def _is_within(path: Path, roots: Sequence[Path]) -> bool:
    try:
        place = path.resolve()
        return any(place.is_relative_to(root.resolve()) for root in roots)
    except (OSError, ValueError, RuntimeError):
        return False
