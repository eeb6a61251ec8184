"""One direction out of several: the images of a study, what it should show besides, and what it should not.

A hit's cosine with a sum of unit vectors is, but for one factor, the weighted sum of its cosines with each of them.

Beside images a phrase counts by its difference from ``NOTHING_FOUND``: reports of one finding and of none are near to
each other, and only what they do not share is to be added to what the images show, or taken from it. A plain sum finds
the finding or the likeness, hardly both (docs/results.md).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from ..errors import RequestError

__all__ = ["NOTHING_FOUND", "TEXT_WEIGHT", "WITHOUT_WEIGHT", "WITHOUT_WEIGHT_OF_TEXT", "compose", "compose_texts"]

NOTHING_FOUND: Final = "No acute cardiopulmonary abnormality."

# Fitted on 1,000 simulated validation studies with the demo encoders, see docs/results.md.
TEXT_WEIGHT: Final = 1.25
WITHOUT_WEIGHT: Final = 0.75
WITHOUT_WEIGHT_OF_TEXT: Final = 0.25  # beside a text alone

LEAST_LENGTH: Final = 1e-3


def compose(
    images: np.ndarray,
    text: np.ndarray | None,
    without: Sequence[np.ndarray],
    nothing: np.ndarray,
    text_weight: float = TEXT_WEIGHT,
    without_weight: float = WITHOUT_WEIGHT,
) -> np.ndarray:
    """float32 (D,), length 1, of vectors of the same; nothing: that of ``NOTHING_FOUND``.

    Raises RequestError bad-query: a phrase that adds nothing.
    """
    total = images.astype(np.float64)
    if text is not None:
        total = total + text_weight * _unit(text - nothing)
    for phrase in without:
        total = total - without_weight * _unit(phrase - nothing)
    return _unit(total)


def compose_texts(
    text: np.ndarray, without: Sequence[np.ndarray], without_weight: float = WITHOUT_WEIGHT_OF_TEXT
) -> np.ndarray:
    """The same of a text alone."""
    return _unit(text.astype(np.float64) - without_weight * np.sum([np.zeros_like(text), *without], axis=0))


def _unit(vector: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    if length < LEAST_LENGTH:
        raise RequestError(
            "A phrase says that nothing was found, or what is looked for is what is not wanted: nothing is left to"
            " search with.",
            "bad-query",
        )
    return (vector / length).astype(np.float32)
