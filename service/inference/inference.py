"""The one place where requests meet the encoder. Batching across requests will go in here.

Axis: D embedding width.
"""

from collections.abc import Sequence
from threading import Lock

import numpy as np

from model.encoder import StudyEncoder, StudyImages
from model.prompts import PROMPT_SETS

from ..schemas import Notice

__all__ = ["Inference"]


class Inference:
    """Runs one encoder call at a time: side by side they would only compete for the same cores or device."""

    def __init__(self, encoder: StudyEncoder) -> None:
        self.encoder = encoder
        self._lock = Lock()
        # Only of the built-in findings: a caller's texts may be about a patient and are not kept.
        self._findings: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}  # by fingerprint and name

    def study(self, images: StudyImages) -> np.ndarray:
        """(D,) of length 1."""
        with self._lock:
            return self.encoder.encode_studies([images])[0]

    def text(self, text: str) -> np.ndarray:
        """(D,) of length 1."""
        with self._lock:
            return self.encoder.encode_texts([text])[0]

    def prompts(self, prompts: Sequence[str]) -> np.ndarray:
        """(D,) of length 1 for a set of phrasings."""
        with self._lock:
            return self.encoder.encode_prompts(prompts)

    def finding(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The positive and the negative direction, each (D,) of length 1, of a built-in finding."""
        key = self.encoder.fingerprint, name
        if key not in self._findings:
            pair = PROMPT_SETS[name]
            self._findings[key] = self.prompts(pair.positive), self.prompts(pair.negative)
        return self._findings[key]

    def length_warnings(self, texts: Sequence[str]) -> list[Notice]:
        """One warning for each text that is longer than the encoder reads."""
        limit = self.encoder.context_length
        counts = self.encoder.count_tokens(texts) if texts else []
        return [
            Notice(code="text-truncated", detail=f"Text {n} of {len(counts)} has {count} tokens; {limit} were read.")
            for n, count in enumerate(counts, 1)
            if count > limit
        ]
