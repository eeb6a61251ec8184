"""A radiograph as a PNG for the screen, with or without a similarity map over it."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from model.image import read_radiograph
from model.pixels import Box
from model.similarity_map import FilmGeometry, spread

__all__ = ["MAX_SIZE", "render_overlay", "render_png", "version_of"]

MAX_SIZE = 2048

# Viridis (CC0) at even steps: read alike with and without the common kinds of colour blindness, and in grey.
COLOURS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], np.float32)
STRONGEST = 0.6  # share of the colour where the map is highest: the film stays readable under it


def version_of(path: Path, size: int) -> str:
    """Changes whenever the rendering may: an entity tag without rendering. Raises OSError."""
    status = path.stat()
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}-{size}"'


def render_png(source: bytes | Path, size: int) -> bytes:
    """8-bit grey, the longer side at most ``size`` px, never enlarged. Raises ImageError, OSError."""
    return _png(_thumbnail(source, size))


def render_overlay(source: bytes | Path, size: int, values: np.ndarray, geometry: FilmGeometry) -> bytes:
    """8-bit RGB of the same size, upright, under a map (rows, columns) of patches. Raises ImageError, OSError.

    Colour and opacity rise from the middle of the map's range to its top; the lower half leaves the film as it is, and
    so does what lies outside of the map.
    """
    picture = _thumbnail(source, size)
    y, x = picture.height / geometry.height, picture.width / geometry.width
    seen = geometry.seen
    box = Box(seen.top * y, seen.left * x, seen.bottom * y, seen.right * x)
    low, high = float(values.min()), float(values.max())
    share = spread((values - low) / max(high - low, 1e-8), box, picture.height, picture.width)
    share = np.nan_to_num(np.clip(2 * share - 1, 0, 1))[:, :, None]  # (height, width, 1)
    colour = _coloured(share[:, :, 0])
    grey = np.asarray(picture, dtype=np.float32)[:, :, None]
    mixed = grey + STRONGEST * share * (colour - grey)
    return _png(Image.fromarray(np.round(mixed).astype(np.uint8)))


def _coloured(share: np.ndarray) -> np.ndarray:
    """(height, width) in 0..1 to (height, width, 3) in 0..255."""
    steps = np.linspace(0, 1, len(COLOURS))
    return np.stack([np.interp(share, steps, channel) for channel in COLOURS.T], axis=-1)


def _thumbnail(source: bytes | Path, size: int) -> Image.Image:
    picture = Image.fromarray(np.round(read_radiograph(source).pixels * 255).astype(np.uint8))
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    return picture


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=1)  # a thumbnail: speed over a few bytes
    return stream.getvalue()
