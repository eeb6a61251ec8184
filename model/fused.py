"""The encoders' layers as a CPU infers them in bfloat16: fewer passes over memory for the same sums.

Weights stand in the layout in which oneDNN multiplies, where plain ones are brought into it at every call; GELU and
sums are made by the product before them; what reads the same tokens is one product. No gradients, no dropout, no masks.

Axes: R images, T tokens of an image, P tokens of all texts, D width, I inputs, O outputs of a linear layer.
"""

import platform
from collections.abc import Sequence
from functools import cache
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .alta import ALTA, Adapter, TextLayer, ViTBlock
from .packed import PackedTexts
from .processor import has_fused_attention

__all__ = ["can_fuse", "fuse"]


@cache
def can_fuse() -> bool:
    """Whether this processor and this torch have the operators, which were made for torch's compiler and are tried."""
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():  # others: untried
        return False
    draw = torch.Generator().manual_seed(0)
    x, added, weight = (torch.randn(32, 32, generator=draw).bfloat16() for _ in range(3))
    bias = torch.randn(32, generator=draw).bfloat16()
    with torch.inference_mode():
        try:
            product = _Product(weight, bias)
            found = product(x, "gelu"), product.plus(x, added)
        except (AttributeError, RuntimeError, TypeError):  # absent, of another form, or without such instructions
            return False
        exact = F.linear(x.float(), weight.float(), bias.float())
        expected = F.gelu(exact), exact + added.float()
    return all(torch.allclose(one.float(), other, 0.02, 0.05) for one, other in zip(found, expected, strict=True))


def fuse(model: ALTA) -> None:
    """Replace the layers of both encoders, on a CPU and with their linear weights in bfloat16 (``precision.narrow``).

    The plain weights are let go, each layer's as soon as it is replaced: the model can then be neither trained nor
    saved.
    """
    blocks, layers = model.image_encoder.blocks, model.text_encoder.layers
    for place, block in enumerate(blocks):
        blocks[place] = _ImageBlock(cast("ViTBlock", block))
    for place, layer in enumerate(layers):
        layers[place] = _TextLayer(cast("TextLayer", layer))


class _Product:
    """x (..., I) times weight (O, I), and bias (O,). Not a module: its weight has a layout that few operators know."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())
        self._bias = bias.detach().clone()

    def __call__(self, x: Tensor, activation: str = "none") -> Tensor:
        scalars: list[Any] = []
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, activation, scalars, "none")

    def plus(self, x: Tensor, added: Tensor) -> Tensor:
        """And ``added`` (..., O), which is contiguous."""
        return torch.ops.mkldnn._linear_pointwise.binary(x, added, self._weight, self._bias, "add")


def _beside(layers: Sequence[nn.Linear]) -> _Product:
    """Their outputs one after the other, for what all of them read."""
    return _Product(torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers]))


def _own(layer: nn.Linear, factor: float = 1.0) -> _Product:
    return _Product(factor * layer.weight, factor * layer.bias)


class _Bottleneck:
    """factor x ``Adapter`` without its skip, added to something."""

    def __init__(self, adapter: Adapter, factor: float) -> None:
        self._down, self._up = _own(adapter.fc1), _own(adapter.fc2, factor)

    def plus(self, x: Tensor, added: Tensor) -> Tensor:
        return self._up.plus(self._down(x, "gelu"), added)


class _Layer(nn.Module):
    """Its products are no parameters: what would train or save it learns so, rather than lose them."""

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def train(self, mode: bool = True) -> Self:
        if mode:
            raise RuntimeError("Fused layers cannot be trained: load the encoders in float32.")
        return super().train(mode)

    def state_dict(self, *arguments: Any, **named: Any) -> Any:
        raise RuntimeError("Fused layers cannot be saved: load the encoders in float32.")


class _ImageBlock(_Layer):
    """``ViTBlock``. The feed-forward layer and the adapter beside it are one, as wide as both."""

    def __init__(self, block: ViTBlock) -> None:
        super().__init__()
        self.norm1, self.norm2 = block.norm1, block.norm2
        self._heads = block.attn.num_heads
        self._qkv, self._out = _own(block.attn.qkv), _own(block.attn.proj)
        self._attn_adapter = _Bottleneck(block.attn_adapter, 1.0) if block.attn_adapter else None
        mlp, beside = block.mlp, block.mlp_adapter
        if beside is None:
            self._wide, self._narrow = _own(mlp.fc1), _own(mlp.fc2)
        else:  # half of what the adapter says is added: exact in bfloat16
            self._wide = _beside((mlp.fc1, beside.fc1))
            self._narrow = _Product(
                torch.cat([mlp.fc2.weight, 0.5 * beside.fc2.weight], 1), mlp.fc2.bias + 0.5 * beside.fc2.bias
            )

    def forward(self, x: Tensor) -> Tensor:
        """(R, T, D)."""
        attended = self._out(self._attend(self._qkv(self.norm1(x))))
        x = x + attended
        if self._attn_adapter:
            x = self._attn_adapter.plus(attended, x)
        return self._narrow.plus(self._wide(self.norm2(x), "gelu"), x)

    def _attend(self, qkv: Tensor) -> Tensor:
        """(R, T, 3 * D) to (R, T, D)."""
        q, k, v = qkv.unflatten(2, (3, self._heads, -1)).permute(2, 0, 3, 1, 4).unbind()  # (R, heads, T, D / heads)
        if has_fused_attention():
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1) @ v
        return mixed.transpose(1, 2).flatten(2)


class _TextLayer(_Layer):
    """``TextLayer``."""

    def __init__(self, layer: TextLayer) -> None:
        super().__init__()
        heads = layer.attention.self
        self._heads = heads.num_attention_heads
        self._qkv = _beside((heads.query, heads.key, heads.value))
        self._out, self.norm1 = _own(layer.attention.output.dense), layer.attention.output.LayerNorm
        self._attn_adapter = _Bottleneck(layer.attn_adapter, 1.0) if layer.attn_adapter else None
        self._wide, self._narrow = _own(layer.intermediate.dense), _own(layer.output.dense)
        self.norm2 = layer.output.LayerNorm
        self._mlp_adapter = _Bottleneck(layer.mlp_adapter, 0.5) if layer.mlp_adapter else None

    def forward(self, x: Tensor, texts: PackedTexts) -> Tensor:
        """(P, D)."""
        query, key, value = self._qkv(x).chunk(3, 1)
        a = self.norm1(self._out.plus(texts.attend(query, key, value, self._heads, 0.0), x))
        if self._attn_adapter:
            a = self._attn_adapter.plus(a, a)
        y = self.norm2(self._narrow.plus(self._wide(a, "gelu"), a))
        return self._mlp_adapter.plus(a, y) if self._mlp_adapter else y
