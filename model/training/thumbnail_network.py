"""Trains the small networks that read thumbnails."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..thumbnails import SIDE, Array

__all__ = ["ThumbnailNetwork", "fit"]

logger = logging.getLogger(__name__)

BATCH, RATE, DECAY = 256, 3e-3, 0.05
SMOOTHING = 0.02  # of labels: some pictures are beyond telling, and nothing should be called certain


class ThumbnailNetwork(nn.Module):
    """What ``model.thumbnails.probabilities`` computes, under the same names, before its softmax.

    widths: channels of the convolutions.
    """

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.depth = len(widths)
        for number, (before, after) in enumerate(zip((1, *widths), widths, strict=False)):
            self.add_module(f"conv{number}", nn.Conv2d(before, after, 3, padding=1))
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(widths[-1] * (SIDE >> self.depth) ** 2, classes)

    def forward(self, looks: Tensor) -> Tensor:
        """(B, SIDE, SIDE) to logits (B, classes)."""
        x = (looks - 0.5)[:, None]
        for number in range(self.depth):
            x = F.max_pool2d(F.relu(self.get_submodule(f"conv{number}")(x)), 2)
        return self.head(self.dropout(x.flatten(1)))


def fit(
    looks: Array, classes: NDArray[np.int64], widths: Sequence[int], count: int, epochs: int, seed: int
) -> dict[str, Array]:
    """Weights by name. looks (N, SIDE, SIDE) with their classes (N,) of ``count``; each class counts alike."""
    torch.manual_seed(seed)
    network = ThumbnailNetwork(widths, count)
    x, y = torch.from_numpy(looks), torch.from_numpy(classes)
    weight = len(y) / (count * torch.bincount(y, minlength=count).float().clamp(min=1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    steps = epochs * -(-len(y) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(y)).split(BATCH):
            loss = F.cross_entropy(network(x[batch]), y[batch], weight, label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(batch)
        logger.info("epoch %d of %d: loss %.4f", epoch + 1, epochs, total / max(len(y), 1))
    return {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
