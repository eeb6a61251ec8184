"""JPEG 2000 radiographs at a fraction of their resolution: what an encoder needs, for a tenth of the work.

A wavelet codestream holds the picture at half, quarter, ... of its size. An encoder sees hardly a difference
(``benchmarks.reduced_decoding``: cosines over 0.9999) as long as two things hold: the header's own window decides the
display values, because the central share of the values is another in a smoothed picture; and the smaller picture's
samples are put where they lie. Everything else is left to the whole decoding, refusals first of all.
"""

import io
import struct
import warnings
from dataclasses import dataclass

import numpy as np
import pydicom
from PIL import Image
from pydicom.uid import JPEG2000, JPEG2000Lossless

from .dicom_display import mirrored, upright, windowed_values
from .pixels import MAX_PIXELS, Extent, Picture

__all__ = ["decode_reduced"]


@dataclass(frozen=True)
class _Codestream:
    rows: int
    columns: int
    bits: int
    levels: int  # of the wavelet transform: each halves the picture


def decode_reduced(dataset: pydicom.Dataset, least: int) -> Picture | None:
    """The smallest picture in the file whose shorter side has ``least`` px.

    None where that is the whole one, or where anything but a plain, complete codestream and a window of its own is
    found: ``decode_dicom`` gives the picture, or says why there is none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(dataset, least)
    except Exception:  # whatever is wrong with the file, the whole decoding names it
        return None


def _decode(dataset: pydicom.Dataset, least: int) -> Picture | None:
    if dataset.file_meta.TransferSyntaxUID not in (JPEG2000Lossless, JPEG2000) or not _is_plain(dataset):
        return None
    frame = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
    found = _read_header(frame)
    if found is None or (found.rows, found.columns, found.bits) != (dataset.Rows, dataset.Columns, dataset.BitsStored):
        return None
    halvings = min(found.levels, (min(found.rows, found.columns) // least).bit_length() - 1)
    if halvings < 1:
        return None
    values = windowed_values(dataset, _decode_frame(frame, found, halvings))
    if values is None:
        return None
    rows, columns = values.shape
    extent = _extent(found, halvings, rows, columns).mirrored(*mirrored(dataset))
    return Picture(upright(dataset, values), extent)


def _is_plain(dataset: pydicom.Dataset) -> bool:
    return (
        dataset.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2")
        and dataset.SamplesPerPixel == 1
        and dataset.PixelRepresentation == 0
        and int(dataset.get("NumberOfFrames") or 1) == 1
        and dataset.Rows * dataset.Columns <= MAX_PIXELS
        and "PixelPaddingValue" not in dataset  # whose border the wavelet blurs
    )


def _extent(found: _Codestream, halvings: int, rows: int, columns: int) -> Extent:
    # ISO/IEC 15444-1 F.3: the low-pass samples lie on the even ones, so pixel 0 stays centred on pixel 0.
    step = 2**halvings
    start = 0.5 - step / 2
    return Extent(found.rows, found.columns, start, start, start + step * rows, start + step * columns)


def _decode_frame(frame: bytes, found: _Codestream, halvings: int) -> np.ndarray:
    """Stored values of the picture halved so many times."""
    size = tuple(-(-side // 2**halvings) for side in (found.columns, found.rows))
    picture = Image.open(io.BytesIO(frame), formats=("JPEG2000",))
    # Pillow's own ``reduce`` rounds sizes that the standard rounds up, and then finds the stream broken.
    picture._size = size
    tile = picture.tile[0]
    arguments = ("j2k", halvings, 0, -1, len(frame))
    picture.tile = [tile._replace(extents=(0, 0, *size), args=arguments)]
    values = np.asarray(picture)
    return values >> (values.itemsize * 8 - found.bits)  # Pillow fills 8 or 16 bits


def _read_header(frame: bytes) -> _Codestream | None:
    """What the main header says. None if there is more than one component or tile, or the stream is incomplete."""
    if frame[:4] != b"\xff\x4f\xff\x51":  # ISO/IEC 15444-1 A.5.1: SOC, SIZ
        return None
    columns, rows, left, top, tile_columns, tile_rows, tile_left, tile_top, components, depth, dx, dy = (
        struct.unpack_from(">8IH3B", frame, 8)
    )
    one_tile = tile_columns >= columns and tile_rows >= rows and not (left or top or tile_left or tile_top)
    if not one_tile or (components, dx, dy) != (1, 1, 1) or depth >= 16:  # a higher depth: signed, or over 16 bits
        return None
    levels = 0
    place = 2
    while (marker := frame[place : place + 2]) != b"\xff\x90":  # A.4.2: SOT ends the main header
        if len(marker) < 2 or marker[0] != 0xFF:
            return None
        if marker == b"\xff\x52":  # A.6.1: COD
            levels = frame[place + 9]
        place += 2 + struct.unpack_from(">H", frame, place + 2)[0]
    return _Codestream(rows, columns, depth + 1, levels) if _is_complete(frame, place) else None


def _is_complete(frame: bytes, place: int) -> bool:
    """Whether tile-parts follow one another from ``place`` to the end of the codestream (A.4.2, A.4.4)."""
    while frame[place : place + 2] == b"\xff\x90":
        length = struct.unpack_from(">I", frame, place + 6)[0]
        if length == 0:  # the last one, of unknown length
            return frame.rstrip(b"\0").endswith(b"\xff\xd9")
        if length < 14:
            return False
        place += length
    return frame[place : place + 2] == b"\xff\xd9"
