"""The folder of a run: whose it is, and what an interrupted run goes on from."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..alta import ALTA
from ..checkpoint import opened_whole
from .adapters import RECORD
from .config import TrainConfig, TrainingConfigError
from .step import Update

__all__ = ["STATE", "RunState", "check_output", "clear_output", "keep_state", "restore_state"]

STATE = "state.pt"
MARKS = (STATE, "config.json", RECORD, "adapters/adapters.json")  # without these a folder holds no encoders


@dataclass
class RunState:
    """done: steps; base: validation figures of the base as it came; best: those of the checkpoint that is written, at
    ``best_step``."""

    done: int = 0
    base: dict[str, float] | None = None
    best: dict[str, float] | None = None
    best_step: int = 0
    seconds: float = 0.0  # of training, over all interruptions


def check_output(folder: Path, config: TrainConfig, resume: bool, overwrite: bool) -> None:
    """Raises TrainingConfigError when the run would write over encoders that are not its own."""
    base = config.base.checkpoint
    if base is not None and Path(base).resolve() == folder.resolve():
        raise TrainingConfigError(f"{folder} is the base of this run; name another folder for what is learned over it.")
    # A run that was killed before its first state has a log.
    interrupted = resume and ((folder / STATE).exists() or (folder / "log.jsonl").exists())
    if not (interrupted or overwrite) and any((folder / mark).exists() for mark in MARKS):
        raise TrainingConfigError(
            f"{folder} holds the encoders of another run. Name another folder, go on with that run (--resume), or let"
            " them be replaced (--overwrite)."
        )


def clear_output(folder: Path) -> None:
    """Before a run that starts anew, so that no file of an earlier one is taken for its own."""
    for mark in MARKS:
        (folder / mark).unlink(missing_ok=True)


def keep_state(
    folder: Path, state: RunState, model: ALTA, update: Update, config: TrainConfig, table_sha256: str | None
) -> None:
    """Whole or not at all: a run that is killed while it writes goes on from the state before."""
    content = {
        "config": repr(config),
        "table_sha256": table_sha256,
        "state": vars(state),
        "model": model.state_dict(),
        "optimizer": update.optimizer.state_dict(),
        "scaler": update.scaler.state_dict(),
    }
    with opened_whole(folder / STATE) as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:  # of torch's writer, over the stream's own
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def restore_state(folder: Path, model: ALTA, update: Update, config: TrainConfig, table_sha256: str | None) -> RunState:
    """Load everything into place. Raises TrainingConfigError when the run was of another configuration or table."""
    content: dict[str, Any] = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    if content["config"] != repr(config):
        raise TrainingConfigError(
            f"{folder}: the interrupted run had another configuration, so it cannot be resumed with this one"
            f"{_changes(folder, config)}. Put the configuration back, or start anew in another folder."
        )
    if content.get("table_sha256", table_sha256) != table_sha256:
        raise TrainingConfigError(
            f"{config.data.table} is not as it was when the run in {folder} began, so its batches would be others. Put"
            " the table back, or start anew in another folder, with this run as [base] checkpoint if you like."
        )
    model.load_state_dict(content["model"])
    update.optimizer.load_state_dict(content["optimizer"])
    update.scaler.load_state_dict(content["scaler"])
    return RunState(**content["state"])


def _changes(folder: Path, config: TrainConfig) -> str:
    """ ": optim.steps was 10, is 20" as far as the run's record tells."""
    try:
        before = _flat(json.loads((folder / RECORD).read_text(encoding="utf-8"))["config"])
    except (OSError, ValueError, KeyError):
        return ""
    now = _flat(json.loads(json.dumps(asdict(config))))
    changed = [name for name in now if before.get(name) != now[name]]
    return "".join(f"; {name} was {before.get(name)!r}, is {now[name]!r}" for name in changed)


def _flat(content: dict[str, Any], start: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat |= _flat(value, f"{start}{name}.") if isinstance(value, dict) else {start + name: value}
    return flat
