"""The studies of a run, for training and for validation, from a study table or the simulator."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from .config import TrainConfig, TrainingConfigError
from .pictures import load_studies
from .simulated import render_cohort
from .studies import ABSENT, TrainingStudies

__all__ = ["check_enough", "load_training", "usable"]

Progress = Callable[[str, int, int], None]  # stage, done, total


def load_training(
    config: TrainConfig, cache: Path, workers: int, progress: Progress
) -> tuple[TrainingStudies, TrainingStudies]:
    """Training and validation studies. Studies that the objective cannot learn from are left out: those without a
    report and, where images and texts are contrasted, those without a current frontal image."""
    data, scale = config.data, config.model.image.target_scale
    if data.table is None:
        cohorts = (data.seed, data.studies), (data.validation_seed, data.validation_studies)
        report = partial(progress, "rendering")
        try:
            training, validation = (
                render_cohort(cache, seed, count, config.transform, scale, workers, report) for seed, count in cohorts
            )
        except OSError as error:
            raise TrainingConfigError(
                f"{cache}: the rendered pictures cannot be kept: {error}. Make room, or name another --cache; run again"
                " to go on."
            ) from error
        return training, validation
    table = Path(data.table)
    contrasted = config.losses.contrastive or config.losses.local_contrastive
    parts = []
    for split in ("train", "validate"):
        loaded = load_studies(
            table,
            split,
            cache,
            config.transform,
            scale,
            workers,
            lambda *n, name=split: progress(f"{name} pictures", *n),
            data.max_bad_share,
        )
        parts.append(usable(loaded, not contrasted and split == "train"))
    training, validation = parts
    check_enough(table, len(training), config)
    if len(validation) == 0:
        raise TrainingConfigError(f"{table}: no usable study of split validate; the best checkpoint is chosen on them.")
    return training, _first(validation, data.validation_studies)


def check_enough(table: Path, studies: int, config: TrainConfig) -> None:
    """Raises TrainingConfigError where so many training studies fill no batch."""
    if studies < config.optim.batch:
        raise TrainingConfigError(
            f"{table}: {studies} usable studies of split train, optim.batch is {config.optim.batch}; lower the batch or"
            " add studies."
        )


def usable(studies: TrainingStudies, text_alone: bool) -> TrainingStudies:
    """Those with a report and, but for ``text_alone``, a current frontal image."""
    rows = [
        row
        for row in range(len(studies))
        if studies.body(row) and (text_alone or studies.slots[row, 0] != ABSENT)
    ]  # fmt: skip
    return studies.take(rows)


def _first(studies: TrainingStudies, count: int) -> TrainingStudies:
    """At most ``count``, drawn once and for all."""
    if len(studies) <= count:
        return studies
    return studies.take(sorted(np.random.default_rng(0).permutation(len(studies))[:count].tolist()))
