"""The one place where requests meet the encoder. Batching across requests will go in here.

Axis: D embedding width.
"""

from collections.abc import Sequence
from functools import lru_cache
from threading import Lock

import numpy as np

from model.encoder import StudyEncoder, StudyImages

from .schemas import Notice

__all__ = ["Inference"]

PROMPT_CACHE_SIZE = 4096  # directions of D float32: a few megabytes at most


class Inference:
    """Runs one encoder call at a time: side by side they would only compete for the same cores or device."""

    def __init__(self, encoder: StudyEncoder) -> None:
        self.encoder = encoder
        self._lock = Lock()
        self._direction = lru_cache(PROMPT_CACHE_SIZE)(self._encode_prompts)

    def study(self, images: StudyImages) -> np.ndarray:
        """(D,) of length 1."""
        with self._lock:
            return self.encoder.encode_studies([images])[0]

    def text(self, text: str) -> np.ndarray:
        """(D,) of length 1."""
        with self._lock:
            return self.encoder.encode_texts([text])[0]

    def prompts(self, prompts: tuple[str, ...]) -> np.ndarray:
        """(D,) of length 1 for a set of phrasings; kept, because the same ensembles are asked for again and again."""
        return self._direction(prompts)

    def length_warnings(self, texts: Sequence[str]) -> list[Notice]:
        """One warning for each text that is longer than the encoder reads."""
        limit = self.encoder.context_length
        counts = self.encoder.count_tokens(texts) if texts else []
        return [
            Notice(code="text-truncated", detail=f"Text {n} of {len(counts)} has {count} tokens; {limit} were read.")
            for n, count in enumerate(counts, 1)
            if count > limit
        ]

    def _encode_prompts(self, prompts: tuple[str, ...]) -> np.ndarray:
        with self._lock:
            direction = self.encoder.encode_prompts(prompts)
        direction.setflags(write=False)
        return direction
