"""DICOM files to stored pixel values, with a hostile file in mind at every step."""

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import JPEG2000TransferSyntaxes, RLELossless

from .dicom_display import display_values
from .errors import ImageError
from .pixels import require_reasonable_size

__all__ = ["decode_dicom", "read_dicom", "refuse_deflated"]

DEFLATED = b"1.2.840.10008.1.2.1.99"  # Deflated Explicit VR Little Endian, PS3.5 A.5
META_BYTES = 65536  # where the transfer syntax stands, with room to spare


def read_dicom(source: bytes | Path, header_only: bool = False) -> pydicom.Dataset:
    """Parse a DICOM file (PS3.10: preamble and file meta information are required).

    Raises ImageError: not-dicom, truncated, no-transfer-syntax, unsupported-transfer-syntax (``refuse_deflated``).
    """
    refuse_deflated(source)
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values in headers that are not needed
            dataset = pydicom.dcmread(stream, stop_before_pixels=header_only)
    except pydicom.errors.InvalidDicomError:
        raise ImageError("Expected a DICOM file; found no DICM prefix at byte 128.", "not-dicom") from None
    except OSError as error:
        if error.errno is not None:  # the disk's, not the parser's
            raise
        raise ImageError(f"The DICOM file ends early: {error}.", "truncated") from error
    except MemoryError as error:
        raise ImageError("There is not enough memory to read the file.", "too-much-memory") from error
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

    See ``dicom_display`` for what is applied. Raises ImageError, see ``image.read_radiograph``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _require_single_grey_frame(dataset)
            return display_values(dataset, _decode_stored(dataset))
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("There is not enough memory to decode the image.", "too-much-memory") from error
    except Exception as error:  # a hostile header can break any step
        raise ImageError(f"The image cannot be displayed: {error}.", "undecodable") from error


def refuse_deflated(source: bytes | Path) -> None:
    """Raises ImageError unsupported-transfer-syntax: the parser would inflate the whole file, without a limit, even
    where only its header is asked for."""
    if isinstance(source, Path):
        with source.open("rb") as stream:
            start = stream.read(META_BYTES)
    else:
        start = source[:META_BYTES]
    if start[128:132] == b"DICM" and DEFLATED in start:
        message = "Expected a transfer syntax that is not deflated; convert the file to Explicit VR Little Endian."
        raise ImageError(message, "unsupported-transfer-syntax")


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
    require_reasonable_size(int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0))


def _decode_stored(dataset: pydicom.Dataset) -> np.ndarray:
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        if syntax.is_compressed:
            _require_honest_codestream(dataset)
        stored = dataset.pixel_array
        if stored.shape != (dataset.Rows, dataset.Columns):  # more data than pixels may be taken for several frames
            message = f"Expected {dataset.Rows} x {dataset.Columns} pixels as in the header, found {stored.shape}."
            raise ImageError(message, "undecodable")
        return stored
    except (ImageError, MemoryError):
        raise
    except NotImplementedError as error:  # pydicom's answer for a syntax that it has no decoder for
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
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == RLELossless:  # has no header of its own, and its bytes may look like one
        return
    frame = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
    size = _jpeg_2000_size(frame) if syntax in JPEG2000TransferSyntaxes else _jpeg_size(frame)
    if size and (size[0] > dataset.Rows or size[1] > dataset.Columns or size[2] != 1):
        raise ImageError(
            f"Expected {dataset.Rows} rows, {dataset.Columns} columns and 1 component as in the header; the compressed"
            f" frame has {size[0]}, {size[1]} and {size[2]}.",
            "undecodable",
        )


def _jpeg_2000_size(frame: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, components) of a JPEG 2000 or HTJ2K codestream; None where its header is not found."""
    start = frame.find(b"\xff\x4f\xff\x51")  # ISO/IEC 15444-1 A.5.1: SOC, SIZ
    if start < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
    return bottom - top, right - left, *struct.unpack_from(">H", frame, start + 40)


def _jpeg_size(frame: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, components) of a JPEG or JPEG-LS codestream; None where its header is not found."""
    place = 2
    while frame[place : place + 1] == b"\xff":
        marker = frame[place + 1]
        # ITU-T T.81 B.2.2 and T.87 C.2.2: SOF; C4, C8 and CC are other segments.
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return struct.unpack_from(">HHB", frame, place + 5)
        place += 2 + int.from_bytes(frame[place + 2 : place + 4]) if marker != 0xFF else 1
    return None
