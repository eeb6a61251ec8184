"""Inference: what the archive and the service need of a pair of encoders, and nothing else.

Axes: B studies or texts, D embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .image import ImageTransform

if TYPE_CHECKING:
    from .alta_encoder import AltaEncoder

__all__ = ["StudyEncoder", "StudyImages", "load_encoder"]


@dataclass(frozen=True)
class StudyImages:
    """The prepared images of one study, each float32 (crop, crop) from ``ImageTransform``, absent ones None.

    Slots in the order of the ALTA paper: two views of the current study, two of the patient's prior one.
    """

    current_frontal: np.ndarray | None = None
    current_lateral: np.ndarray | None = None
    prior_frontal: np.ndarray | None = None
    prior_lateral: np.ndarray | None = None

    def slots(self) -> tuple[np.ndarray | None, ...]:
        return (
            self.current_frontal,
            self.current_lateral,
            self.prior_frontal,
            self.prior_lateral,
        )


class StudyEncoder(Protocol):
    """A pair of encoders. Thread-safe; every returned embedding is float32 and has length 1."""

    fingerprint: str  # names weights, configuration and preprocessing; 64 hexadecimal digits
    dimension: int  # D
    context_length: int  # tokens of a text that are read, special tokens included
    transform: ImageTransform

    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        """(B, D), one row a study. At least one slot of each study is present."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(B, D), one row a text; what is over ``context_length`` tokens is not read."""
        ...

    def encode_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        """(D,), one direction for a set of phrasings: the mean of their projections, normalised once."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before truncation, special tokens included."""
        ...


def load_encoder(path: Path, device: str = "auto", dtype: str = "auto") -> "AltaEncoder":
    """Encoders from a checkpoint folder.

    device: "auto" (a GPU when there is one), "cpu", "cuda", "cuda:1". dtype: "float32" (what "auto" means) or
    "bfloat16". Raises CheckpointError.
    """
    # Only here is torch needed: whoever decodes files or serves without encoders starts without it.
    import torch

    from .alta_encoder import AltaEncoder
    from .checkpoint import load_checkpoint

    chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    return AltaEncoder(
        load_checkpoint(path),
        chosen,
        torch.bfloat16 if dtype == "bfloat16" else torch.float32,
    )
