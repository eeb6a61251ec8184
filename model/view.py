"""Frontal or lateral, from the picture alone; says nothing rather than guess.

For archives whose headers and manifests are silent. A small convolutional network, trained on simulated radiographs
only (`model.training.view`), reads a thumbnail whose grey values have been replaced by their ranks, so that exposure,
window and gamma make no difference. NumPy and Pillow only: decoder processes call it.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import safe_open

from .thumbnails import Array, inner, probabilities, thumbnail

__all__ = ["CLASSES", "WEIGHTS", "ViewClassifier", "classify_view", "load_view_classifier"]

CLASSES: Final = ("frontal", "lateral", "neither")
WEIGHTS: Final = Path(__file__).with_name("view.safetensors")

_SMALLEST: Final = 24  # px: what is smaller cannot be told


def classify_view(pixels: np.ndarray) -> str | None:
    """ "frontal", "lateral", or None where the picture is neither or not clear.

    pixels: float (height, width), 0..1, as ``Radiograph.pixels``; dense tissue bright, though it may be inverted,
    mirrored or turned by quarter turns.
    """
    if min(pixels.shape) < _SMALLEST:
        return None
    return load_view_classifier(WEIGHTS).decide(pixels)


@dataclass(frozen=True)
class ViewClassifier:
    """Weights of the network by name, and how sure it must be: the least probability that is an answer."""

    weights: dict[str, Array]
    threshold: float

    def decide(self, pixels: np.ndarray) -> str | None:
        """See ``classify_view``."""
        scores = self.scores(pixels)
        best = int(scores.argmax())
        return CLASSES[best] if CLASSES[best] != "neither" and scores[best] >= self.threshold else None

    def scores(self, pixels: np.ndarray) -> Array:
        """(3,), by CLASSES: the least probability over four looks, whole and without its margin, each also mirrored.

        They sum to 1 only where the four agree.
        """
        looks = [thumbnail(pixels), thumbnail(inner(pixels))]
        looks += [look[:, ::-1] for look in looks]
        return probabilities(self.weights, np.stack(looks)).min(axis=0)


@cache
def load_view_classifier(path: Path = WEIGHTS) -> ViewClassifier:
    """The classifier as ``model.training.view`` wrote it."""
    with safe_open(path, framework="numpy") as file:
        weights = {name: file.get_tensor(name) for name in file.offset_keys()}
        facts = json.loads(file.metadata()["view"])
    return ViewClassifier(weights, facts["threshold"])
