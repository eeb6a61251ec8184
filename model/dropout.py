"""Dropout that a CPU can afford."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Dropout", "dropout"]

LEVELS = 2**16


class Dropout(nn.Dropout):
    """``nn.Dropout`` by ``dropout``."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training and self.p else x


def dropout(x: Tensor, p: float) -> Tensor:
    """``x`` with a share ``p`` of its values dropped and the rest scaled up; floating point, any shape.

    torch draws a double for every value on a CPU, a tenth of a training step. Here four values share one 64-bit draw of
    the same generator, so ``p`` is rounded to a 65,536th; the scale follows what is truly kept.
    """
    if x.device.type != "cpu":
        return F.dropout(x, p)
    dropped = round(p * LEVELS)
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    kept = draws.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - LEVELS // 2
    return x * kept.to(x.dtype).mul_(LEVELS / (LEVELS - dropped))
