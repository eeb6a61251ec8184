"""Which numbers the encoders compute in at inference.

bfloat16 halves the bytes and, where the hardware multiplies it, about doubles the speed. What decides the result stays
float32: sums inside products and norms (by the kernels), the norms' own weights, and both projection heads. Measured
(``tests/test_encoder_dtypes.py``): 1 - cosine to float32 is some 1e-4.
"""

import torch
from torch import nn

from .alta import ALTA
from .backbones import Attention
from .processor import has_fused_attention

__all__ = ["narrow"]


def narrow(model: ALTA) -> None:
    """Store the weights of the encoders' linear layers in bfloat16, for use under autocast.

    Once, here: autocast itself would convert frozen weights again at every call. Projection heads keep float32.
    """
    encoders = (model.image_encoder.blocks, model.text_encoder.layers)
    for module in (module for encoder in encoders for module in encoder.modules()):
        if isinstance(module, nn.Linear):
            module.to(torch.bfloat16)
        elif isinstance(module, Attention) and not next(module.parameters()).is_cuda:
            module.fused_attn = has_fused_attention()
