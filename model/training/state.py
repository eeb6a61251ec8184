"""What an interrupted run goes on from."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..alta import ALTA
from .config import TrainConfig, TrainingConfigError
from .step import Update

__all__ = ["STATE", "RunState", "keep_state", "restore_state"]

STATE = "state.pt"


@dataclass
class RunState:
    """done: steps; best: validation figures of the checkpoint that is written, at ``best_step``."""

    done: int = 0
    best: dict[str, float] | None = None
    best_step: int = 0
    seconds: float = 0.0  # of training, over all interruptions


def keep_state(folder: Path, state: RunState, model: ALTA, update: Update, config: TrainConfig) -> None:
    """Whole or not at all: a run that is killed while it writes goes on from the state before."""
    content = {
        "config": repr(config),
        "state": vars(state),
        "model": model.state_dict(),
        "optimizer": update.optimizer.state_dict(),
        "scaler": update.scaler.state_dict(),
    }
    partial = folder / (STATE + ".partial")
    with partial.open("wb") as stream:
        torch.save(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(folder / STATE)


def restore_state(folder: Path, model: ALTA, update: Update, config: TrainConfig) -> RunState:
    """Load everything into place. Raises TrainingConfigError when the run was of another configuration."""
    content: dict[str, Any] = torch.load(folder / STATE, map_location=update.world.device, weights_only=True)
    if content["config"] != repr(config):
        raise TrainingConfigError(
            f"{folder}: the interrupted run had another configuration, so it cannot be resumed with this one."
            " Put the configuration back, or start anew without --resume or in another folder."
        )
    model.load_state_dict(content["model"])
    update.optimizer.load_state_dict(content["optimizer"])
    update.scaler.load_state_dict(content["scaler"])
    return RunState(**content["state"])
