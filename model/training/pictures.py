"""The pictures of a study table, decoded once into arrays that training reads at random.

A picture that several slots name, such as a frontal that is the next study's prior, is kept once.
"""

import hashlib
import json
import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..alta import SLOTS
from ..errors import ImageError
from ..image import ImageTransform, read_radiograph
from .studies import ABSENT, TrainingStudies, open_pictures
from .tables import StudyRow, TableError, read_table

__all__ = ["studies_of_rows", "load_studies"]

log = logging.getLogger(__name__)

SKIPPED = "skipped.jsonl"
CHUNK = 64  # pictures that are decoded, then recorded as done

Progress = Callable[[int, int], None]  # done, total


def load_studies(
    table: Path,
    split: str,
    cache: Path,
    transform: ImageTransform,
    target_scale: int,
    workers: int,
    progress: Progress,
    max_bad_share: float,
) -> TrainingStudies:
    """Studies of ``split``, their pictures decoded and placed as the product places a file's.

    Finished chunks are kept in ``cache``, so a second call decodes only what is missing. A picture that cannot be
    read empties its slot and is listed in ``skipped.jsonl`` there; a study that so loses its current frontal is left
    out. Raises TableError when more than ``max_bad_share`` of the pictures cannot be read, or the disk is full.
    """
    rows = [row for row in read_table(table) if row.split == split]
    frontal_paths, lateral_paths = _paths(rows, 0), _paths(rows, 1)
    target = replace(transform, resize=transform.resize * target_scale, crop=transform.crop * target_scale)
    total = len(frontal_paths) + len(lateral_paths)
    try:
        frontal, bad = _decode(frontal_paths, cache, target, workers, lambda done: progress(done, total))
        lists = [_place(frontal_paths, cache, target) / SKIPPED] if bad else []
        offset = len(frontal_paths)
        lateral, worse = _decode(lateral_paths, cache, transform, workers, lambda done: progress(offset + done, total))
    except OSError as error:
        raise TableError(
            f"{cache}: the decoded pictures cannot be kept: {error}. They need"
            f" {_gigabytes(frontal_paths, target) + _gigabytes(lateral_paths, transform):.1f} GB; run again to go on."
        ) from error
    lists += [_place(lateral_paths, cache, transform) / SKIPPED] if worse else []
    bad |= worse
    if len(bad) > max_bad_share * total:
        first = "; ".join(f"{path}: {why}" for path, why in list(bad.items())[:3])
        raise TableError(
            f"{len(bad)} of {total} pictures cannot be read, more than the allowed share of {max_bad_share:g}"
            f" (data.max_bad_share). The first: {first}"
        )
    numbers = [_numbers(frontal_paths, bad), _numbers(lateral_paths, bad)]
    kept = [row for row in rows if not row.current_frontal or row.current_frontal in numbers[0]]
    if bad:
        log.warning(
            "%d of %d pictures of split %s cannot be read, so %d of %d studies are left out; see %s",
            len(bad), total, split, len(rows) - len(kept), len(rows), " and ".join(map(str, lists)),
        )  # fmt: skip
    slots = [[numbers[slot % 2].get(path, ABSENT) for slot, path in enumerate(row.slots())] for row in kept]
    return studies_of_rows(kept, slots, frontal, lateral)


def studies_of_rows(
    rows: list[StudyRow], slots: list[list[int]], frontal: np.ndarray, lateral: np.ndarray
) -> TrainingStudies:
    """``rows`` of a table with the pictures that ``slots`` (rows, 4) number."""
    return TrainingStudies(
        ids=[row.study_id for row in rows],
        patients=[row.patient_id for row in rows],
        frontal=frontal,
        lateral=lateral,
        slots=np.array(slots, np.int64).reshape(-1, len(SLOTS)),
        findings=[row.findings for row in rows],
        impression=[row.impression for row in rows],
        text=[row.text for row in rows],
        labels=[row.known_findings() for row in rows],
    )


def _paths(rows: list[StudyRow], view: int) -> list[str]:
    """Of slots 0 and 2 or of 1 and 3, each once, in order of appearance."""
    return list(dict.fromkeys(path for row in rows for path in row.slots()[view::2] if path))


def _numbers(paths: list[str], bad: dict[str, str]) -> dict[str, int]:
    return {path: number for number, path in enumerate(paths) if path not in bad}


def _gigabytes(paths: list[str], transform: ImageTransform) -> float:
    return len(paths) * transform.crop**2 / 1e9


def _decode(
    paths: list[str], cache: Path, transform: ImageTransform, workers: int, progress: Callable[[int], None]
) -> tuple[np.ndarray, dict[str, str]]:
    """uint8 (paths, crop, crop), memory-mapped, and why some could not be read."""
    shape = (len(paths), transform.crop, transform.crop)
    if not paths:
        return np.zeros(shape, np.uint8), {}
    place = _place(paths, cache, transform)
    place.mkdir(parents=True, exist_ok=True)
    pictures = open_pictures(place / "pictures.npy", shape)
    journal = place / "done.jsonl"
    done, bad = _done(journal)
    starts = [start for start in range(0, len(paths), CHUNK) if start not in done]
    chunks = [paths[start : start + CHUNK] for start in starts]
    with journal.open("a") as stream:
        for start, (decoded, failed) in zip(starts, _map(chunks, transform, workers), strict=True):
            pictures[start : start + len(decoded)] = decoded
            pictures.flush()
            print(json.dumps({"start": start, "bad": failed}), file=stream, flush=True)
            bad |= failed
            done.add(start)
            progress(min(len(done) * CHUNK, len(paths)))
    lines = (json.dumps({"path": path, "reason": why}) for path, why in bad.items())
    (place / SKIPPED).write_text("".join(line + "\n" for line in lines))
    return pictures, bad


def _place(paths: Sequence[str], cache: Path, transform: ImageTransform) -> Path:
    return cache / f"pictures_{_key(paths, transform)}"


def _key(paths: Sequence[str], transform: ImageTransform) -> str:
    """Another one when a file changes, as far as its size and time tell."""
    digest = hashlib.sha256(json.dumps(asdict(transform)).encode())
    for path in paths:
        state = Path(path).stat() if Path(path).exists() else None
        digest.update(f"{path}\0{state and (state.st_size, state.st_mtime_ns)}\0".encode())
    return digest.hexdigest()[:24]


def _done(journal: Path) -> tuple[set[int], dict[str, str]]:
    done: set[int] = set()
    bad: dict[str, str] = {}
    for line in journal.read_text().splitlines() if journal.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:  # cut off when the process was killed; its chunk is decoded again
            continue
        done.add(int(entry["start"]))
        bad |= entry["bad"]
    return done, bad


def _map(
    chunks: list[list[str]], transform: ImageTransform, workers: int
) -> Iterator[tuple[np.ndarray, dict[str, str]]]:
    decode = partial(_decode_chunk, transform=transform)
    if workers < 2 or len(chunks) < 2:
        yield from map(decode, chunks)
        return
    # Spawned, not forked: a forked child of a process that runs torch threads can hang.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(decode, chunks)


def _decode_chunk(paths: list[str], transform: ImageTransform) -> tuple[np.ndarray, dict[str, str]]:
    pictures = np.zeros((len(paths), transform.crop, transform.crop), np.uint8)
    bad = {}
    for number, path in enumerate(paths):
        try:
            pictures[number] = np.round(transform.place(read_radiograph(Path(path)).pixels) * 255)
        except ImageError as error:
            bad[path] = f"{error.slug}: {error.message}"
        except OSError as error:
            bad[path] = f"unreadable: {error.strerror}"
    return pictures, bad
