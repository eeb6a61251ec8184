"""Files to what an encoder reads, in worker processes that run ahead of it.

A file that crashes its decoder, or keeps it busy without end, costs the studies that use it and no other.
"""

import hashlib
import logging
import os
import traceback
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Final

import numpy as np

from model.encoder import StudyImages
from model.errors import ImageError, InputError
from model.image import ImageTransform, prepare_radiograph

from ..decoder_pool import DecoderPool
from .pending import ImageFile

__all__ = ["ComingStudy", "ImageReader", "default_workers", "prepare_file"]

logger = logging.getLogger(__name__)

MAX_WORKERS: Final = 16
# Images that are kept for the studies that follow. They come patient by patient, and the prior of one study is the
# current image of the one before, so a few are enough: 50 MB at 224 px.
KEPT: Final = 256
NICENESS: Final = 10  # the encoder goes first, where it shares the cores


def default_workers() -> int:
    return min(os.cpu_count() or 1, MAX_WORKERS)


def prepare_file(path: Path, sha256: str, transform: ImageTransform) -> np.ndarray:
    """Encoder input, float32 (crop, crop). Raises ImageError: file-missing, file-changed, and what decoding raises."""
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}). Put it back, or ingest the folder again."
        raise ImageError(message, "file-missing") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        # Embedding it would record the old content's hash for the new content.
        raise ImageError(f"{path} has changed since it was ingested. Ingest its folder again.", "file-changed")
    return prepare_radiograph(data, transform).pixels


def _prepare_behind(path: Path, sha256: str, transform: ImageTransform) -> np.ndarray:
    """``prepare_file`` in a worker process, which gives way to the encoder."""
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    return prepare_file(path, sha256, transform)


class ComingStudy:
    """A study whose images are being read."""

    def __init__(self, images: Mapping[str, "Future[np.ndarray]"]) -> None:
        self._images = images

    def result(self) -> StudyImages | InputError:
        """The images, once they are there, or why one of them will not be."""
        try:
            return StudyImages(**{slot: future.result() for slot, future in self._images.items()})
        except InputError as error:
            return error
        except Exception as error:  # one file must not end the run, whatever it does to a decoder
            # Its message may quote the file or its path, which may name a patient; the failure's row keeps it.
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.warning("an image cannot be read: %s\n%s", type(error).__qualname__, frames)
            return ImageError(f"{type(error).__name__}: {error}", "unreadable")


class ImageReader:
    """Reads images in ``workers`` processes, started when the first one is asked for; 0: in this process.

    An image that several studies use is decoded once when they come near each other.
    """

    def __init__(self, transform: ImageTransform, workers: int | None = None) -> None:
        self._transform = transform
        self._workers = default_workers() if workers is None else workers
        self._pool: DecoderPool | None = None
        self._recent: OrderedDict[ImageFile, Future[np.ndarray]] = OrderedDict()
        self._count = 0

    def __enter__(self) -> "ImageReader":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.close()

    def start(self, files: Mapping[str, ImageFile]) -> ComingStudy:
        """Begin to read the images in a study's slots."""
        return ComingStudy({slot: self._image(file) for slot, file in files.items()})

    def take_count(self) -> int:
        """Images begun since this was last asked."""
        count, self._count = self._count, 0
        return count

    def _image(self, file: ImageFile) -> "Future[np.ndarray]":
        if file not in self._recent:
            self._recent[file] = self._submit(file)
            self._count += 1
        self._recent.move_to_end(file)
        while len(self._recent) > KEPT:
            self._recent.popitem(last=False)
        return self._recent[file]

    def _submit(self, file: ImageFile) -> "Future[np.ndarray]":
        if self._pool is None:
            self._pool = DecoderPool(self._workers)
            if self._workers and not self._pool.start():
                logger.warning("images are decoded in this process, which a broken file may end")
                self._pool.close()
                self._workers, self._pool = 0, DecoderPool(0)
        prepare = _prepare_behind if self._workers else prepare_file
        return self._pool.submit(prepare, file.path, file.sha256, self._transform)
