"""Simulated studies rendered once into arrays that training reads at random.

Axes: M studies of the cohort, B studies of a batch, S slots.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from ..image import ImageTransform
from ..simulation import SimulatedStudy, render, simulate_studies

__all__ = ["RenderedStudies", "render_cohort"]

CHUNK = 64  # studies that are rendered, then recorded as done
RENDERED_SIZE = 320  # px


@dataclass(frozen=True)
class RenderedStudies:
    """frontal (M, side, side) at the decoder's resolution and lateral (M, H, H) at the encoder's, uint8 in 0..255,
    memory-mapped; lateral rows without one are zero.

    prior (M,) row of the patient's prior study or -1; has_lateral (M,) bool; findings_text and
    impression_text are the report's sections; classes are the finding classes of each study.
    """

    frontal: np.ndarray
    lateral: np.ndarray
    has_lateral: np.ndarray
    prior: np.ndarray
    findings_text: list[str]
    impression_text: list[str]
    classes: list[frozenset[str]]

    def __len__(self) -> int:
        return len(self.frontal)


def render_cohort(
    folder: Path,
    seed: int,
    count: int,
    transform: ImageTransform,
    target_scale: int,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> RenderedStudies:
    """Render ``count`` studies of cohort ``seed`` and place them as the product places a file's pixels.

    Finished chunks are kept in ``folder``, so a second call renders only what is missing.
    """
    cohort = list(simulate_studies(seed, count))
    target = replace(
        transform,
        resize=transform.resize * target_scale,
        crop=transform.crop * target_scale,
    )
    place = folder / f"seed{seed}_studies{count}_resize{transform.resize}_crop{transform.crop}_scale{target_scale}"
    place.mkdir(parents=True, exist_ok=True)
    frontal = _memmap(place / "frontal.npy", (count, target.crop, target.crop))
    lateral = _memmap(place / "lateral.npy", (count, transform.crop, transform.crop))
    done_file = place / "done.txt"
    done = {int(line) for line in done_file.read_text().split()} if done_file.exists() else set()
    starts = [start for start in range(0, count, CHUNK) if start not in done]
    render_one = partial(_render_chunk, seed=seed, count=count, frontal=target, lateral=transform)
    for start, frontals, laterals in _map(render_one, starts, workers):
        frontal[start : start + len(frontals)] = frontals
        lateral[start : start + len(laterals)] = laterals
        frontal.flush()
        lateral.flush()
        done.add(start)
        done_file.write_text("\n".join(map(str, sorted(done))))
        if progress:
            progress(min(len(done) * CHUNK, count), count)
    row = {study.study_instance_uid: number for number, (study, _) in enumerate(cohort)}
    return RenderedStudies(
        frontal=frontal,
        lateral=lateral,
        has_lateral=np.array([study.has_lateral for study, _ in cohort]),
        prior=np.array([row[prior.study_instance_uid] if prior else -1 for _, prior in cohort]),
        findings_text=[study.report.findings for study, _ in cohort],
        impression_text=[study.report.impression for study, _ in cohort],
        classes=[study.finding_classes for study, _ in cohort],
    )


def _memmap(path: Path, shape: tuple[int, int, int]) -> np.memmap:
    return np.lib.format.open_memmap(path, "r+" if path.exists() else "w+", np.uint8, shape)


def _map(
    render_one: Callable[[int], tuple[int, np.ndarray, np.ndarray]],
    starts: list[int],
    workers: int,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    if workers < 2 or len(starts) < 2:
        yield from map(render_one, starts)
        return
    # Spawned, not forked: a forked child of a process that runs torch threads can hang.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(render_one, starts)


def _render_chunk(
    start: int, seed: int, count: int, frontal: ImageTransform, lateral: ImageTransform
) -> tuple[int, np.ndarray, np.ndarray]:
    studies = [study for study, _ in islice(simulate_studies(seed, count), start, start + CHUNK)]
    nothing = np.zeros((lateral.crop, lateral.crop), np.uint8)
    frontals = np.stack([_picture(study, "frontal", frontal) for study in studies])
    laterals = np.stack([_picture(study, "lateral", lateral) if study.has_lateral else nothing for study in studies])
    return start, frontals, laterals


def _picture(
    study: SimulatedStudy,
    view: Literal["frontal", "lateral"],
    transform: ImageTransform,
) -> np.ndarray:
    """Rendered finer than it is used, as a detector's image is."""
    return np.round(transform.place(render(study, view, RENDERED_SIZE)) * 255).astype(np.uint8)
