"""What an interrupted run goes on from."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..alta import ALTA
from ..checkpoint import opened_whole, read_run
from .config import TrainConfig, TrainingConfigError
from .output import RECORD, STATE
from .step import Update

__all__ = ["RunState", "keep_state", "restore_state", "run_mark"]


@dataclass
class RunState:
    """done: steps; base: validation figures of the base as it came; best: those of the checkpoint that is written, at
    ``best_step``, the best of ``validations``."""

    done: int = 0
    base: dict[str, float] | None = None
    best: dict[str, float] | None = None
    best_step: int = 0
    validations: int = 0
    seconds: float = 0.0  # of training, over all interruptions


def keep_state(
    folder: Path, state: RunState, model: ALTA, update: Update, config: TrainConfig, table_sha256: str | None
) -> None:
    """Whole or not at all: a run that is killed while it writes goes on from the state before."""
    content = {
        "config": repr(config),
        "table_sha256": table_sha256,
        "run": run_mark(config, table_sha256),
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
    """Load everything into place. Raises TrainingConfigError when the run was of another configuration or table, or its
    encoders have been replaced."""
    content: dict[str, Any] = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    run = content.get("run")  # older states have none
    if run is not None and read_run(folder) != run:
        raise TrainingConfigError(
            f"{folder}: the encoders there are not those that the interrupted run had written, so it cannot go on from"
            " them. Put its own back, or start anew in another folder or with --overwrite."
        )
    if content["config"] != repr(config):
        raise TrainingConfigError(
            f"{folder}: the interrupted run had another configuration, so it cannot be resumed with this one"
            f"{_changes(folder, config)}. Put the configuration back, or start anew in another folder, with this run as"
            " [base] checkpoint to train on from what it has learned."
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


def run_mark(config: TrainConfig, table_sha256: str | None) -> str:
    """The same for all that a run writes, and for the same run made again."""
    return hashlib.sha256(f"{config!r} {table_sha256}".encode()).hexdigest()


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
