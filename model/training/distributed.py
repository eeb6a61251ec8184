"""Several processes, one batch: what ``torchrun`` starts. Alone, a process is a world of one.

Every process holds the whole model and a share of the batch. The contrastive loss sees all embeddings with their
gradients; gradients are averaged before the update, so the processes stay alike to the bit.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import InputError

__all__ = ["World", "join_world"]

PATIENCE = timedelta(days=7)  # for what rank 0 does alone; NCCL's own patience is ten minutes


@dataclass(frozen=True)
class World:
    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    waiting: Any = None  # the process group of ``wait``

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

    def shares_of_mean(self, counts: Mapping[str, int]) -> dict[str, float]:
        """What this process's means over so many items are multiplied by, so that their average over processes is the
        mean over all items."""
        if self.size == 1:
            return dict.fromkeys(counts, 1.0)
        own = torch.tensor([float(count) for count in counts.values()], device=self.device)
        total = own.clone()
        dist.all_reduce(total)
        shares = own * self.size / total.clamp(min=1)
        return dict(zip(counts, shares.tolist(), strict=True))

    def mean(self, values: Tensor) -> Tensor:
        """Of all processes, in each; any shape."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Gradients of the mean loss in all processes. What a process alone has no gradient for counts as zero there:
        which parts of a model a batch reaches depends on its studies."""
        if self.size == 1:
            return
        known = list(parameters)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in known]
        flat = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        reached = self.mean(torch.tensor([float(p.grad is not None) for p in known], device=self.device)).tolist()
        for parameter, part, some in zip(known, flat.split([p.numel() for p in known]), reached, strict=True):
            parameter.grad = part.view_as(parameter) if some else None

    def wait(self) -> None:
        """Until all processes are here, be it days: decoding the pictures of a large table takes hours."""
        if self.size > 1:
            dist.barrier(group=self.waiting)

    def leave(self) -> None:
        """After the last step, when all are done."""
        if self.size > 1:
            dist.destroy_process_group()


def join_world(device: str = "auto") -> World:
    """The world that ``torchrun`` describes in the environment, joined over NCCL or gloo; else a world of one.

    device: "auto" (a GPU a process where there are any), "cpu" or "cuda". Raises InputError where it is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise InputError(f"device is {device!r}; expected auto, cpu or cuda.")
    number, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if device == "cuda" and number >= found:
        raise InputError(
            f"{number + 1} processes of this machine need a GPU each, {found} found; start fewer, or with --device cpu."
        )
    chosen = torch.device("cuda", number) if device == "cuda" else torch.device("cpu")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size == 1:
        return World(device=chosen)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return World(dist.get_rank(), size, chosen, dist.new_group(backend="gloo", timeout=PATIENCE))


class _Gather(torch.autograd.Function):
    """All processes must bring equally many rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rank: int, size: int) -> Tensor:
        ctx.rank, ctx.rows = rank, len(x)
        parts = [torch.empty_like(x) for _ in range(size)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)  # what is given may be another's too
        dist.all_reduce(gradient)
        return gradient[ctx.rank * ctx.rows : (ctx.rank + 1) * ctx.rows], None, None
