"""What every source of studies is to the archive."""

from collections.abc import Iterator
from typing import Protocol

from ..intake.examine import Source
from ..intake.received import ReceivedStore
from ..reports.texts import ReportText

__all__ = ["StudySource"]


class StudySource(Protocol):
    """A source, read once by ``index.intake.ingest.ingest``: first ``files`` to its end, then ``reports``.

    Two kinds. A source whose files lie where they will stay (a folder) has no ``store`` and yields their paths. One
    that fetches or unpacks (a server, a zip file) keeps every object in its ``store`` and yields
    ``Source(store.keep(data), replaces=True)``: from then on the object waits in the store, and is taken in by this
    run, or, if that is killed, by whichever runs next. Objects are taken in in the order in which they were kept, by
    all processes that share the store, so what was kept last under a SOP instance UID is what counts.

    What cannot be had at all is yielded too, with its ``refusal``, under a path that tells where it would have come
    from, always the same one: every object met becomes a row. What the archive has already need not be fetched again.
    ``files`` raises what stops the source as a whole (InputError, ArchiveError); what was yielded before stays.
    """

    @property
    def name(self) -> str:
        """How the source is called in logs and summaries."""
        ...

    @property
    def store(self) -> ReceivedStore | None:
        """Where the files are kept that this source fetches; None when they are read where they lie."""
        ...

    def files(self) -> Iterator[Source]:
        """Every file, in an order that is the same in every run; fetched as they are asked for."""
        ...

    def reports(self) -> Iterator[ReportText]:
        """Reports that are no DICOM files. Called when every file has its row."""
        ...

    def known(self) -> int:
        """How many files are known so far, for the progress bar; may grow while ``files`` goes on."""
        ...
