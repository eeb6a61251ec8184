"""Limits, stretching and places that every kind of image file shares."""

from dataclasses import dataclass, replace

import numpy as np

from .errors import ImageError

__all__ = ["MAX_PIXELS", "Box", "Extent", "Picture", "require_reasonable_size", "stretch"]

MAX_PIXELS = 36_000_000  # the largest detectors give about 18 million; more is a decompression bomb

# Without a usable VOI transformation the display range is the central share of the values: a few hot or collimated
# pixels must not decide the contrast of the whole picture.
DISPLAY_PERCENTILES = (0.1, 99.9)


@dataclass(frozen=True)
class Box:
    """A rectangle on a picture: its borders in px from the upper left corner, not necessarily whole."""

    top: float
    left: float
    bottom: float
    right: float

    def mirrored(self, height: int, width: int, rows: bool, columns: bool) -> "Box":
        """After its picture of that size was turned left to right (``rows``) and upside down (``columns``)."""
        turned = self
        if rows:
            turned = replace(turned, left=width - self.right, right=width - self.left)
        if columns:
            turned = replace(turned, top=height - self.bottom, bottom=height - self.top)
        return turned


@dataclass(frozen=True)
class Extent:
    """Where a reduced picture lies on the whole one of ``height`` x ``width`` px: its borders, in px of the whole."""

    height: int
    width: int
    top: float
    left: float
    bottom: float
    right: float

    def mirrored(self, rows: bool, columns: bool) -> "Extent":
        """After the whole picture was turned left to right (``rows``) and upside down (``columns``)."""
        turned = self
        if rows:
            turned = replace(turned, left=self.width - self.right, right=self.width - self.left)
        if columns:
            turned = replace(turned, top=self.height - self.bottom, bottom=self.height - self.top)
        return turned


@dataclass(frozen=True)
class Picture:
    """pixels: display values, float32 (height, width) in 0..1; extent: None where they are the whole picture."""

    pixels: np.ndarray
    extent: Extent | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the whole picture."""
        height, width = self.pixels.shape
        return (height, width) if self.extent is None else (self.extent.height, self.extent.width)


def stretch(values: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
    """Central values, of the pixels ``inside`` when given, to 0..1, float32. Raises ImageError: blank-image."""
    sample = values if inside is None else values[inside]
    low, high = _central(sample)
    if high <= low:
        low, high = float(sample.min()), float(sample.max())
    if not np.isfinite(high - low) or high <= low:
        raise ImageError("Every pixel of the image has the same value.", "blank-image")
    pixels = values.astype(np.float32)
    pixels -= np.float32(low)
    pixels /= np.float32(high - low)
    return np.clip(pixels, 0, 1, out=pixels)


def _central(sample: np.ndarray) -> tuple[float, float]:
    """The display percentiles, between neighbours linearly as ``np.percentile`` has them."""
    if sample.dtype not in (np.uint8, np.uint16):
        low, high = np.percentile(sample, DISPLAY_PERCENTILES)
        return float(low), float(high)
    # Of so few different values, counting is four times as fast as partitioning.
    upto = np.bincount(sample.ravel()).cumsum()  # pixels of at most this value
    found = []
    for percentile in DISPLAY_PERCENTILES:
        rank = percentile / 100 * (sample.size - 1)
        below, above = np.searchsorted(upto, (int(rank), min(int(rank) + 1, sample.size - 1)), side="right")
        found.append(float(below + (rank - int(rank)) * (above - below)))
    return found[0], found[1]


def require_reasonable_size(height: int, width: int) -> None:
    """Raises ImageError: undecodable, too-many-pixels."""
    if height < 1 or width < 1:
        raise ImageError(f"The image says it is {width} x {height} px.", "undecodable")
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"{width} x {height} px is over the limit of {MAX_PIXELS} px.",
            "too-many-pixels",
        )
