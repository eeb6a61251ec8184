"""Linear layers at the speed of the processor.

torch gives float32 products on a CPU to MKL, which leaves the AVX-512 of other makers' processors unused. oneDNN, which
torch also carries, does not: there it is about twice as fast, in both directions, for all but small products.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Linear", "linear", "use_fast_linear"]

SMALL = 2**21  # multiply-adds, below which oneDNN gains nothing


class Linear(nn.Linear):
    """``nn.Linear`` by ``linear``."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def use_fast_linear(model: nn.Module) -> None:
    """Turn every plain ``nn.Linear`` in ``model`` into a ``Linear``; names and weights stay."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., I) by weight (O, I) and bias (O,) to (..., O), as ``F.linear`` gives it."""
    if (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.ndim > 1
        and not torch.is_autocast_enabled("cpu")
        and x.numel() * len(weight) >= SMALL
        and _onednn_is_faster()
    ):
        return _OneDnnLinear.apply(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])
    return F.linear(x, weight, bias)


class _OneDnnLinear(torch.autograd.Function):
    """Rows (M, I) only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if weight.requires_grad else None, weight if x.requires_grad else None)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0]
        return (
            _product(gradient, weight.t()) if ctx.needs_input_grad[0] else None,
            _product(gradient.t(), x.t()) if ctx.needs_input_grad[1] else None,
            gradient.sum(0) if ctx.needs_input_grad[2] else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if torch.is_grad_enabled():  # only where a gradient is itself to be differentiated, which oneDNN's product is not
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@cache
def _onednn_is_faster() -> bool:
    """Whether this processor has AVX-512 that MKL does not use: any that is not Intel's."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # made for torch's compiler; another torch may not have it
        return False
    facts = Path("/proc/cpuinfo")
    return facts.exists() and "GenuineIntel" not in facts.read_text(errors="replace")
