"""Which numbers the encoders compute in at inference.

bfloat16 halves the bytes and, where the hardware multiplies it, about doubles the speed. What decides the result stays
float32: sums inside products and norms (by the kernels), the norms' own weights, and both projection heads. Measured
(``tests/test_encoder_dtypes.py``): 1 - cosine to float32 is some 1e-4.
"""

import torch
from torch import nn

from .alta import ALTA
from .backbones import Attention

__all__ = ["has_native_bfloat16", "narrow"]


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 in hardware: AVX-512-bf16 or AMX on a CPU, Ampere and later among GPUs."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()  # an unknown name is an absent one
    return device.type == "cpu" and bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def narrow(model: ALTA) -> None:
    """Store the weights of the encoders' linear layers in bfloat16, for use under autocast.

    Once, here: autocast itself would convert frozen weights again at every call. Projection heads keep float32.
    """
    encoders = (model.image_encoder.blocks, model.text_encoder.layers)
    for module in (module for encoder in encoders for module in encoder.modules()):
        if isinstance(module, nn.Linear):
            module.to(torch.bfloat16)
        # torch's fused attention for CPUs multiplies bfloat16 without the processor's bfloat16 instructions: plain
        # products, which oneDNN makes with them, take half the time.
        elif isinstance(module, Attention) and not next(module.parameters()).is_cuda:
            module.fused_attn = False
