"""The folder that receives encoders: whose it is, so that none are written over unasked."""

from pathlib import Path

from .base import BaseConfig
from .config import TrainConfig
from .problem import TrainingConfigError

__all__ = ["LOG", "RECORD", "STATE", "check_folder", "check_output", "clear_output"]

STATE = "state.pt"
RECORD = "training.json"
LOG = "log.jsonl"
MARKS = (STATE, "config.json", RECORD, "adapters/adapters.json")  # without these a folder holds no encoders


def check_output(folder: Path, config: TrainConfig, resume: bool, overwrite: bool) -> None:
    """Raises TrainingConfigError when the run would write over encoders that are not its own."""
    # A run that was killed before its first state has a log.
    interrupted = resume and ((folder / STATE).exists() or (folder / LOG).exists())
    check_folder(folder, config.base, interrupted or overwrite, " go on with that run (--resume),")


def check_folder(folder: Path, base: BaseConfig, replace: bool, otherwise: str = "") -> None:
    """Raises TrainingConfigError when ``folder`` is the base, is none, or holds encoders that are not to be replaced;
    ``otherwise``: what one may do beside naming another."""
    if folder.exists() and not folder.is_dir():
        raise TrainingConfigError(f"{folder}: expected a folder for the encoders, found a file; name another.")
    if any(folder.resolve() == own.resolve() for own in base.folders):
        raise TrainingConfigError(f"{folder} is the base itself; name another folder for what is made of it.")
    if not replace and any((folder / mark).exists() for mark in MARKS):
        raise TrainingConfigError(
            f"{folder} holds the encoders of another run. Name another folder,{otherwise} or let them be replaced"
            " (--overwrite)."
        )


def clear_output(folder: Path) -> None:
    """Before encoders are written anew, so that no file of an earlier run is taken for one of theirs."""
    for name in (*MARKS, LOG):
        (folder / name).unlink(missing_ok=True)
