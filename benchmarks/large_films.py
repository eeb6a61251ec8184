"""Films of the size that detectors give, made of smaller pictures: what the benchmarks of decoding read.

A simulated film is rendered at 640 px, a real picture is as it comes; both are enlarged to 2,048 px of shorter side
and given noise of their own in every pixel, so that a lossless codestream is as large as a detector's (4.6 MB).
"""

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import JPEG2000, ExplicitVRLittleEndian, JPEG2000Lossless

__all__ = ["ENCODINGS", "encoded", "enlarged", "film", "real_pictures"]

ENCODINGS = {"uncompressed": ExplicitVRLittleEndian, "j2k-lossless": JPEG2000Lossless, "j2k-lossy": JPEG2000}
LOSSY_RATIO = 12
SHORTER = 2048
TOP = 4095  # 12 bits
NOISE = 0.006


def enlarged(picture: np.ndarray, longer: int | None = None, seed: int = 0) -> np.ndarray:
    """float32 in 0..1 with a shorter side of 2,048 px; ``longer``: of the other side, where not the picture's own."""
    scale = SHORTER / min(picture.shape)
    rows, columns = (round(side * scale) for side in picture.shape)
    if longer is not None:
        rows, columns = longer, SHORTER
    large = np.asarray(Image.fromarray(picture.astype(np.float32)).resize((columns, rows), Image.Resampling.BICUBIC))
    noise = np.random.default_rng(seed).standard_normal(large.shape, dtype=np.float32)
    return np.clip(large + np.float32(NOISE) * noise, 0, 1)


def film(picture: np.ndarray, windowed: bool, inverted: bool = False, **tags: object) -> Dataset:
    """An uncompressed CR image of a picture in 0..1, 12 bits; ``windowed``: with a window in its header."""
    stored = np.rint(120 + picture * 3600).astype(np.uint16)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "CR", "CHEST", "PA"
    dataset.PatientOrientation = ["L", "F"]
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    if windowed:
        dataset.WindowCenter, dataset.WindowWidth = 2047, 3700
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    if "SOPInstanceUID" in dataset:
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PixelData = (TOP - stored if inverted else stored).astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def encoded(dataset: Dataset, encoding: str) -> Dataset:
    """A copy in one of ``ENCODINGS``."""
    made = copy.deepcopy(dataset)
    if encoding == "j2k-lossy":
        made.compress(JPEG2000, j2k_cr=[LOSSY_RATIO], generate_instance_uid=False)
    elif encoding != "uncompressed":
        made.compress(ENCODINGS[encoding], generate_instance_uid=False)
    return made


def real_pictures(folder: Path, count: int) -> Iterator[np.ndarray]:
    """``count`` of the JPEG files below a folder, evenly taken, in 0..1."""
    files = sorted(folder.rglob("*.jpg"))
    for path in files[:: max(1, len(files) // count)][:count]:
        yield np.asarray(Image.open(path).convert("L"), dtype=np.float32) / 255


def real_films(folder: Path) -> Iterator[tuple[str, pydicom.Dataset]]:
    """The JPEG 2000 DICOM files of a folder, by name."""
    for path in sorted(folder.glob("*j2k*.dcm")):
        yield path.stem, pydicom.dcmread(path)
