"""Whole files for the fuzzer to break: simulated radiographs in every transfer syntax, and the real ones when there."""

import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from model.simulation.cohort import simulate_studies
from model.simulation.dicom import write_dicom
from tests.conftest import chest_dataset

__all__ = ["as_bytes", "pictures", "real_files", "simulated_files"]

CODESTREAMS = Path(__file__).parent / "data" / "fuzz"
FROM_ELSEWHERE = {
    HTJ2KLossless: "htj2k_lossless.j2c",
    JPEGLosslessSV1: "lossless_sv1.jpg",
    JPEGExtended12Bit: "extended_12bit.jpg",
}
MADE_HERE = (RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEG2000)
UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)


def simulated_files(folder: Path, size: int = 96) -> dict[str, bytes]:
    """Accepted by the archive, but for the deflated one; ``folder`` is where they are simulated."""
    study = next(study for study, _ in simulate_studies(seed=5, count=1))
    original = pydicom.dcmread(write_dicom(study, folder, size)[0])
    if original.file_meta.TransferSyntaxUID.is_compressed:
        original.decompress(generate_instance_uid=False)
    found = {}
    for syntax in UNCOMPRESSED:
        found[syntax.name] = as_bytes(_with_syntax(original, syntax))
    for syntax in MADE_HERE:
        dataset = _with_syntax(original, ExplicitVRLittleEndian)
        options = {"j2k_cr": [20]} if syntax == JPEG2000 else {}
        dataset.WindowCenter, dataset.WindowWidth = 2000, 3000  # JPEG 2000 with a window is decoded at half its size
        dataset.compress(syntax, generate_instance_uid=False, **options)
        found[syntax.name] = as_bytes(dataset)
    for syntax, name in FROM_ELSEWHERE.items():
        found[syntax.name] = _encapsulated(syntax, (CODESTREAMS / name).read_bytes())
    eight_bits = (original.pixel_array >> 4).astype(np.uint8)
    found[JPEGBaseline8Bit.name] = _encapsulated(JPEGBaseline8Bit, _picture(eight_bits, "JPEG"), bits=8, size=size)
    found[ExplicitVRBigEndian.name] = _big_endian()
    found["lookup tables"] = as_bytes(_with_tables(_with_syntax(original, ExplicitVRLittleEndian)))
    return found


def pictures(size: int = 96) -> dict[str, bytes]:
    pixels = np.add.outer(np.arange(size), np.arange(size)).astype(np.uint16)
    return {
        "JPEG": _picture(pixels.astype(np.uint8), "JPEG"),
        "PNG": _picture(pixels.astype(np.uint8), "PNG"),
        "PNG of 16 bits": _picture(pixels * 300, "PNG"),
    }


def real_files(folder: Path, largest: int) -> dict[str, bytes]:
    """As they are; and those that can be, with a header under which the archive decodes their pixels."""
    found = {}
    for path in sorted(folder.glob("*.dcm")):
        data = path.read_bytes()
        if len(data) > largest:
            continue
        found[path.name] = data
        try:
            dataset = pydicom.dcmread(io.BytesIO(data))
            dataset.Modality, dataset.BodyPartExamined = "CR", "CHEST"
            found[f"{path.name} as a chest"] = as_bytes(dataset)
        except Exception:  # the broken ones, as they came
            continue
    return found


def _with_syntax(original: Dataset, syntax: UID) -> Dataset:
    stream = io.BytesIO()
    original.save_as(stream, enforce_file_format=True)
    dataset = pydicom.dcmread(io.BytesIO(stream.getvalue()))
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def _encapsulated(syntax: UID, codestream: bytes, bits: int = 16, size: int | None = None) -> bytes:
    shape = {"Rows": size, "Columns": size} if size else {}
    stored = {"BitsAllocated": bits, "BitsStored": min(bits, 12), "HighBit": min(bits, 12) - 1}
    dataset = chest_dataset(PixelData=encapsulate([codestream]), **shape, **stored)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return as_bytes(dataset)


def _big_endian() -> bytes:
    dataset = chest_dataset()
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    return as_bytes(dataset)


def _with_tables(dataset: Dataset) -> Dataset:
    for keyword, entries in (("ModalityLUTSequence", 4096), ("VOILUTSequence", 256)):
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [entries, 0, 16])
        item.add_new("LUTData", "US", list(range(entries)))
        item.add_new("ModalityLUTType", "LO", "US")
        setattr(dataset, keyword, [item])
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = [2000, 1000], [3000, 500], "SIGMOID"
    dataset.add_new("PixelPaddingValue", "US", 0)
    return dataset


def _picture(pixels: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def as_bytes(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd headers of real files
        dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
