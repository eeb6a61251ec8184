"""The views of a simulated cohort, prepared as the product prepares a file, and the slots each level fills."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal

import numpy as np

from ..encoder import StudyImages
from ..image import ImageTransform
from ..simulation import SimulatedStudy, render

__all__ = ["Cohort", "Views", "prepare_views", "study_images"]

RENDERED_SIZE = 512  # px, that of the demo archive's files
CHUNK = 16  # studies that a worker prepares at once

Cohort = list[tuple[SimulatedStudy, SimulatedStudy | None]]  # a study and the patient's study before it
Views = dict[tuple[str, str], np.ndarray]


def study_images(study: SimulatedStudy, prior: SimulatedStudy | None, views: Views, level: str) -> StudyImages:
    frontal = views[study.study_instance_uid, "frontal"]
    if level == "single_image":
        return StudyImages(frontal)
    return StudyImages(
        frontal,
        views.get((study.study_instance_uid, "lateral")),
        views[prior.study_instance_uid, "frontal"] if prior else None,
        views.get((prior.study_instance_uid, "lateral")) if prior else None,
    )


def prepare_views(
    cohort: Cohort, transforms: Sequence[ImageTransform], workers: int, progress: Callable[[int, int], None]
) -> dict[ImageTransform, Views]:
    """Every view of the cohort, rendered once at the size of a file and prepared by each transform."""
    studies = [study for study, _ in cohort]
    chunks = [studies[start : start + CHUNK] for start in range(0, len(studies), CHUNK)]
    distinct = tuple(dict.fromkeys(transforms))
    views: dict[ImageTransform, Views] = {transform: {} for transform in distinct}
    for done, parts in enumerate(_map(partial(_prepare_chunk, transforms=distinct), chunks, workers), start=1):
        for transform, part in parts.items():
            views[transform] |= part
        progress(min(done * CHUNK, len(studies)), len(studies))
    return views


def _map(
    prepare: Callable[[list[SimulatedStudy]], dict[ImageTransform, Views]],
    chunks: list[list[SimulatedStudy]],
    workers: int,
) -> Iterator[dict[ImageTransform, Views]]:
    if workers < 2:
        yield from map(prepare, chunks)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(prepare, chunks)


def _prepare_chunk(studies: list[SimulatedStudy], transforms: Sequence[ImageTransform]) -> dict[ImageTransform, Views]:
    names: tuple[Literal["frontal", "lateral"], ...] = ("frontal", "lateral")
    views: dict[ImageTransform, Views] = {transform: {} for transform in transforms}
    for study in studies:
        for view in names:
            if view == "frontal" or study.has_lateral:
                picture = render(study, view, RENDERED_SIZE)
                for transform in transforms:
                    views[transform][study.study_instance_uid, view] = transform(picture)
    return views
