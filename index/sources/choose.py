"""Which kind of source lies at a path."""

from pathlib import Path
from zipfile import is_zipfile

from model.errors import InputError

from ..intake.received import ReceivedStore
from .folder import FolderSource
from .manifest import ManifestSource
from .protocol import StudySource
from .zip_file import ZipSource

__all__ = ["source_of"]


def source_of(path: Path, store: ReceivedStore, reports: Path | None = None) -> StudySource:
    """A folder, a zip file (whole or cut short), else a manifest. ``store``: where a zip file's members go; ``reports``
    are left out of a folder that holds them. Raises InputError: no-source."""
    if path.is_dir():
        return FolderSource(path, besides=reports)
    if path.suffix.lower() == ".zip" or is_zipfile(path):
        return ZipSource(path, store)
    if _is_dicom(path):
        message = f"{path} is one DICOM file. Expected a folder, a zip file or a manifest: name the folder it lies in."
        raise InputError(message, "no-source")
    return ManifestSource(path)


def _is_dicom(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
