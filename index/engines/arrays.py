"""Ids and vectors as two arrays in a folder, mapped rather than read."""

import os
import shutil
from pathlib import Path

import numpy as np

from model.errors import ArchiveError

__all__ = ["IDS", "VECTORS", "open_arrays", "write_array"]

IDS, VECTORS = "ids.npy", "vectors.npy"


def write_array(path: Path, array: np.ndarray) -> None:
    """Save an array; one that is mapped from a whole file of the same disk is linked, not copied."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    source = getattr(array, "filename", None)
    if source is None or array.nbytes + array.offset != os.path.getsize(source):  # type: ignore[attr-defined]
        np.save(path, array)
        return
    try:
        os.link(source, path)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, path)


def open_arrays(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """ids (N,) and vectors (N, D), mapped. Raises ArchiveError: index-file-missing, index-file-corrupt."""
    try:
        ids, vectors = (np.load(folder / name, mmap_mode="r") for name in (IDS, VECTORS))
    except FileNotFoundError as error:
        raise ArchiveError(f"{error.filename} is missing.", "index-file-missing") from error
    except (OSError, ValueError) as error:
        raise ArchiveError(f"The arrays in {folder} cannot be read ({error}).", "index-file-corrupt") from error
    if ids.dtype != np.int64 or vectors.dtype != np.float32 or vectors.ndim != 2 or ids.shape != vectors.shape[:1]:
        raise ArchiveError(f"The arrays in {folder} do not belong together.", "index-file-corrupt")
    return ids, vectors
