"""The studies of a run, for training and for validation, from a study table or the simulator."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from .config import TrainConfig, TrainingConfigError
from .pictures import load_studies, studies_of_rows
from .simulated import render_cohort
from .studies import ABSENT, TrainingStudies
from .tables import TableError, read_table

__all__ = ["check_studies", "listed_studies", "load_training", "usable"]

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
        parts.append(usable(loaded, _text_alone(config, split)))
    training, validation = parts
    _check_enough(table, len(training), config)
    _check_validation(table, len(validation))
    return training, _first(validation, data.validation_studies)


def check_studies(config: TrainConfig) -> None:
    """Before pictures are decoded: that the table, if one is named, has enough studies, should all be readable. Raises
    TableError, TrainingConfigError."""
    if config.data.table is not None:
        listed_studies(config, "train")
        _check_validation(Path(config.data.table), len(listed_studies(config, "validate")))


def listed_studies(config: TrainConfig, split: str) -> TrainingStudies:
    """Usable studies of the table without their pictures: slots say only whether there is an image. Raises TableError,
    TrainingConfigError where those of split train fill no batch."""
    table = Path(config.data.table or "")
    if not table.is_file():
        raise TableError(
            f"data.table: {table} is not there; expected a studies.csv of `alta data prepare`. Mend the path, which is"
            " relative to where the command is run, or leave data.table out: then studies are simulated."
        )
    rows = [row for row in read_table(table) if row.split == split]
    slots = [[0 if path else ABSENT for path in row.slots()] for row in rows]
    nothing = np.zeros((0, 1, 1), np.uint8)
    listed = studies_of_rows(rows, slots, nothing, nothing)
    studies = usable(listed, _text_alone(config, split))
    if split == "train":
        _check_enough(table, len(studies), config)
    return studies


def _text_alone(config: TrainConfig, split: str) -> bool:
    """Whether studies without a current frontal are of use."""
    return split == "train" and not (config.losses.contrastive or config.losses.local_contrastive)


def _check_enough(table: Path, studies: int, config: TrainConfig) -> None:
    if studies < config.optim.batch:
        raise TrainingConfigError(
            f"{table}: {studies} usable studies of split train, optim.batch is {config.optim.batch}; lower the batch or"
            " add studies."
        )


def _check_validation(table: Path, studies: int) -> None:
    if studies == 0:
        raise TrainingConfigError(f"{table}: no usable study of split validate; the best checkpoint is chosen on them.")


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
