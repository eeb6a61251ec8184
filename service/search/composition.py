"""One direction out of several: the images of a study, what it should show besides, and what it should not.

A hit's cosine with a sum of unit vectors is, but for one factor, the weighted sum of its cosines with each of them.

Beside images a phrase counts by its difference from ``NOTHING_FOUND``: reports of one finding and of none are near to
each other, and only what they do not share is to be added to what the images show, or taken from it. A plain sum finds
the finding or the likeness, hardly both (docs/results.md).
"""

from collections.abc import Callable, Sequence
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

Encode = Callable[[str], np.ndarray]  # to float32 (D,) of length 1


def compose(
    images: np.ndarray, text: str | None, without: Sequence[str], encode: Encode, text_weight: float = TEXT_WEIGHT
) -> np.ndarray:
    """float32 (D,), length 1. images: (D,), length 1. Raises RequestError bad-query: a phrase that adds nothing."""
    nothing = encode(NOTHING_FOUND)
    total = images.astype(np.float64)
    if text is not None:
        total = total + text_weight * _unit(encode(text) - nothing)
    for phrase in without:
        total = total - WITHOUT_WEIGHT * _unit(encode(phrase) - nothing)
    return _unit(total)


def compose_texts(text: str, without: Sequence[str], encode: Encode) -> np.ndarray:
    """The same of a text alone."""
    total = encode(text).astype(np.float64)
    for phrase in without:
        total = total - WITHOUT_WEIGHT_OF_TEXT * encode(phrase)
    return _unit(total)


def _unit(vector: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    if length < LEAST_LENGTH:
        raise RequestError(
            "A phrase says that nothing was found, or what is looked for is what is not wanted: nothing is left to"
            " search with.",
            "bad-query",
        )
    return (vector / length).astype(np.float32)
