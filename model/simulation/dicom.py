"""Simulated studies as DICOM files: CR and DX, both photometric interpretations, several transfer syntaxes."""

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from .canvas import Field
from .rendering import render
from .study import SimulatedStudy, View

__all__ = ["dicom_paths", "write_dicom"]

_CR_STORAGE = UID("1.2.840.10008.5.1.4.1.1.1")
_DX_STORAGE = UID("1.2.840.10008.5.1.4.1.1.1.1")
_FIELD_OF_VIEW = 400.0  # mm
_TOP = 4095  # 12 bits stored


def dicom_paths(study: SimulatedStudy, folder: Path) -> list[Path]:
    """The files `write_dicom` writes, one a view: folder/patient_id/study_instance_uid/sop_instance_uid.dcm."""
    home = folder / study.patient_id / study.study_instance_uid
    return [home / f"{_uid(study, view, 'instance')}.dcm" for view in study.views]


def write_dicom(study: SimulatedStudy, folder: Path, size: int = 512) -> list[Path]:
    """Writes one DICOM file a view, `size` x `size` pixels of 12 bits, at `dicom_paths`, which it returns.

    Modality, photometric interpretation, transfer syntax and VOI window vary by study. Each file appears whole or not
    at all; existing ones are replaced.
    """
    paths = dicom_paths(study, folder)
    for view, path in zip(study.views, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        _dataset(study, view, size).save_as(partial, enforce_file_format=True)
        os.replace(partial, path)
    return paths


def _uid(study: SimulatedStudy, *parts: str) -> UID:
    digest = hashlib.sha256(":".join((study.study_instance_uid, *parts)).encode()).hexdigest()
    return UID(f"2.25.{int(digest[:32], 16)}")


def _dataset(study: SimulatedStudy, view: View, size: int) -> Dataset:
    # All files of a study come from one device, so its habits are drawn per study.
    rng = np.random.default_rng([int(study.study_instance_uid[5:]) % 2**63, 12])
    digital, inverted, windowed = (
        rng.random() < 0.6,
        rng.random() < 0.3,
        rng.random() < 0.4,
    )
    syntax = (ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless)[int(rng.choice(3, p=(0.76, 0.12, 0.12)))]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = UID("2.25.302043790172249692526321623266752743501")
    dataset.file_meta.ImplementationVersionName = "ALTA_SIMULATION"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = _DX_STORAGE if digital else _CR_STORAGE
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = _uid(study, view, "instance")
    _identify(dataset, study, view, digital)
    _describe(dataset, study, view, digital, size)
    dataset.LossyImageCompression = "00"
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    if digital:
        dataset.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    low, high = (int(rng.integers(100, 500)), int(rng.integers(3000, 4000))) if windowed else (0, _TOP)
    pixels = _stored(render(study, view, size), low, high)
    if inverted:
        pixels, low, high = np.uint16(_TOP) - pixels, _TOP - high, _TOP - low
    if windowed:
        # PS3.3 C.11.2.1.2.1: these map low to black and high to white exactly.
        dataset.WindowCenter, dataset.WindowWidth = (
            (low + high) / 2 + 0.5,
            high - low + 1,
        )
    dataset.PixelData = pixels.astype("<u2").tobytes()
    if syntax != ExplicitVRLittleEndian:
        dataset.compress(syntax, generate_instance_uid=False)
    return dataset


def _stored(picture: Field, low: int, high: int) -> NDArray[np.uint16]:
    return np.rint(low + picture.astype(np.float64) * (high - low)).astype(np.uint16)


def _identify(dataset: Dataset, study: SimulatedStudy, view: View, digital: bool) -> None:
    day = study.study_date.strftime("%Y%m%d")
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = f"SIM^{study.patient_id}"
    dataset.PatientID = study.patient_id
    dataset.PatientBirthDate = ""
    dataset.PatientSex = study.sex
    dataset.PatientAge = f"{study.age:03d}Y"
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Simulated"
    dataset.StudyInstanceUID = study.study_instance_uid
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = day
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "120000"
    dataset.StudyID = study.accession_number[:8]
    dataset.AccessionNumber = study.accession_number
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "XR CHEST 2 VIEWS" if study.has_lateral else "XR CHEST 1 VIEW"
    dataset.SeriesInstanceUID = _uid(study, view, "series")
    dataset.SeriesNumber = 1 if view == "frontal" else 2
    dataset.InstanceNumber = 1
    dataset.Modality = "DX" if digital else "CR"
    dataset.Manufacturer = "Simulated"
    dataset.ManufacturerModelName = "ALTA simulation"
    dataset.DeviceSerialNumber = "1"
    dataset.SoftwareVersions = "1"


def _describe(dataset: Dataset, study: SimulatedStudy, view: View, digital: bool, size: int) -> None:
    spacing = round(_FIELD_OF_VIEW / size, 6)
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = study.frontal_view if view == "frontal" else "LL"
    dataset.PatientOrientation = ["L", "F"] if view == "frontal" else ["P", "F"]
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.BurnedInAnnotation = "NO"
    dataset.ImagerPixelSpacing = [spacing, spacing]
    dataset.SamplesPerPixel = 1
    dataset.Rows = dataset.Columns = size
    (
        dataset.BitsAllocated,
        dataset.BitsStored,
        dataset.HighBit,
        dataset.PixelRepresentation,
    ) = 16, 12, 11, 0
    if not digital:
        return
    # PS3.3 A.26: what a DX image states beyond a CR one.
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ImageLaterality = "U"
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = 1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.DetectorType = "DIRECT"
    dataset.AcquisitionContextSequence = []
    dataset.AnatomicRegionSequence = [_code("51185008", "SCT", "Chest")]
    # PS3.16 CID 4010
    codes = {
        "PA": ("272479007", "postero-anterior"),
        "AP": ("399348003", "antero-posterior"),
        "LL": ("399173006", "left lateral"),
    }
    value, meaning = codes[dataset.ViewPosition]
    dataset.ViewCodeSequence = [_code(value, "SCT", meaning)]


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = (
        value,
        scheme,
        meaning,
    )
    return code
