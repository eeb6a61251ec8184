"""What the hardware multiplies by itself."""

from functools import cache

import torch

__all__ = ["has_fused_attention", "has_native_bfloat16"]


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 in hardware: AVX-512-bf16 or AMX on a CPU, Ampere and later among GPUs."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()  # an unknown name is an absent one
    return device.type == "cpu" and bool(found.get("avx512_bf16") or found.get("amx_bf16"))


@cache
def has_fused_attention() -> bool:
    """Whether torch's fused attention for CPUs multiplies bfloat16 in hardware. With AMX it does and takes two thirds
    of the time of plain products; without, these take half of its time, as oneDNN makes them with AVX-512. What
    ``ONEDNN_MAX_CPU_ISA`` forbids is not known here; it costs time only."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))
