"""Several processes, one batch: what ``torchrun`` starts. Alone, a process is a world of one.

Every process holds the whole model and a share of the batch. The contrastive loss sees all embeddings with their
gradients; gradients are averaged before the update, so the processes stay alike to the bit.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["World", "join_world"]


@dataclass(frozen=True)
class World:
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Rank 0 renders, validates, writes and reports."""
        return self.rank == 0

    def share(self, rows: Any) -> Any:
        """The rows of a batch that are this process's."""
        return rows[self.rank :: self.size]

    def gather(self, x: Tensor) -> Tensor:
        """The rows of all processes, rank after rank; gradients flow back to where the rows came from."""
        return x if self.size == 1 else _Gather.apply(x, self.rank, self.size)

    def share_of_mean(self, count: int) -> float:
        """What this process's mean over ``count`` items is multiplied by, so that the average over processes is the
        mean over all items."""
        if self.size == 1:
            return 1.0
        total = torch.tensor(float(count))
        dist.all_reduce(total)
        return count * self.size / max(float(total), 1.0)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()


def join_world() -> World:
    """The world that ``torchrun`` describes in the environment, joined over gloo; else a world of one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    return World(dist.get_rank(), size)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rank: int, size: int) -> Tensor:
        ctx.rank, ctx.rows = rank, len(x)
        parts = [torch.empty_like(x) for _ in range(size)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        return gradient[ctx.rank * ctx.rows : (ctx.rank + 1) * ctx.rows], None, None
