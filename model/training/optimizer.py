"""How fast it is learned: AdamW and the schedule of the paper."""

import math

import torch

from ..alta import ALTA
from .config import OptimConfig

__all__ = ["make_optimizer", "set_learning_rate"]


def make_optimizer(model: ALTA, optim: OptimConfig) -> torch.optim.AdamW:
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},  # biases, norms and scales
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=optim.betas, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, optim: OptimConfig) -> None:
    """Linear warm-up, then cosine to zero; after ``restart_at`` a second cosine from half the peak (SGDR)."""
    peak = optim.base_learning_rate * optim.batch / 256
    last = optim.horizon or optim.steps
    end = optim.restart_at or last
    if step < optim.warmup_steps:
        rate = peak * (step + 1) / optim.warmup_steps
    elif step < end or not optim.restart_at:
        share = (step - optim.warmup_steps) / max(1, end - optim.warmup_steps)
        rate = peak * (1 + math.cos(math.pi * share)) / 2
    else:
        share = (step - end) / max(1, last - end)
        rate = peak / 2 * (1 + math.cos(math.pi * share)) / 2
    for group in optimizer.param_groups:
        group["lr"] = rate
