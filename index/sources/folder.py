"""A folder of files of any kind, read where they lie."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from model.errors import InputError

from ..dicom import Refusal
from ..intake.examine import Source
from ..reports.texts import ReportText, read_text

__all__ = ["FolderSource"]


class FolderSource:
    """Every file under a folder, in the order of their names, without ``besides``; folders that cannot be listed too.

    Linked folders are followed and named by where they lie, each folder once: links may form loops, or lead to one
    folder several times. ``*.txt`` files are reports, named by an accession number or study instance UID.
    ``files`` raises InputError: no-such-folder.
    """

    store = None

    def __init__(self, folder: Path, besides: Path | None = None) -> None:
        self.name = str(folder)
        self._folder = folder
        self._besides = besides
        self._texts: list[Path] = []
        self._known = 0

    def files(self) -> Iterator[Source]:
        found = _files_in(self._folder, self._besides)
        self._texts = [source.path for source in found if _is_text(source.path)]
        texts = set(self._texts)
        images = [source for source in found if source.path not in texts]
        self._known = len(images)
        yield from images

    def reports(self) -> Iterator[ReportText]:
        for path in self._texts:
            yield replace(read_text(path), by_name=True)

    def known(self) -> int:
        return self._known


def _files_in(folder: Path, besides: Path | None) -> list[Source]:
    root = folder.resolve()
    if not root.is_dir():
        raise InputError(f"There is no folder {folder}.", "no-such-folder")
    left_out = besides.resolve() if besides else None
    found: list[Source] = []

    def unlisted(error: OSError) -> None:
        why = Refusal("unreadable", f"The folder cannot be listed: {error.strerror}.")
        found.append(Source(Path(error.filename), refusal=why))

    visited: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        for parent, folders, names in os.walk(waiting.pop(), onerror=unlisted):
            status = os.stat(parent)
            place = (status.st_dev, status.st_ino)
            if place in visited or Path(parent) == left_out:
                folders.clear()
                continue
            visited.add(place)
            inside = (Path(parent, name) for name in folders)
            waiting += [path.resolve() for path in inside if os.path.islink(path)]
            found += [Source(Path(parent, name)) for name in names]
    return sorted((source for source in found if source.path != left_out), key=lambda source: os.fsencode(source.path))


def _is_text(path: Path) -> bool:
    """Whether a file has to be read as text, going by its name unless its content is DICOM."""
    if path.suffix.lower() != ".txt" or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] != b"DICM"
    except OSError:
        return False
