"""What the archive and the service need of a pair of encoders, and nothing else. Without torch, so that whoever only
decodes files starts at once.

Axes: B studies or texts, D embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from .image import ImageTransform
from .similarity_map import SimilarityMap

__all__ = ["ProcessorSharing", "StudyEncoder", "StudyImages"]


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
    positions: int  # tokens of a text that could be read, where a protocol asks for more
    transform: ImageTransform

    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        """(B, D), one row a study. At least one slot of each study is present."""
        ...

    def encode_texts(self, texts: Sequence[str], limit: int | None = None) -> np.ndarray:
        """(B, D), one row a text; what is over ``limit`` tokens is not read.

        limit: ``context_length`` where not given; a protocol of evaluation may ask for fewer tokens or, as far as the
        encoder has positions, for more.
        """
        ...

    def encode_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        """(D,), one direction for a set of phrasings: the mean of their projections, normalised once."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before truncation, special tokens included."""
        ...

    def similarity_map(self, image: np.ndarray, phrase: str) -> SimilarityMap:
        """Where on a frontal image, float32 (crop, crop) from ``transform``, the words of ``phrase`` are seen.

        Raises TextError: phrase-without-words, phrase-too-long (over ``context_length`` tokens).
        """
        ...


@runtime_checkable
class ProcessorSharing(Protocol):
    """Encoders on a processor: calls side by side, each on a part of the cores, get more done than one on all of them.

    All cores on one call wait for the slowest at every step, and whatever else runs on the machine slows one of them.
    """

    calls_at_once: int  # that are worth making from as many threads

    def share_processor(self, calls: int) -> None:
        """The calling thread's next calls take one of ``calls`` equal parts of the processor."""
        ...
