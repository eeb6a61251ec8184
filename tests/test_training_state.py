"""The folder of a run: what is there stays whole and is not taken for another's, and why it cannot be gone on with."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.checkpoint import load_checkpoint
from model.errors import AltaError
from model.losses import LossWeights
from model.training import TrainConfig, TrainingConfigError, loop, train
from model.training.config import BaseConfig, DataConfig, OptimConfig, ValidationConfig
from model.training.loop import NotWritten, Progress
from model.training.output import STATE
from model.training.simulated import render_cohort
from model.training.tables import StudyRow, write_table
from model.training.validation import better, validate
from tests.tiny import PROVENANCE, TRANSFORM, tiny_config, write_tiny_checkpoint

CONFIG = TrainConfig(
    name="folder",
    data=DataConfig(seed=11, studies=4, validation_seed=12, validation_studies=4),
    optim=OptimConfig(batch=4, steps=2, warmup_steps=1, base_learning_rate=0.1, local_group=2, trainable="all"),
    losses=LossWeights(local_contrastive=0.1),
    validation=ValidationConfig(every=1),
    model=tiny_config("ignored", vocabulary=200),
    transform=TRANSFORM,
    provenance=PROVENANCE,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class Stopped(Exception):
    pass


def stop_at(step: int) -> Progress:
    def report(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("training", step):
            raise Stopped

    return report


# Whose the folder is


def test_the_encoders_of_another_run_are_not_written_over(cache: Path, tmp_path: Path) -> None:
    train(CONFIG, tmp_path, cache, workers=1)
    before = content(tmp_path)
    with pytest.raises(TrainingConfigError, match=r"holds the encoders of another run.*--resume.*--overwrite"):
        train(replace(CONFIG, seed=1), tmp_path, cache, workers=1)
    assert content(tmp_path) == before


def test_resuming_does_not_write_over_encoders_that_no_run_left(cache: Path, tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path)
    with pytest.raises(TrainingConfigError, match="holds the encoders of another run"):
        train(CONFIG, tmp_path, cache, workers=1, resume=True)
    load_checkpoint(tmp_path)


def test_resuming_where_there_is_nothing_begins(cache: Path, tmp_path: Path) -> None:
    assert train(CONFIG, tmp_path / "new", cache, workers=1, resume=True).done == 2


def test_a_run_does_not_write_over_its_own_base(cache: Path, tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path / "base")
    config = replace(CONFIG, base=BaseConfig(checkpoint=str(tmp_path / "base")))
    for resume, overwrite in ((False, True), (True, False)):
        with pytest.raises(TrainingConfigError, match="is the base itself"):
            train(config, tmp_path / "other" / ".." / "base", cache, 1, resume=resume, overwrite=overwrite)
    load_checkpoint(tmp_path / "base")


def test_until_an_overwriting_run_has_encoders_the_folder_has_none(cache: Path, tmp_path: Path) -> None:
    """Else the weights of the old run would be read with the vocabulary of the new one."""
    train(CONFIG, tmp_path, cache, workers=1)
    with pytest.raises(Stopped):
        train(replace(CONFIG, seed=1), tmp_path, cache, 1, progress=stop_at(1), overwrite=True)
    assert not {STATE, "config.json", "training.json"} & content(tmp_path).keys()


# A disk that is full


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("name", [STATE, "model.safetensors", "training.json"])
def test_a_full_disk_leaves_what_was_there_and_says_so(
    name: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "better", lambda *_: True)  # so that everything is written each time
    with pytest.raises(Stopped):
        train(CONFIG, tmp_path, cache, 1, progress=stop_at(2))
    before = content(tmp_path)[name]
    (tmp_path / f"{name}.partial").symlink_to("/dev/full")
    with pytest.raises(NotWritten, match=r"cannot be written: .*No space left on device.*Make room.*--resume"):
        train(CONFIG, tmp_path, cache, 1, resume=True)
    assert content(tmp_path)[name] == before
    assert not list(tmp_path.glob("*.partial"))
    load_checkpoint(tmp_path)
    assert train(CONFIG, tmp_path, cache, 1, resume=True).done == 2


@pytest.mark.parametrize("simulated", [True, False])
def test_a_disk_too_small_for_the_pictures_is_found_before_they_are_written(
    simulated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of a file that is mapped into memory are written later, and end the process where there is no room."""

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    write_table(tmp_path / "studies.csv", studies(tmp_path, train=4, validate=4))
    table = DataConfig(table=str(tmp_path / "studies.csv"))
    config = CONFIG if simulated else replace(CONFIG, data=table)
    with pytest.raises(AltaError, match=r"pictures cannot be kept: .*No space left on device.*run again to go on"):
        train(config, tmp_path / "run", tmp_path / "cache", workers=1)


def test_a_folder_that_cannot_be_made_is_named(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotWritten, match=r"file/run cannot be written: .*Not a directory"):
        train(CONFIG, tmp_path / "file" / "run", cache, workers=1)


# What an interrupted run cannot go on with


def test_encoders_that_the_run_did_not_write_are_not_gone_on_from(cache: Path, tmp_path: Path) -> None:
    train(CONFIG, tmp_path / "run", cache, workers=1)
    write_tiny_checkpoint(tmp_path / "foreign")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tmp_path / "foreign" / name, tmp_path / "run" / name)
    with pytest.raises(TrainingConfigError, match=r"not those that the interrupted run had written.*--overwrite"):
        train(CONFIG, tmp_path / "run", cache, workers=1, resume=True)


def test_a_state_that_an_older_version_left_is_gone_on_from(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(CONFIG, tmp_path, cache, 1, progress=stop_at(2))
    older = torch.load(tmp_path / STATE, weights_only=True)
    del older["run"], older["state"]["validations"]
    torch.save(older, tmp_path / STATE)
    write_tiny_checkpoint(tmp_path / "unmarked")
    shutil.copy(tmp_path / "unmarked" / "config.json", tmp_path)
    assert train(CONFIG, tmp_path, cache, workers=1, resume=True).done == 2


def test_another_configuration_is_refused_by_what_has_changed(cache: Path, tmp_path: Path) -> None:
    train(CONFIG, tmp_path, cache, workers=1)
    other = replace(CONFIG, optim=replace(CONFIG.optim, steps=9), precision="bfloat16")
    changed = r"precision was 'float32', .*optim\.steps was 2, is 9.*as \[base\] checkpoint"
    with pytest.raises(TrainingConfigError, match=changed):
        train(other, tmp_path, cache, workers=1, resume=True)


def studies(folder: Path, train: int, validate: int) -> list[StudyRow]:
    picture = folder / "chest.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)).save(picture)
    return [
        StudyRow(f"study {n}", f"patient {n}", split, current_frontal=str(picture), findings=f"Line {n} is seen.")
        for n, split in enumerate(["train"] * train + ["validate"] * validate)
    ]


@pytest.mark.parametrize(
    ("train_studies", "validate_studies", "message"),
    [
        (3, 3, r"3 usable studies of split train, optim\.batch is 4; lower the batch or add studies"),
        (4, 0, "no usable study of split validate"),
    ],
)
def test_a_table_with_too_few_studies_is_refused(
    train_studies: int, validate_studies: int, message: str, cache: Path, tmp_path: Path
) -> None:
    write_table(tmp_path / "studies.csv", studies(tmp_path, train_studies, validate_studies))
    config = replace(CONFIG, data=DataConfig(table=str(tmp_path / "studies.csv")))
    with pytest.raises(TrainingConfigError, match=message):
        train(config, tmp_path / "run", cache, 1)


def test_another_table_is_refused(cache: Path, tmp_path: Path) -> None:
    rows = studies(tmp_path, train=5, validate=3)
    write_table(tmp_path / "studies.csv", rows)
    config = replace(CONFIG, data=DataConfig(table=str(tmp_path / "studies.csv")))
    with pytest.raises(Stopped):
        train(config, tmp_path / "run", cache, 1, progress=stop_at(2))
    write_table(tmp_path / "studies.csv", rows[1:])
    with pytest.raises(TrainingConfigError, match=r"is not as it was when the run in .* began"):
        train(config, tmp_path / "run", cache, 1, resume=True)
    write_table(tmp_path / "studies.csv", rows)
    assert train(config, tmp_path / "run", cache, 1, resume=True).done == 2


# What chooses the checkpoint


def test_without_a_contrastive_loss_the_loss_chooses() -> None:
    assert replace(CONFIG, losses=LossWeights(contrastive=0)).selection == "loss"
    assert CONFIG.selection == "recall_at_10"


def test_a_figure_that_no_validation_study_can_give_does_not_choose(cache: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, validation=ValidationConfig(select="zero_shot_auroc"))
    with pytest.raises(TrainingConfigError, match=r"zero_shot_auroc, but no finding is known of 5 validation studies"):
        train(config, tmp_path, cache, workers=1)


def test_a_report_that_reads_the_same_is_found_as_well_as_the_own_one(cache: Path, tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path)
    encoders = load_checkpoint(tmp_path)
    config = replace(CONFIG, model=encoders.model.config)
    studies = render_cohort(cache, 13, 12, TRANSFORM, 2, workers=1)
    alike = replace(studies, findings=["The lungs are clear."] * 12, impression=[""] * 12)
    recalls = [
        validate(encoders.model, each, encoders.tokenizer, config, torch.device("cpu"))["recall_at_1"]
        for each in (studies, alike)
    ]
    assert recalls[0] < 1 and recalls[1] == 1


def test_no_number_is_never_better_and_always_worse() -> None:
    nothing, low, high = {"loss": float("nan")}, {"loss": 1.0}, {"loss": 2.0}
    assert better(low, nothing, "loss") and not better(nothing, low, "loss") and not better(nothing, nothing, "loss")
    assert better(low, high, "loss") and not better(high, low, "loss")
