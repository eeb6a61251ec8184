"""A small ALTA: every parameter random, adapters and slot embeddings included, so that no part of it is idle."""

import string
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from model.alta import ALTA, ALTAConfig, ImageConfig, TextConfig
from model.checkpoint import Provenance, save_checkpoint
from model.image import ImageTransform

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    "no", "the", "heart", "lungs", "are", "is", "clear", "normal", "enlarged", "effusion", "pneumothorax", "left",
    "right", "small", "large", "seen", "of",
)  # fmt: skip
ALPHABET = string.ascii_lowercase + string.digits + ".,:;()-/'"
VOCABULARY = (*SPECIAL, *WORDS, *ALPHABET, *(f"##{c}" for c in ALPHABET if c.isalnum()))
TRANSFORM = ImageTransform(resize=36, crop=32, mean=0.5, std=0.25)
PROVENANCE = Provenance(name="tiny", trained_on="nothing", license="none", notice="For tests.")


def tiny_config(
    absent_slots: Literal["encoded", "ignored"] = "encoded", dropout: float = 0.0, vocabulary: int = len(VOCABULARY)
) -> ALTAConfig:
    """Sixteen patches of 8 px; image and text towers of different widths."""
    return ALTAConfig(
        image=ImageConfig(
            size=32, patch=8, width=16, depth=2, heads=2, decoder_width=8, decoder_depth=1, decoder_heads=2
        ),
        text=TextConfig(
            vocabulary=vocabulary, width=24, depth=2, heads=2, intermediate=32, positions=40, context_length=24,
            dropout=dropout,
        ),
        embedding=8,
        absent_slots=absent_slots,
    )  # fmt: skip


def tiny_model(absent_slots: Literal["encoded", "ignored"] = "encoded", seed: int = 0) -> ALTA:
    """In evaluation mode."""
    model = ALTA(tiny_config(absent_slots))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            if "logit_scale" in name or "missing_token" in name:
                continue
            # Weights large enough that small networks tell inputs apart.
            spread = 0.4 if parameter.ndim > 1 else 0.2
            parameter.copy_(1 + 0.1 * noise if "norm" in name.lower() and name.endswith("weight") else spread * noise)
    return model.eval()


def write_tiny_checkpoint(folder: Path, absent_slots: Literal["encoded", "ignored"] = "encoded", seed: int = 0) -> Path:
    save_checkpoint(folder, tiny_model(absent_slots, seed), list(VOCABULARY), TRANSFORM, PROVENANCE)
    return folder


def tiny_images(count: int, seed: int = 0) -> np.ndarray:
    """(count, 32, 32) float32, as ``TRANSFORM`` gives them."""
    return np.random.default_rng(seed).standard_normal((count, 32, 32)).astype(np.float32)
