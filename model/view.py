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
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open

__all__ = ["CLASSES", "SIDE", "WEIGHTS", "ViewClassifier", "classify_view", "load_view_classifier", "thumbnail"]

SIDE: Final = 32  # px: the outline of lungs, heart and spine, but no texture that a simulator could be known by
CLASSES: Final = ("frontal", "lateral", "neither")
WEIGHTS: Final = Path(__file__).with_name("view.safetensors")

_COARSE: Final = 256  # px: borders are looked for in a picture of at most this side
_FLAT: Final = 0.04  # of the grey range: a row or column with no more contrast at the edge is border
_SMALLEST: Final = 24  # px: what is smaller cannot be told
_INNER: Final = 0.06  # share of each side that the second look leaves out

Array = NDArray[np.float32]


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
        looks = [thumbnail(pixels), thumbnail(_inner(pixels))]
        looks += [look[:, ::-1] for look in looks]
        return self.probabilities(np.stack(looks)).min(axis=0)

    def probabilities(self, looks: Array) -> Array:
        """(B, SIDE, SIDE) thumbnails to (B, 3), by CLASSES."""
        x = (looks - np.float32(0.5))[:, None]
        layer = 0
        while f"conv{layer}.weight" in self.weights:
            x = _pooled(_convolved(x, self.weights[f"conv{layer}.weight"], self.weights[f"conv{layer}.bias"]))
            layer += 1
        logits = x.reshape(len(x), -1) @ self.weights["head.weight"].T + self.weights["head.bias"]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


@cache
def load_view_classifier(path: Path = WEIGHTS) -> ViewClassifier:
    """The classifier as ``model.training.view`` wrote it."""
    with safe_open(path, framework="numpy") as file:
        weights = {name: file.get_tensor(name) for name in file.offset_keys()}
        facts = json.loads(file.metadata()["view"])
    return ViewClassifier(weights, facts["threshold"])


def thumbnail(pixels: np.ndarray) -> Array:
    """(height, width) to (SIDE, SIDE): without plain borders, stretched to a square, each value its rank in 0..1."""
    height, width = pixels.shape
    picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    coarse = picture.resize((min(width, _COARSE), min(height, _COARSE)), Image.Resampling.BOX)
    small = coarse.resize((SIDE, SIDE), Image.Resampling.BOX, _content(np.asarray(coarse)))
    return _ranked(np.asarray(small))


def _content(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of what is inside plain borders; the whole where hardly anything would be left."""
    flat = _FLAT * float(np.ptp(pixels))
    rows = np.flatnonzero(np.ptp(pixels, axis=1) > flat)
    columns = np.flatnonzero(np.ptp(pixels, axis=0) > flat)
    height, width = pixels.shape
    if not len(rows) or not len(columns):
        return 0, 0, width, height
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    if bottom - top < height // 3 or right - left < width // 3:
        return 0, 0, width, height
    return left, top, right, bottom


def _ranked(values: np.ndarray) -> Array:
    """Values to the share of the picture that is darker, equal ones alike."""
    low, spread = float(values.min()), float(np.ptp(values))
    levels = np.round((values - low) * (255 / spread if spread > 0 else 0)).astype(np.intp)
    counts = np.bincount(levels.ravel(), minlength=256)
    middle = (np.cumsum(counts) - counts / 2) / values.size
    return middle[levels].astype(np.float32)


def _inner(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape
    y, x = round(height * _INNER), round(width * _INNER)
    return pixels[y : height - y, x : width - x]


def _convolved(x: Array, weight: Array, bias: Array) -> Array:
    """3 x 3 with a border of zeros, then ReLU: (B, I, H, W) by (O, I, 3, 3) to (B, O, H, W)."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))  # (B, I, H, W, 3, 3)
    out = np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3))) + bias  # (B, H, W, O)
    return np.maximum(out, 0).transpose(0, 3, 1, 2)


def _pooled(x: Array) -> Array:
    """Maximum of every 2 x 2."""
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))
