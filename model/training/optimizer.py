"""What learns, and how fast: the trainable parameters, AdamW and the schedule of the paper."""

import math

import torch
from torch import nn

from ..alta import ALTA
from .config import OptimConfig

__all__ = ["choose_trainable", "make_optimizer", "set_learning_rate", "trainable_names"]


def choose_trainable(model: ALTA, optim: OptimConfig) -> None:
    """ "adapters": what the paper trains (7.6 % of the published model); "all": everything that can learn."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trainable_names(model) if optim.trainable == "adapters" else True)
    model.image_encoder.missing_token.requires_grad_(False)


def trainable_names(model: ALTA) -> set[str]:
    """Adapters, norms, heads, scales, the learned tokens and what the decoders need to follow them."""
    norms = {
        f"{name}.{parameter}"
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm)
        for parameter in ("weight", "bias")
    }
    parts = (
        "adapter.",
        "projection_head.",
        "logit_scale",
        "cls_token",
        "temporal_embedding",
        "view_embedding",
    )
    decoders = (
        "image_decoder.embed.",
        "image_decoder.mask_token",
        "image_decoder.pred.",
        "text_encoder.mlm_head.",
    )
    names = (name for name, _ in model.named_parameters())
    return {name for name in names if name in norms or any(p in name for p in parts) or name.startswith(decoders)}


def make_optimizer(model: ALTA, optim: OptimConfig) -> torch.optim.AdamW:
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [p for p in learned if p.ndim > 1],
            "weight_decay": optim.weight_decay,
        },
        {
            "params": [p for p in learned if p.ndim <= 1],
            "weight_decay": 0.0,
        },  # biases, norms and scales
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=optim.betas, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, optim: OptimConfig) -> None:
    """Linear warm-up, then cosine to zero; after ``restart_at`` a second cosine from half the peak (SGDR)."""
    peak = optim.base_learning_rate * optim.batch / 256
    end = optim.restart_at or optim.steps
    if step < optim.warmup_steps:
        rate = peak * (step + 1) / optim.warmup_steps
    elif step < end or not optim.restart_at:
        share = (step - optim.warmup_steps) / max(1, end - optim.warmup_steps)
        rate = peak * (1 + math.cos(math.pi * share)) / 2
    else:
        share = (step - end) / max(1, optim.steps - end)
        rate = peak / 2 * (1 + math.cos(math.pi * share)) / 2
    for group in optimizer.param_groups:
        group["lr"] = rate
