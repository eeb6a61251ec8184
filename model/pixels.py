"""Limits and stretching that every kind of image file shares."""

import numpy as np

from .errors import ImageError

__all__ = ["MAX_PIXELS", "require_reasonable_size", "stretch"]

MAX_PIXELS = 36_000_000  # the largest detectors give about 18 million; more is a decompression bomb

# Without a usable VOI transformation the display range is the central share of the values: a few hot or collimated
# pixels must not decide the contrast of the whole picture.
DISPLAY_PERCENTILES = (0.1, 99.9)


def stretch(values: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
    """Central values, of the pixels ``inside`` when given, to 0..1, float32. Raises ImageError: blank-image."""
    sample = values if inside is None else values[inside]
    low, high = np.percentile(sample, DISPLAY_PERCENTILES)
    if high <= low:
        low, high = sample.min(), sample.max()
    if not np.isfinite(high - low) or high <= low:
        raise ImageError("Every pixel of the image has the same value.", "blank-image")
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def require_reasonable_size(height: int, width: int) -> None:
    """Raises ImageError: undecodable, too-many-pixels."""
    if height < 1 or width < 1:
        raise ImageError(f"The image says it is {width} x {height} px.", "undecodable")
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"{width} x {height} px is over the limit of {MAX_PIXELS} px.",
            "too-many-pixels",
        )
