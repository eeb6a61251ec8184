"""A simulated cohort for training, rendered once. Study number n has frontal n and lateral n."""

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from ..evaluation.simulated import PROMPTS_OF
from ..image import ImageTransform
from ..simulation import SimulatedStudy, render, simulate_studies
from .studies import ABSENT, TrainingStudies, open_pictures

__all__ = ["render_cohort"]

CHUNK = 64  # studies that are rendered, then recorded as done
RENDERED_SIZE = 320  # px


def render_cohort(
    folder: Path,
    seed: int,
    count: int,
    transform: ImageTransform,
    target_scale: int,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> TrainingStudies:
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
    frontal = open_pictures(place / "frontal.npy", (count, target.crop, target.crop))
    lateral = open_pictures(place / "lateral.npy", (count, transform.crop, transform.crop))
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
    return TrainingStudies(
        ids=list(row),
        patients=[study.patient_id for study, _ in cohort],
        frontal=frontal,
        lateral=lateral,
        slots=np.array([_slots(study, prior, row) for study, prior in cohort]),
        findings=[study.report.findings for study, _ in cohort],
        impression=[study.report.impression for study, _ in cohort],
        text=[""] * count,
        labels=[frozenset(PROMPTS_OF[name] for name in study.finding_classes) for study, _ in cohort],
    )


def _slots(study: SimulatedStudy, prior: SimulatedStudy | None, row: dict[str, int]) -> list[int]:
    current = row[study.study_instance_uid]
    before = row[prior.study_instance_uid] if prior else ABSENT
    return [
        current,
        current if study.has_lateral else ABSENT,
        before,
        before if prior and prior.has_lateral else ABSENT,
    ]


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
