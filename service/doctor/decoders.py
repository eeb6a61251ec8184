"""Every transfer syntax that studies may have: one small picture in each, decoded as the service does, in a process
that may crash.

``frames.json`` has it in the encodings: 32 x 32, 12 bits, a ramp to either side; of 8 bits in JPEG Baseline. Those that
no encoder among the dependencies makes were written by imagecodecs 2026.
"""

import base64
import io
import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Final

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from index import DecoderPool
from model.dicom_pixels import read_dicom

from .finding import Finding, fail, ok
from .installation import Installation

__all__ = ["SYNTAXES", "check_decoders", "decoded_difference"]

FRAMES: Final[dict[str, str]] = json.loads(files(__package__).joinpath("frames.json").read_text())
PLAIN: Final = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
SYNTAXES: Final = (*PLAIN, *map(UID, FRAMES))
SIDE: Final = 32
STEP: Final = 66  # 2 * 31 * 66 is just within 12 bits
LOSSY: Final = 2  # of 4095 or 255: the most that a lossy encoding of this picture changes
SECONDS: Final = 60.0
REMEDY: Final = (
    "Install the decoders of the release again: pip install -c constraints.txt . ; then: alta ingest --retry-refused"
)


def check_decoders(installation: Installation) -> Iterator[Finding]:
    pool = DecoderPool(1, seconds=SECONDS)
    whole = 0
    try:
        for syntax in SYNTAXES:
            try:
                difference = pool(decoded_difference, str(syntax))
            except Exception as error:  # every decoder has its own kinds
                yield fail("decoders", f"{syntax.name}: {error}", REMEDY)
                continue
            if difference > LOSSY:
                yield fail("decoders", f"{syntax.name}: decoded to other pixels, by {difference}", REMEDY)
            else:
                whole += 1
    finally:
        pool.close()
    if whole == len(SYNTAXES):
        yield ok("decoders", f"all {whole} transfer syntaxes are decoded")


def decoded_difference(syntax: str) -> int:
    """The largest difference of a decoded pixel from what was encoded. Raises what the decoder does."""
    bits = 8 if syntax == JPEGBaseline8Bit else 16
    ramp = np.add.outer(np.arange(SIDE), np.arange(SIDE)) * STEP >> (4 if bits == 8 else 0)
    found = read_dicom(_file(UID(syntax), ramp, bits)).pixel_array
    return int(np.abs(found.astype(np.int64) - ramp).max())


def _file(syntax: UID, ramp: np.ndarray, bits: int) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    dataset.Rows = dataset.Columns = SIDE
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, min(bits, 12), min(bits, 12) - 1
    dataset.SamplesPerPixel, dataset.PixelRepresentation, dataset.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    if syntax in PLAIN:
        dataset.PixelData = ramp.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
        dataset["PixelData"].VR = "OW"
    else:
        dataset.PixelData = encapsulate([base64.b64decode(FRAMES[syntax])])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
