"""What the checks look at: the settings, and what several of them ask for, found once."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property

from index.looking import Looking, look_at, read_revisions
from model.errors import ArchiveError

from ..settings import Settings
from .finding import Finding

__all__ = ["Check", "Installation"]


@dataclass(frozen=True)
class Installation:
    """pacs: nodes to try, each ``TITLE@HOST:PORT``; environ: of the process that the settings were read in."""

    settings: Settings
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    pacs: tuple[str, ...] = ()

    def catalog(self) -> AbstractContextManager[Looking]:
        """The database, whatever its schema. Raises ArchiveError database-unavailable."""
        return look_at(self.settings.catalog_url)

    @cached_property
    def readable(self) -> bool:
        """Whether the database answers and has the schema of this release, so that its rows can be read."""
        try:
            with self.catalog() as catalog:
                revisions = read_revisions(catalog)
        except ArchiveError:
            return False
        return revisions.found == revisions.known[0]

    @cached_property
    def fingerprint(self) -> str:
        """Of the configured encoders. Raises CheckpointError."""
        from model.checkpoint import read_fingerprint

        return read_fingerprint(self.settings.model_path)


Check = Callable[[Installation], Iterator[Finding]]
