"""Which kind of source lies at a path."""

from pathlib import Path
from zipfile import is_zipfile

from ..received import ReceivedStore
from .folder import FolderSource
from .manifest import ManifestSource
from .protocol import StudySource
from .zip_file import ZipSource

__all__ = ["source_of"]


def source_of(path: Path, store: ReceivedStore, reports: Path | None = None) -> StudySource:
    """A folder, a zip file (whole or cut short), else a manifest. ``store``: where a zip file's members go; ``reports``
    are left out of a folder that holds them."""
    if path.is_dir():
        return FolderSource(path, besides=reports)
    if path.suffix.lower() == ".zip" or is_zipfile(path):
        return ZipSource(path, store)
    return ManifestSource(path)
