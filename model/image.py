"""Radiograph files to normalised arrays: the one image pipeline of training, embedding and serving.

A file becomes a ``Radiograph`` (display values in 0..1, dense tissue bright), and a ``Radiograph`` becomes
encoder input through an ``ImageTransform`` whose constants travel with the checkpoint.
"""

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image, ImageOps, UnidentifiedImageError
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from .errors import ImageError

__all__ = [
    "ImageTransform",
    "MAX_PIXELS",
    "Radiograph",
    "decode_dicom",
    "read_dicom",
    "read_radiograph",
]

MAX_PIXELS = 64_000_000  # the largest detectors give about 18 million; more is a decompression bomb

# Without a VOI transformation the display range is the central share of the values: a few hot or
# collimated pixels must not decide the contrast of the whole picture.
DISPLAY_PERCENTILES = (0.1, 99.9)


@dataclass(frozen=True)
class Radiograph:
    """One decoded image.

    pixels: float32 (height, width), 0..1, MONOCHROME2 sense (dense tissue bright).
    dataset: the DICOM header without pixel data; ``None`` for JPEG and PNG.
    """

    pixels: np.ndarray
    dataset: pydicom.Dataset | None = None


@dataclass(frozen=True)
class ImageTransform:
    """Shorter side to ``resize`` px (bicubic, antialiased), centre crop of ``crop`` px, (x - mean) / std.

    The defaults are the constants of the published MRM and ALTA evaluation.
    """

    resize: int = 256
    crop: int = 224
    mean: float = 0.4785
    std: float = 0.2834

    def geometry(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Resized (height, width) and the crop's (top, left) for an original of that size, in px."""
        scale = self.resize / min(height, width)
        resized = (
            max(self.resize, round(height * scale)),
            max(self.resize, round(width * scale)),
        )
        return *resized, (resized[0] - self.crop) // 2, (resized[1] - self.crop) // 2

    def place(self, pixels: np.ndarray) -> np.ndarray:
        """Resize and crop: (height, width) in 0..1 to (crop, crop) float32 in 0..1."""
        height, width, top, left = self.geometry(*pixels.shape)
        y, x = pixels.shape[0] / height, pixels.shape[1] / width  # px of the original in one of the resized picture
        picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
        # Only the crop is computed: a strip of one pixel's height would be resized to billions of pixels.
        box = (left * x, top * y, (left + self.crop) * x, (top + self.crop) * y)
        square = picture.resize((self.crop, self.crop), Image.Resampling.BICUBIC, box)
        return np.clip(np.asarray(square), 0, 1)  # bicubic overshoots at edges

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Encoder input: (height, width) in 0..1 to (crop, crop) float32, zero mean and unit variance."""
        return ((self.place(pixels) - self.mean) / self.std).astype(np.float32)


def read_radiograph(source: bytes | Path) -> Radiograph:
    """Decode a DICOM, JPEG or PNG file, recognised by its content and never by its name.

    Raises ImageError with a slug: empty-file, not-an-image, too-many-pixels, truncated, no-pixel-data,
    no-transfer-syntax, multi-frame, unsupported-photometric, unsupported-transfer-syntax, undecodable, blank-image.
    """
    data = source.read_bytes() if isinstance(source, Path) else source
    if not data:
        raise ImageError("The file is empty.", "empty-file")
    if data[128:132] == b"DICM":
        dataset = read_dicom(data)
        pixels = decode_dicom(dataset)
        if "PixelData" in dataset:
            del dataset.PixelData
        return Radiograph(pixels, dataset)
    return Radiograph(_decode_picture(data))


def read_dicom(source: bytes | Path, header_only: bool = False) -> pydicom.Dataset:
    """Parse a DICOM file (PS3.10: preamble and file meta information are required).

    Raises ImageError: not-dicom, truncated, no-transfer-syntax.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values in headers that are not needed
            dataset = pydicom.dcmread(stream, stop_before_pixels=header_only)
    except pydicom.errors.InvalidDicomError:
        raise ImageError("Expected a DICOM file; found no DICM prefix at byte 128.", "not-dicom") from None
    except OSError as error:
        if isinstance(source, Path) and not isinstance(error, EOFError):
            raise
        raise ImageError(f"The DICOM file ends early: {error}.", "truncated") from error
    except Exception as error:  # pydicom raises many kinds on broken files
        raise ImageError(f"The DICOM file cannot be parsed: {error}.", "truncated") from error
    if "TransferSyntaxUID" not in dataset.file_meta:
        raise ImageError(
            "The DICOM file meta information names no transfer syntax.",
            "no-transfer-syntax",
        )
    if not len(dataset):  # what pydicom gives, without an error, for a file cut inside an element
        raise ImageError("The DICOM file ends early: nothing of its data set can be read.", "truncated")
    return dataset


def decode_dicom(dataset: pydicom.Dataset) -> np.ndarray:
    """Display values of a single-frame greyscale image: float32 (rows, columns) in 0..1.

    Stored values -> modality LUT or rescale (PS3.3 C.11.1) -> VOI LUT or window (C.11.2) -> 0..1, inverted
    for MONOCHROME1 (C.7.6.3.1.2). Raises ImageError, see ``read_radiograph``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _display_values(dataset)
    except ImageError:
        raise
    except Exception as error:  # a hostile header can break any step
        raise ImageError(f"The image cannot be displayed: {error}.", "undecodable") from error


def _display_values(dataset: pydicom.Dataset) -> np.ndarray:
    _require_single_grey_frame(dataset)
    stored = _decode_stored(dataset)
    padding = _padding_mask(dataset, stored)
    values = apply_voi_lut(apply_modality_lut(stored, dataset), dataset)
    pixels = _to_unit_range(
        values.astype(np.float32),
        None if padding is None else ~padding,
        _has_voi(dataset),
    )
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = 1 - pixels
    if padding is not None:
        pixels[padding] = 0
    return pixels


def _require_single_grey_frame(dataset: pydicom.Dataset) -> None:
    if "PixelData" not in dataset:
        raise ImageError("The DICOM object has no pixel data.", "no-pixel-data")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ImageError(f"Expected a single frame, found {dataset.NumberOfFrames}.", "multi-frame")
    photometric = dataset.get("PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise ImageError(
            f"Expected MONOCHROME1 or MONOCHROME2, found {photometric}.",
            "unsupported-photometric",
        )
    _require_reasonable_size(int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0))


def _decode_stored(dataset: pydicom.Dataset) -> np.ndarray:
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        if syntax.is_compressed:
            _require_honest_codestream(dataset)
        return dataset.pixel_array
    except ImageError:
        raise
    except NotImplementedError as error:
        raise ImageError(
            f"Transfer syntax {syntax.name} is not supported.",
            "unsupported-transfer-syntax",
        ) from error
    except BaseException as error:  # every decoder has its own kinds; one in Rust panics, which is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        wanted = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("BitsAllocated") or 0)
        if not syntax.is_compressed and len(dataset.PixelData) * 8 < wanted:
            raise ImageError(f"The pixel data are incomplete: {error}.", "truncated") from error
        message = f"{syntax.name} pixel data cannot be decoded: {error}."
        raise ImageError(message, "undecodable") from error


def _require_honest_codestream(dataset: pydicom.Dataset) -> None:
    """Decoders allocate what the compressed frame says it needs: 60000 x 60000 px fit in a file of a kilobyte."""
    size = _codestream_size(pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1))
    if size and (size[0] > dataset.Rows or size[1] > dataset.Columns or size[2] != 1):
        raise ImageError(
            f"Expected {dataset.Rows} rows, {dataset.Columns} columns and 1 component as in the header; the compressed"
            f" frame has {size[0]}, {size[1]} and {size[2]}.",
            "undecodable",
        )


def _codestream_size(frame: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, components) of a JPEG, JPEG-LS or JPEG 2000 codestream; None where its header is not found."""
    start = frame.find(b"\xff\x4f\xff\x51")  # ISO/IEC 15444-1 A.5.1: SOC, SIZ
    if start >= 0:
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        return bottom - top, right - left, *struct.unpack_from(">H", frame, start + 40)
    place = 2
    while frame[place : place + 1] == b"\xff":
        marker = frame[place + 1]
        # ITU-T T.81 B.2.2 and T.87 C.2.2: SOF; C4, C8 and CC are other segments.
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return struct.unpack_from(">HHB", frame, place + 5)
        place += 2 + int.from_bytes(frame[place + 2 : place + 4]) if marker != 0xFF else 1
    return None


def _padding_mask(dataset: pydicom.Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Pixels outside the exposed image (PS3.3 C.7.5.1.1.2), or None."""
    if "PixelPaddingValue" not in dataset:
        return None
    low = int(dataset.PixelPaddingValue)
    high = int(dataset.get("PixelPaddingRangeLimit", low))
    mask = (stored >= min(low, high)) & (stored <= max(low, high))
    return mask if mask.any() and not mask.all() else None


def _has_voi(dataset: pydicom.Dataset) -> bool:
    return bool(dataset.get("VOILUTSequence")) or dataset.get("WindowWidth") not in (
        None,
        "",
    )


def _to_unit_range(values: np.ndarray, inside: np.ndarray | None, windowed: bool) -> np.ndarray:
    sample = values if inside is None else values[inside]
    low, high = (sample.min(), sample.max()) if windowed else np.percentile(sample, DISPLAY_PERCENTILES)
    if high <= low:
        low, high = sample.min(), sample.max()
    if not np.isfinite(high - low) or high <= low:
        raise ImageError("Every pixel of the image has the same value.", "blank-image")
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def _decode_picture(data: bytes) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large sizes, which are checked here, and odd palettes and chunks
            opened = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
            _require_reasonable_size(opened.height, opened.width)
            picture = ImageOps.exif_transpose(opened)
            if not picture.mode.startswith("I"):
                picture = picture.convert("L")
    except UnidentifiedImageError:
        raise ImageError("Expected a DICOM, JPEG or PNG file; the content is none of them.") from None
    except Image.DecompressionBombError as error:
        raise ImageError(str(error), "too-many-pixels") from error
    except ImageError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and zlib errors
        raise ImageError(f"The picture cannot be decoded: {error}.", "truncated") from error
    if picture.mode.startswith("I"):  # 16-bit PNG: raw detector values, stretched as in DICOM without a window
        return _to_unit_range(np.asarray(picture).astype(np.float32), None, windowed=False)
    pixels = np.asarray(picture, dtype=np.float32) / 255
    if pixels.min() == pixels.max():
        raise ImageError("Every pixel of the image has the same value.", "blank-image")
    return pixels


def _require_reasonable_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ImageError(f"The image says it is {width} x {height} px.", "undecodable")
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"{width} x {height} px is over the limit of {MAX_PIXELS} px.",
            "too-many-pixels",
        )
