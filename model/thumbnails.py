"""Radiographs as thumbnails without a grey scale, and the small networks that read them.

A thumbnail's grey values are replaced by their ranks, so that exposure, window and gamma make no difference. NumPy and
Pillow only: decoder processes call it. Axis: B thumbnails.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["SIDE", "Array", "coarse", "inner", "probabilities", "thumbnail"]

SIDE: Final = 32  # px: the outline of lungs, heart and spine, but no texture that a simulator could be known by

_COARSE: Final = 256  # px: borders are looked for in a picture of at most this side
_FLAT: Final = 0.04  # of the grey range: a row or column with no more contrast at the edge is border
_INNER: Final = 0.06  # share of each side that the second look leaves out

Array = NDArray[np.float32]


def probabilities(weights: Mapping[str, Array], looks: Array) -> Array:
    """(B, SIDE, SIDE) to (B, classes), through the convolutions ``conv0``, ``conv1``, ... and a linear ``head``."""
    x = (looks - np.float32(0.5))[:, None]
    layer = 0
    while f"conv{layer}.weight" in weights:
        x = _pooled(_convolved(x, weights[f"conv{layer}.weight"], weights[f"conv{layer}.bias"]))
        layer += 1
    logits = x.reshape(len(x), -1) @ weights["head.weight"].T + weights["head.bias"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def thumbnail(pixels: np.ndarray) -> Array:
    """(height, width) to (SIDE, SIDE): without plain borders, stretched to a square, each value its rank in 0..1."""
    shrunk = coarse(pixels)
    small = Image.fromarray(shrunk).resize((SIDE, SIDE), Image.Resampling.BOX, _content(shrunk))
    return _ranked(np.asarray(small))


def coarse(pixels: np.ndarray) -> Array:
    """(height, width) to at most (256, 256), not in proportion. It has the same thumbnail, for next to no work."""
    height, width = pixels.shape
    picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    return np.asarray(picture.resize((min(width, _COARSE), min(height, _COARSE)), Image.Resampling.BOX))


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


def inner(pixels: np.ndarray) -> np.ndarray:
    """Without a margin: what is written on the rim of a film does not count in a second look."""
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
