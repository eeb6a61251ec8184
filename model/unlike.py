"""Whether a picture is a chest radiograph the right way round, from the picture alone.

A header can lie and a JPEG has none. A small network, trained on simulated radiographs and on drawn pictures of other
things (``model.training.unlike``), reads a thumbnail without a grey scale. NumPy and Pillow only: decoder processes
call it. How often it is right on pictures that it has not met: ``benchmarks.unlike``.
"""

from functools import cache
from pathlib import Path
from typing import Final, Literal

import numpy as np
from safetensors import safe_open

from .thumbnails import Array, coarse, inner, probabilities, thumbnail

__all__ = ["CLASSES", "WEIGHTS", "Appearance", "appearance_of", "judge_picture", "likeness", "load_weights"]

CLASSES: Final = ("chest", "inverted", "turned", "other")
WEIGHTS: Final = Path(__file__).with_name("unlike.safetensors")

# blank: hardly any contrast. unlike: surely no chest radiograph. doubtful: possibly none.
Appearance = Literal["chest", "blank", "unlike", "doubtful", "inverted", "turned"]

# Chosen on films of one real source and on drawn pictures, neither of which judges: `benchmarks.unlike`.
_REFUSE: Final = 0.93  # of "other": one of 190 films, each upright, inverted and turned three ways, has as much once
_DOUBT: Final = 0.75  # 2 % of the upright ones have
_TURN: Final = 0.6  # of "inverted" or "turned", as a share of all that is no "other": none of the upright ones
_COLOURED: Final = 0.15  # of ``Radiograph.colour``, more than coloured marks cover: then less is enough to refuse
_LEAST_CONTRAST: Final = 0.02  # of the display range, for nine tenths of the picture: a mark is no contrast
_SMALLEST: Final = 24  # px: what is smaller cannot be told


def judge_picture(pixels: np.ndarray, colour: float = 0.0) -> Appearance:
    """pixels: float (height, width), 0..1, as ``Radiograph.pixels``, dense tissue bright; colour: as there."""
    if min(pixels.shape) < _SMALLEST:
        return "doubtful"
    shrunk = coarse(pixels)
    low, high = np.percentile(shrunk, (5, 95))
    if high - low < _LEAST_CONTRAST:
        return "blank"
    return appearance_of(likeness(load_weights(WEIGHTS), shrunk, inner(pixels)), colour)


def appearance_of(scores: Array, colour: float = 0.0) -> Appearance:
    """scores: (4,), by CLASSES."""
    chest, inverted, turned, other = (float(score) for score in scores)
    coloured = colour >= _COLOURED
    if other >= (0.5 if coloured else _REFUSE):
        return "unlike"
    if coloured or other >= _DOUBT:
        return "doubtful"
    if inverted >= _TURN * (chest + inverted + turned):
        return "inverted"
    return "turned" if turned >= _TURN * (chest + inverted + turned) else "chest"


def likeness(weights: dict[str, Array], *pictures: np.ndarray) -> Array:
    """(4,), by CLASSES: mean probabilities of looks at the pictures, each also mirrored."""
    looks = [thumbnail(picture) for picture in pictures]
    looks += [look[:, ::-1] for look in looks]
    return probabilities(weights, np.stack(looks)).mean(axis=0)


@cache
def load_weights(path: Path = WEIGHTS) -> dict[str, Array]:
    """As ``model.training.unlike`` wrote them."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.offset_keys()}
