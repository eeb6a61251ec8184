"""Low-rank updates in place of ALTA's adapters (LoRA, ICLR 2022), by the peft library.

Every linear layer of both encoders' blocks gets one. They are added into the weights when a checkpoint is written, so
that what serves is a plain model.
"""

import torch
from torch import Tensor

from ..alta import ALTA
from ..errors import AltaError

__all__ = ["add_lora", "low_rank_parameters", "merged_parameters", "plain_name"]

TARGETS = r"(image_encoder\.blocks|text_encoder\.layers)\..*\.(qkv|proj|fc1|fc2|query|key|value|dense)"


def add_lora(model: ALTA, rank: int) -> None:
    """Put updates of ``rank``, zero at first, beside the linear layers. Scale 1, no dropout."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise AltaError(
            "The objective lora needs the peft library: pip install -c constraints.txt -e '.[train]'"
        ) from None
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS), model)


def plain_name(name: str) -> str:
    """Of a parameter, in the model without updates."""
    return name.replace(".base_layer.", ".")


def low_rank_parameters(model: ALTA) -> dict[str, Tensor]:
    """``X.weight.lora_A`` (rank, in) and ``X.weight.lora_B`` (out, rank); X's weight is to grow by B @ A."""
    return {
        f"{name.split('.lora_')[0]}.weight.lora_{name.split('.lora_')[1][0]}": parameter
        for name, parameter in model.named_parameters()
        if ".lora_" in name
    }


def merged_parameters(model: ALTA) -> dict[str, Tensor]:
    """Parameters under the names of the plain model, updates added in."""
    updates = {name: module for name, module in model.named_modules() if hasattr(module, "get_delta_weight")}
    merged = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                continue
            owner = name.removesuffix(".base_layer.weight")
            value = parameter.detach()
            merged[plain_name(name)] = value + updates[owner].get_delta_weight("default") if owner in updates else value
    return merged
