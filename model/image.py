"""Radiograph files to normalised arrays: the one image pipeline of training, embedding and serving.

A file becomes a ``Radiograph`` (display values in 0..1, dense tissue bright), and a ``Radiograph`` becomes
encoder input through an ``ImageTransform`` whose constants travel with the checkpoint.
"""

import io
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image, ImageOps, UnidentifiedImageError

from .dicom_pixels import decode_dicom, read_dicom
from .dicom_reduced import decode_reduced
from .errors import ImageError
from .pixels import MAX_PIXELS, Box, Extent, Picture, require_reasonable_size, stretch

__all__ = [
    "MAX_PIXELS",
    "PIPELINE_VERSION",
    "ImageTransform",
    "Picture",
    "Prepared",
    "Radiograph",
    "decode_dicom",
    "picture_for",
    "prepare_radiograph",
    "read_dicom",
    "read_radiograph",
]

# Part of every model fingerprint. Raise it when decoding, placing or the choice of report text changes what an encoder
# sees: embeddings made before are then stale.
PIPELINE_VERSION = 1

# A reduced picture has to be that much larger than what the transform makes of it: then the transform, not the
# wavelet's softer filter, decides what is seen.
REDUCED_MARGIN = 1.5

_COLOUR_SIDE = 64  # px: of the picture whose colours are looked at
_COLOURED = 0.06  # of the range of a channel: more than the compression of a tinted film leaves


@dataclass(frozen=True)
class Radiograph:
    """One decoded image.

    pixels: float32 (height, width), 0..1, MONOCHROME2 sense (dense tissue bright).
    dataset: the DICOM header without pixel data; ``None`` for JPEG and PNG.
    colour: the share of the picture, 0..1, whose colour a tint of the whole does not explain; 0 for grey and DICOM.
    """

    pixels: np.ndarray
    dataset: pydicom.Dataset | None = None
    colour: float = 0.0


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

    def seen(self, height: int, width: int) -> Box:
        """What of an original of that size, in its px, the crop shows."""
        rows, columns, top, left = self.geometry(height, width)
        y, x = height / rows, width / columns  # px of the original in one of the resized picture
        return Box(top * y, left * x, (top + self.crop) * y, (left + self.crop) * x)

    def place(self, pixels: np.ndarray, extent: Extent | None = None) -> np.ndarray:
        """Resize and crop: (height, width) in 0..1 to (crop, crop) float32 in 0..1.

        extent: where ``pixels`` lie on the whole picture; None where they are the whole.
        """
        # Only the crop is computed: a strip of one pixel's height would be resized to billions of pixels.
        seen = self.seen(*(pixels.shape if extent is None else (extent.height, extent.width)))
        box = (seen.left, seen.top, seen.right, seen.bottom)
        if extent is not None:
            pixels, box = _within(pixels, extent, box)
        picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
        square = picture.resize((self.crop, self.crop), Image.Resampling.BICUBIC, box)
        return np.clip(np.asarray(square), 0, 1)  # bicubic overshoots at edges

    def __call__(self, pixels: np.ndarray, extent: Extent | None = None) -> np.ndarray:
        """Encoder input: (height, width) in 0..1 to (crop, crop) float32, zero mean and unit variance."""
        return ((self.place(pixels, extent) - self.mean) / self.std).astype(np.float32)


@dataclass(frozen=True)
class Prepared:
    """pixels: encoder input, float32 (crop, crop); dataset: as of a ``Radiograph``."""

    pixels: np.ndarray
    dataset: pydicom.Dataset | None = None


def prepare_radiograph(source: bytes | Path, transform: ImageTransform) -> Prepared:
    """A file to encoder input: ``transform`` of its ``read_radiograph``, sooner where the file holds a smaller picture.

    Raises ImageError, see ``read_radiograph``.
    """
    data = source.read_bytes() if isinstance(source, Path) else source
    if data[128:132] != b"DICM":
        return Prepared(transform(read_radiograph(data).pixels))
    dataset = read_dicom(data)
    picture = picture_for(dataset, transform)
    if "PixelData" in dataset:
        del dataset.PixelData
    return Prepared(transform(picture.pixels, picture.extent), dataset)


def picture_for(dataset: pydicom.Dataset, transform: ImageTransform) -> Picture:
    """The display values that ``transform`` needs: of the whole picture, or of a smaller one in the file.

    Encoder input is ``transform(picture.pixels, picture.extent)``. Raises ImageError, see ``read_radiograph``.
    """
    reduced = decode_reduced(dataset, math.ceil(REDUCED_MARGIN * transform.resize))
    return Picture(decode_dicom(dataset)) if reduced is None else reduced


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
    return _decode_picture(data)


def _decode_picture(data: bytes) -> Radiograph:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large sizes, which are checked here, and odd palettes and chunks
            opened = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
            require_reasonable_size(opened.height, opened.width)
            picture = ImageOps.exif_transpose(opened)
            colour = _colour(picture)
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
        return Radiograph(stretch(np.asarray(picture).astype(np.float32)))
    pixels = np.asarray(picture, dtype=np.float32) / 255
    if pixels.min() == pixels.max():
        raise ImageError("Every pixel of the image has the same value.", "blank-image")
    return Radiograph(pixels, colour=colour)


def _colour(picture: Image.Image) -> float:
    if picture.mode in ("1", "L", "LA") or picture.mode.startswith("I"):
        return 0.0
    side = (_COLOUR_SIDE, _COLOUR_SIDE)
    if picture.mode != "RGB":
        picture = picture.resize(side, Image.Resampling.NEAREST)  # a large one is not to be converted whole
    coarse = picture.convert("RGB").resize(side, Image.Resampling.BOX)
    red, green, blue = (np.asarray(coarse, dtype=np.float64) / 255).reshape(-1, 3).T
    light = np.stack([np.ones_like(green), green, green * green], axis=1)  # a tint bends with the light, no more
    apart = np.stack([red - green, blue - green], axis=1)
    left = _residual(light, apart, np.ones(len(light), bool))
    left = _residual(light, apart, left <= np.quantile(left, 0.8))  # again, without what marks there may be
    return float((left > _COLOURED).mean())


def _residual(light: np.ndarray, apart: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    return np.abs(apart - light @ np.linalg.lstsq(light[fitted], apart[fitted])[0]).max(axis=1)


def _within(
    pixels: np.ndarray, extent: Extent, box: tuple[float, float, float, float]
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """A reduced picture with a border of its edge's values, and ``box``, in px of the whole, in px of that.

    The border: the outermost samples may lie up to half a step inside the whole picture's edge.
    """
    rows, columns = pixels.shape
    y, x = rows / (extent.bottom - extent.top), columns / (extent.right - extent.left)
    left, top, right, bottom = box
    inner = (left - extent.left) * x, (top - extent.top) * y, (right - extent.left) * x, (bottom - extent.top) * y
    return np.pad(pixels, 1, mode="edge"), (inner[0] + 1, inner[1] + 1, inner[2] + 1, inner[3] + 1)
