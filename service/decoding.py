"""Pixels out of files, in processes of their own: a decoder that a hostile file crashes takes only that file along.

As many images are decoded at once as there are workers; everybody else waits for one.
"""

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

import numpy as np

from index import InstanceFacts, Refusal, describe_dicom, refusal
from model.errors import ImageError
from model.image import ImageTransform, decode_dicom, read_dicom, read_radiograph

__all__ = ["Archived", "Decoder", "Upload", "decode_archived", "decode_upload"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Upload:
    """What one uploaded file is. ``pixels``: encoder input, float32 (crop, crop); None where ``refusal`` says why."""

    format: Literal["dicom", "picture"] | None = None
    facts: InstanceFacts | None = None  # None for a picture
    pixels: np.ndarray | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Archived:
    """An archived image. ``pixels``: encoder input, float32 (crop, crop)."""

    study_instance_uid: str | None  # None for a picture
    pixels: np.ndarray


def decode_upload(data: bytes, transform: ImageTransform) -> Upload:
    """Recognise, judge and decode one file; a file that is no usable radiograph is an answer, no error."""
    form: Literal["dicom", "picture"] | None = None
    facts = None
    try:
        if data[128:132] == b"DICM":
            form = "dicom"
            dataset = read_dicom(data)
            facts = describe_dicom(dataset)
            refused = refusal(dataset)
            if refused is not None:
                return Upload(form, facts, refusal=refused)
            pixels = decode_dicom(dataset)
        else:
            pixels = read_radiograph(data).pixels
            form = "picture"
        return Upload(form, facts, transform(pixels))
    except ImageError as error:
        return Upload(form, facts, refusal=Refusal(error.slug, error.message))


def decode_archived(path: Path, transform: ImageTransform) -> Archived:
    """Raises ImageError, OSError."""
    radiograph = read_radiograph(path)
    uid = None if radiograph.dataset is None else describe_dicom(radiograph.dataset).study_instance_uid
    return Archived(uid, transform(radiograph.pixels))


class Decoder:
    """Calls functions in one of ``workers`` processes; 0: in this process, one at a time. Thread-safe.

    The functions and their arguments must pickle.
    """

    def __init__(self, workers: int) -> None:
        self._all: list[_Worker | None] = [_Worker() for _ in range(workers)] or [None]
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        for worker in self._all:
            self._idle.put(worker)

    def __call__(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What ``function`` returns or raises. Raises ImageError: decoder-crashed."""
        worker = self._idle.get()
        try:
            return function(*args, **kwargs) if worker is None else worker.run(function, *args, **kwargs)
        finally:
            self._idle.put(worker)

    def warm_up(self) -> None:
        """Start the processes without waiting for them, so that the first request need not."""
        for worker in self._all:
            if worker is not None:
                worker.start()

    def close(self) -> None:
        for worker in self._all:
            if worker is not None:
                worker.close()


class _Worker:
    """A pool of one process: a crash cannot be mistaken for that of a neighbour's file."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def start(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Not fork: this process holds threads, database connections and perhaps a GPU.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_prepare)
            self._pool.submit(os.getpid)
        return self._pool

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(2):
            try:
                future = self.start().submit(function, *args, **kwargs)
            except BrokenProcessPool:  # ended while idle, which is no fault of this file
                self.close()
                continue
            try:
                return future.result()
            except BrokenProcessPool:
                self.close()
                break
        raise ImageError("The file ended the process that decoded it.", "decoder-crashed")

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _prepare() -> None:
    """In a new worker: Ctrl-C is the parent's business, and a killed parent cannot stop its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
