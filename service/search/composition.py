"""One direction out of several: the images of a study, what it should show besides, and what it should not.

A hit's cosine with a sum of unit vectors is, but for one factor, the weighted sum of its cosines with each of them.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from ..errors import RequestError

__all__ = ["TEXT_WEIGHT", "WITHOUT_WEIGHT", "compose"]

TEXT_WEIGHT: Final = 1.0
WITHOUT_WEIGHT: Final = 0.5
LEAST_LENGTH: Final = 1e-3


def compose(wanted: Sequence[tuple[float, np.ndarray]], unwanted: Sequence[np.ndarray]) -> np.ndarray:
    """float32 (D,), length 1. wanted: weights and unit vectors (D,); unwanted: each subtracted with ``WITHOUT_WEIGHT``.

    Raises RequestError (bad-query) where nothing is left.
    """
    total = sum(weight * np.asarray(vector, np.float64) for weight, vector in wanted)
    total = np.asarray(total - sum(WITHOUT_WEIGHT * np.asarray(vector, np.float64) for vector in unwanted))
    length = float(np.linalg.norm(total))
    if length < LEAST_LENGTH:
        raise RequestError("What is looked for and what is not wanted are the same: nothing is left.", "bad-query")
    return (total / length).astype(np.float32)
