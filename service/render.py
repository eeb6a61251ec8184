"""An archived radiograph as a PNG for the screen."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from model.image import read_radiograph

__all__ = ["MAX_SIZE", "render_png", "version_of"]

MAX_SIZE = 2048


def version_of(path: Path, size: int) -> str:
    """Changes whenever the rendering may: an entity tag without rendering. Raises OSError."""
    status = path.stat()
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}-{size}"'


def render_png(path: Path, size: int) -> bytes:
    """8-bit grey, the longer side at most ``size`` px, never enlarged. Raises ImageError, OSError."""
    pixels = read_radiograph(path).pixels
    picture = Image.fromarray(np.round(pixels * 255).astype(np.uint8))
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=1)  # a thumbnail: speed over a few bytes
    return stream.getvalue()
