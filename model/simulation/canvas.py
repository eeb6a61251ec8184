"""The drawing surface: pixel grids in anatomical coordinates, soft edges, strokes and textures.

Positioning (rotation, shift, scale) is applied to the coordinates, so everything is drawn once, already in place, and
masks lie exactly over the picture. Fields are float32 (S, S) with S the image size in pixels.
"""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .anatomy import Acquisition

__all__ = ["Canvas", "Field", "Stroke", "joined", "noise_grid"]

Field = NDArray[np.float32]
Stroke = tuple[NDArray[np.float64], float, float]
"""A polyline: points (N, 2) as x, y in anatomical units, width in anatomical units, value 0..1."""

_GRID_EXTENT = 1.6  # textures cover -1.6..1.6 so that no shift or rotation can look past their edge


@lru_cache(maxsize=8)
def _image_axes(size: int) -> tuple[Field, Field]:
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
    return axis[None, :], axis[:, None]


@lru_cache(maxsize=512)
def noise_grid(seed: int, cells: int) -> Image.Image:
    """Smooth noise of two octaves, zero mean and unit variance, as a PIL "F" image of `cells` x `cells`."""
    rng = np.random.default_rng(seed)
    fine = rng.standard_normal((cells, cells), dtype=np.float32)
    coarse = Image.fromarray(rng.standard_normal((cells // 2, cells // 2), dtype=np.float32))
    grid = 0.55 * fine + 0.9 * np.asarray(coarse.resize((cells, cells), Image.Resampling.BICUBIC))
    grid = (grid - grid.mean()) / grid.std()
    return Image.fromarray(grid.astype(np.float32))


def joined(a: Field, b: Field, reach: float) -> Field:
    """The union of two signed depths, with the corner between them filled over a distance of about `reach`."""
    gap = np.clip(np.float32(1.0) - np.abs(a - b) * np.float32(1 / reach), 0.0, None)
    return np.maximum(a, b) + gap * gap * np.float32(reach / 4)


class Canvas:
    """An image of `size` x `size` pixels seen in anatomical coordinates: `x` and `y` are fields of -1..1 or so.

    On a frontal view x grows towards the patient's left (the right of the image, as displayed), on a lateral view
    towards the spine; y grows downwards. `pixel` is the length of one pixel.
    """

    def __init__(self, size: int, acquisition: Acquisition) -> None:
        self.size = size
        a = acquisition
        cos, sin = (
            np.float32(np.cos(a.rotation) / a.scale),
            np.float32(np.sin(a.rotation) / a.scale),
        )
        columns, rows = _image_axes(size)
        u, v = columns - np.float32(a.shift_x), rows - np.float32(a.shift_y)
        self.x: Field = u * cos + v * sin
        self.y: Field = v * cos - u * sin
        self.pixel = 2.0 / (size * a.scale)
        self._forward = np.array(
            [
                [np.cos(a.rotation), -np.sin(a.rotation)],
                [np.sin(a.rotation), np.cos(a.rotation)],
            ]
        )
        self._forward *= a.scale
        self._shift = np.array([a.shift_x, a.shift_y])

    def soft(self, depth: Field, width: float) -> Field:
        """A mask 0..1 from a signed `depth` (length units, positive inside) with a smooth edge `width` wide."""
        t = np.clip(depth / np.float32(max(width, 1.5 * self.pixel)) + np.float32(0.5), 0.0, 1.0)
        return t * t * (np.float32(3.0) - np.float32(2.0) * t)

    def blob(self, x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> Field:
        """1 - r^2 of an ellipse centred on (x, y): 1 at the centre, 0 on the ellipse, negative outside."""
        cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
        dx, dy = self.x - np.float32(x), self.y - np.float32(y)
        across = (dx * cos + dy * sin) * np.float32(1 / rx)
        along = (dy * cos - dx * sin) * np.float32(1 / ry)
        return np.float32(1.0) - across * across - along * along

    def strokes(self, strokes: Iterable[Stroke]) -> Field:
        """Antialiased polylines on a black field; where strokes cross, the later one shows."""
        over = 2
        image = Image.new("L", (self.size * over, self.size * over))
        draw = ImageDraw.Draw(image)
        half = self.size * over / 2
        for points, width, value in strokes:
            pixels = (points @ self._forward.T + self._shift + 1.0) * half
            thickness = width / self.pixel * over
            # A line thinner than the grid is drawn one cell wide and fainter, so its weight does not depend on size.
            faded = value * min(1.0, max(thickness, 0.35))
            draw.line(
                pixels.ravel().tolist(),
                fill=round(255 * faded),
                width=max(1, round(thickness)),
                joint="curve",
            )
        return np.asarray(image.reduce(over), dtype=np.float32) * np.float32(1 / 255)

    def texture(self, seed: int, cells: int) -> Field:
        """Smooth noise (zero mean, unit variance) fixed in anatomical coordinates, about `cells` / 1.6 bumps a unit."""
        grid = noise_grid(seed, cells)
        scale = cells / (2 * _GRID_EXTENT)
        step = self.size - 1
        x0, y0 = float(self.x[0, 0]), float(self.y[0, 0])
        dx = (float(self.x[0, -1]) - x0) / step, (float(self.x[-1, 0]) - x0) / step
        dy = (float(self.y[0, -1]) - y0) / step, (float(self.y[-1, 0]) - y0) / step
        affine = (
            dx[0] * scale, dx[1] * scale, (x0 + _GRID_EXTENT) * scale,
            dy[0] * scale, dy[1] * scale, (y0 + _GRID_EXTENT) * scale,
        )  # fmt: skip
        image = grid.transform(
            (self.size, self.size),
            Image.Transform.AFFINE,
            affine,
            Image.Resampling.BILINEAR,
        )
        return np.asarray(image, dtype=np.float32)
