"""``alta ingest --dry-run``: what would be taken in and what refused."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..settings import Settings
from .console import console, print_file, progress_bar
from .summary import show_summary

if TYPE_CHECKING:
    from index import Catalog

__all__ = ["preview_sources"]

SHOWN = 50


def preview_sources(sources: Sequence[Path], reports: Path | None) -> None:
    """Nothing is written, not even an empty database where there is none yet."""
    from index import ReceivedStore, source_of
    from index.intake.preview import DraftStore, preview
    from index.sources import NoStudies

    settings = Settings()
    real = ReceivedStore(settings.received_dir, settings.min_free_bytes)
    with _catalog(settings) as catalog, tempfile.TemporaryDirectory() as folder:
        store = DraftStore(Path(folder), real)
        for number, path in enumerate(sources or filter(None, [reports])):
            source = source_of(path.absolute(), store, reports) if sources else NoStudies(path)
            given = None if number else reports
            with progress_bar("examining") as progress:
                found = preview(catalog, source, reports=given, progress=progress)
            show_summary(found.summary, f"{path}: a dry run, nothing was written", dry_run=True)
            for row in found.refused[:SHOWN]:
                print_file(row.path, f"{row.reason}: {row.detail}")
            if len(found.refused) > SHOWN:
                console.print(f"And {len(found.refused) - SHOWN} more refused files.")


@contextmanager
def _catalog(settings: Settings) -> "Iterator[Catalog]":
    """The archive's catalog, or an empty one to be thrown away where the embedded database does not exist yet."""
    from index import migrate, open_catalog

    with tempfile.TemporaryDirectory() as folder:
        url = settings.catalog_url
        if not settings.database_url and not (settings.data_dir / "alta.db").exists():
            url = f"sqlite:///{folder}/empty.db"
            migrate(url)
        catalog = open_catalog(url)
        try:
            yield catalog
        finally:
            catalog.close()
