"""Which pictures the product cannot decode, found before a training run meets them."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from ...errors import ImageError
from ...image import read_radiograph
from .table import TableError

__all__ = ["undecodable"]

CHUNK = 32  # pictures handed to a process at once
WAITING = 4  # chunks a process may have waiting: a million paths are not all queued at once


def undecodable(
    paths: Sequence[str], workers: int = 1, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, str]:
    """Why, by path, for those of ``paths`` that ``read_radiograph`` refuses. progress: pictures done, and in all.

    Raises TableError when a process is killed, as for want of memory.
    """
    chunks = [list(paths[start : start + CHUNK]) for start in range(0, len(paths), CHUNK)]
    bad: dict[str, str] = {}
    done = 0
    for chunk, found in zip(chunks, _map(chunks, workers), strict=True):
        bad |= found
        done += len(chunk)
        progress(done, len(paths))
    return bad


def _map(chunks: list[list[str]], workers: int) -> Iterator[dict[str, str]]:
    if workers < 2 or len(chunks) < 2:
        yield from map(_refused, chunks)
        return
    # Spawned, not forked: a forked child of a process that runs torch threads can hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(chunks)), mp_context=context)
    try:
        step = workers * WAITING
        for start in range(0, len(chunks), step):
            yield from pool.map(_refused, chunks[start : start + step])
    except BrokenProcessPool as error:
        raise TableError(
            "A process that decodes pictures was killed, as happens for want of memory; run with fewer --workers."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _refused(paths: list[str]) -> dict[str, str]:
    bad = {}
    for path in paths:
        try:
            read_radiograph(Path(path))
        except ImageError as error:
            bad[path] = f"{error.slug}: {error.message}"
        except OSError as error:
            bad[path] = f"unreadable: {error.strerror or error}"
    return bad
