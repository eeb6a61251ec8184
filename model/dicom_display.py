"""Stored DICOM values to display values in 0..1, dense tissue bright, patient upright and facing us.

Stored values -> modality LUT or rescale (PS3.3 C.11.1) -> VOI LUT or window (C.11.2) -> 0..1, inverted for MONOCHROME1
(C.7.6.3.1.2), turned by Patient Orientation (C.7.6.1.1.1). Absent, empty and unusable elements are alike: a film is
not refused for a careless header.
"""

from typing import Any

import numpy as np
import pydicom
from pydicom.pixels.processing import apply_modality_lut
from pydicom.sequence import Sequence

from .pixels import stretch

__all__ = ["display_values", "mirrored", "upright", "windowed_values"]


def display_values(dataset: pydicom.Dataset, stored: np.ndarray) -> np.ndarray:
    """float32 (rows, columns) in 0..1 from stored values. Raises ImageError: blank-image."""
    padding = _padding_mask(dataset, stored)
    values = _modality_values(dataset, stored)
    pixels = _voi_values(dataset, values)
    if pixels is None:
        pixels = stretch(values, None if padding is None else ~padding)
    pixels = _bright(dataset, pixels)
    if padding is not None:
        pixels[padding] = 0
    return upright(dataset, pixels)


def windowed_values(dataset: pydicom.Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Display values, not yet turned, where the header's VOI LUT or window decides on each by itself; else None.

    Of a picture without padding.
    """
    pixels = _voi_values(dataset, _modality_values(dataset, stored))
    return None if pixels is None else _bright(dataset, pixels)


def mirrored(dataset: pydicom.Dataset) -> tuple[bool, bool]:
    """Whether the film has to be turned left to right, and upside down (PS3.3 C.7.6.1.1.1).

    Rows are to run to the patient's left on a frontal, columns to the feet.
    """
    orientation = dataset.get("PatientOrientation")
    if not isinstance(orientation, pydicom.multival.MultiValue) or len(orientation) != 2:
        return False, False
    rows, columns = (str(direction).upper() for direction in orientation)
    return rows.startswith("R"), columns.startswith("H")


def upright(dataset: pydicom.Dataset, pixels: np.ndarray) -> np.ndarray:
    """The picture with the patient upright and facing us."""
    rows, columns = mirrored(dataset)
    return np.ascontiguousarray(pixels[:: -1 if columns else 1, :: -1 if rows else 1])


def _bright(dataset: pydicom.Dataset, pixels: np.ndarray) -> np.ndarray:
    return np.subtract(1, pixels, out=pixels) if dataset.PhotometricInterpretation == "MONOCHROME1" else pixels


def _padding_mask(dataset: pydicom.Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Pixels outside the exposed image (PS3.3 C.7.5.1.1.2), or None."""
    low, limit = _number(dataset, "PixelPaddingValue"), _number(dataset, "PixelPaddingRangeLimit")
    if low is None:
        return None
    high = low if limit is None else limit
    mask = (stored >= min(low, high)) & (stored <= max(low, high))
    return mask if mask.any() and not mask.all() else None


def _modality_values(dataset: pydicom.Dataset, stored: np.ndarray) -> np.ndarray:
    if dataset.get("ModalityLUTSequence"):
        return apply_modality_lut(stored, dataset).astype(np.float32)
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    if slope in (None, 1) and not intercept:
        return stored  # still integers
    plain = stored.astype(np.float32)
    values = plain * (1.0 if slope is None else slope) + (intercept or 0.0)
    return values if np.isfinite(values.max() - values.min()) else plain


def _voi_values(dataset: pydicom.Dataset, values: np.ndarray) -> np.ndarray | None:
    """Values in 0..1 through the VOI LUT or the first window; None where neither gives a picture."""
    pixels = _through_table(dataset, values)
    if pixels is None:
        pixels = _through_window(dataset, values)
    return pixels if pixels is not None and pixels.max() > pixels.min() else None  # neither flat nor not-a-number


def _through_table(dataset: pydicom.Dataset, values: np.ndarray) -> np.ndarray | None:
    """PS3.3 C.11.2.1.1. Values before the first entry take the first one, those behind the last the last."""
    sequence = dataset.get("VOILUTSequence")
    if not isinstance(sequence, Sequence) or not len(sequence):
        return None
    item = sequence[0]
    entries, first, _ = (int(number) for number in item.LUTDescriptor)
    count = entries or 2**16  # 0 stands for 65536
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "u1" if len(data) < 2 * count else "<u2")
    table = np.asarray(data, dtype=np.float32)[:count]
    if first > 2**15 and values.min() < 0:
        first -= 2**16  # a signed number that was read as an unsigned one
    index = np.clip(values.astype(np.float32) - first, 0, len(table) - 1).astype(np.intp)
    low, high = table.min(), table.max()
    return None if high <= low else (table[index] - low) / (high - low)


def _through_window(dataset: pydicom.Dataset, values: np.ndarray) -> np.ndarray | None:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3; the window's own ends are 0 and 1, whatever values the picture has."""
    center, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    if center is None or width is None or width <= 1:
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    pixels = values.astype(np.float32)
    if function == "SIGMOID":
        return (1 / (1 + np.exp(np.clip(-4 * (pixels - center) / width, -50, 50)))).astype(np.float32)
    if function != "LINEAR_EXACT":
        center, width = center - 0.5, width - 1
    pixels -= center
    pixels /= width
    pixels += 0.5
    return np.clip(pixels, 0, 1, out=pixels)


def _number(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """The first value of an element as a finite number, or None."""
    value: Any = dataset.get(keyword)
    if isinstance(value, pydicom.multival.MultiValue):
        value = value[0] if len(value) else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None
