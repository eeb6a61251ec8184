"""Files to send to the service, and an archive to be made of them."""

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from index import embed_pending, ingest_folder, open_catalog
from service.app import create_app
from service.settings import Settings
from tests.fakes import FakeEncoder

SIDE = 96


def pattern(cell: int) -> np.ndarray:
    """uint16 (SIDE, SIDE): a gentle ramp with one bright cell of a 4 x 4 grid, so that studies differ."""
    pixels = np.linspace(200, 900, SIDE * SIDE).reshape(SIDE, SIDE)
    row, column = divmod(cell % 16, 4)
    step = SIDE // 4
    pixels[row * step : (row + 1) * step, column * step : (column + 1) * step] += 2500
    return pixels.astype(np.uint16)


@dataclass(frozen=True)
class Film:
    """One DICOM file to make."""

    study: str
    cell: int
    patient: str = "P1"
    view: str | None = "PA"
    date: str = "20200101"
    modality: str = "DX"
    sex: str = "F"
    age: str = "050Y"
    body_part: str = "CHEST"
    name: str = "Secret^Patient"
    extra: dict[str, object] = field(default_factory=dict)

    def dicom(self) -> bytes:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
        meta.MediaStorageSOPInstanceUID = f"{self.study}.{self.cell}.{len(self.view or '')}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        dataset.SOPClassUID = meta.MediaStorageSOPClassUID
        dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID = self.study
        dataset.SeriesInstanceUID = f"{self.study}.9"
        dataset.AccessionNumber = f"A{self.study.rsplit('.', 1)[1]}"
        dataset.PatientID, dataset.PatientName = self.patient, self.name
        dataset.PatientSex, dataset.PatientAge = self.sex, self.age
        dataset.StudyDate, dataset.StudyTime, dataset.Modality = self.date, "120000", self.modality
        dataset.BodyPartExamined = self.body_part
        if self.view:
            dataset.ViewPosition = self.view
        pixels = pattern(self.cell)
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.PixelData = pixels.tobytes()
        for keyword, value in self.extra.items():
            setattr(dataset, keyword, value)
        stream = io.BytesIO()
        dataset.save_as(stream, enforce_file_format=True)
        return stream.getvalue()


A1, A2, B1, C1 = "1.2.3.1", "1.2.3.2", "1.2.3.3", "1.2.3.4"

FILMS = (
    Film(A1, 0, date="20200101", age="050Y"),
    Film(A2, 5, date="20210601", age="051Y"),
    Film(A2, 6, view="LL", date="20210601", age="051Y"),
    Film(B1, 10, patient="P2", view="AP", modality="CR", sex="M", age="070Y", date="20220101"),
    Film(C1, 15, patient="P3", sex="F", age="030Y", date="20230101"),
)

REPORTS = {
    A1: "Right upper lobe opacity.",
    A2: "Small left pleural effusion.",
    B1: "Cardiomegaly. Pacemaker in place.",
}


def png(cell: int = 3) -> bytes:
    stream = io.BytesIO()
    Image.fromarray((pattern(cell) // 16).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def jpeg(cell: int = 3) -> bytes:
    stream = io.BytesIO()
    Image.fromarray((pattern(cell) // 16).astype(np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def form(*files: bytes, field: str = "files") -> list[tuple[str, tuple[str, bytes]]]:
    """The files of a multipart request, under names that must never come back."""
    return [(field, (f"secret-name-{number}.dcm", data)) for number, data in enumerate(files)]


def write_archive(folder: Path) -> None:
    for number, film in enumerate(FILMS):
        (folder / f"{number}.dcm").write_bytes(film.dicom())
    with (folder / "reports.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("study_instance_uid", "indication", "comparison", "findings", "impression"))
        writer.writerows((uid, "Cough.", "None.", text, "") for uid, text in REPORTS.items())


def take_in(settings: Settings, source: Path) -> None:
    """Ingest a folder and its ``reports.csv``, and embed what is new."""
    catalog = open_catalog(settings.catalog_url)
    ingest_folder(catalog, source, source / "reports.csv", workers=0)
    embed_pending(catalog, FakeEncoder())
    catalog.close()


def settings_for(folder: Path, **changes: object) -> Settings:
    # The films here are patterns, no chests.
    return Settings(**{"data_dir": folder, "decode_workers": 0, "check_images": False, **changes})


def serve(settings: Settings, encoder: FakeEncoder | None = None) -> TestClient:
    app = create_app(settings, encoder=encoder or FakeEncoder())
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
