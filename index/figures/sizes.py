"""How much of the disk is taken by what."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from ..catalog import Catalog

__all__ = ["Received", "database_bytes", "folder_bytes", "received_bytes"]

SAMPLED: Final = 4  # folders of the received objects that tell how large the others are
ENOUGH: Final = 4000  # objects in them, for that


@dataclass(frozen=True)
class Received:
    """estimated: counted in some of the folders only."""

    bytes: int
    estimated: bool


def database_bytes(catalog: Catalog) -> int:
    """Of the file and what waits to be written into it, or as the server tells."""
    if catalog.engine.dialect.name == "postgresql":
        with catalog.session() as session:
            return session.scalar(sa.select(sa.func.pg_database_size(sa.func.current_database()))) or 0
    file = Path(catalog.engine.url.database or "")
    return sum(part.stat().st_size for part in (file, file.with_name(f"{file.name}-wal")) if part.exists())


def folder_bytes(folder: Path) -> int:
    """Of all files in it; what goes while it is counted is not counted."""
    return _counted([folder])[1]


def received_bytes(folder: Path) -> Received:
    """Of the archive's own copies (``ReceivedStore``): one file for each, under the first digits of a hash.

    Where there are many, some folders are counted and the rest is reckoned from them: a hash spreads them evenly.
    """
    objects = folder / "objects"
    folders = sorted(path for path in objects.iterdir() if path.is_dir()) if objects.is_dir() else []
    count, size = _counted(folders[:SAMPLED])
    if count > ENOUGH:
        return Received(size * len(folders) // SAMPLED, estimated=True)
    return Received(size + _counted(folders[SAMPLED:])[1], estimated=False)


def _counted(folders: Sequence[Path]) -> tuple[int, int]:
    """Files, and their bytes."""
    count = size = 0
    waiting: list[str | Path] = list(folders)
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_size
                        count += 1
        except FileNotFoundError:
            continue
    return count, size
