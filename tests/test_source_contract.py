"""Every door keeps the same promises: each study once, changes noticed, refusals said, interruptions made good."""

import csv
import zipfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Protocol

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pynetdicom import AE

from index import (
    Catalog,
    FolderSource,
    IngestSummary,
    ManifestSource,
    Progress,
    ReceivedStore,
    ZipSource,
    embed_pending,
    ingest_received,
    pending_counts,
)
from index.intake.ingest import ingest
from index.listeners.storage_scp import StorageScp
from index.sources.dicomweb import DicomWebSource
from index.sources.dicomweb_http import Origin
from index.sources.dicomweb_peer import DicomWebPeer
from index.sources.pacs import PacsSource
from index.sources.pacs_peer import PacsNode, PacsPeer
from index.tables import Instance, Study
from tests.conftest import chest_dataset
from tests.fakes import FakeEncoder
from tests.peers import Orthanc, file_bytes

FIRST, LAST = date(2024, 3, 1), date(2024, 3, 2)
CUT_SHORT = b"\0\1" * 100  # pixels


class Door(Protocol):
    def put(self, *datasets: Dataset) -> None:
        """What the other side has; an instance that it had under the same UID is replaced."""

    def run(self, catalog: Catalog, progress: Progress | None = None) -> IngestSummary: ...


class FolderDoor:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "archive"
        self.folder.mkdir()

    def put(self, *datasets: Dataset) -> None:
        for dataset in datasets:
            (self.folder / f"{dataset.SOPInstanceUID}.dcm").write_bytes(file_bytes(dataset))

    def run(self, catalog: Catalog, progress: Progress | None = None) -> IngestSummary:
        return ingest(catalog, FolderSource(self.folder), progress=progress, workers=0)


class ManifestDoor(FolderDoor):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rows: dict[str, dict[str, str]] = {}

    def put(self, *datasets: Dataset) -> None:
        super().put(*datasets)
        for dataset in datasets:
            uid = dataset.SOPInstanceUID
            self.rows[uid] = {
                "image_path": f"{uid}.dcm",
                "study_instance_uid": dataset.StudyInstanceUID,
                "sop_instance_uid": uid,
                "patient_id": dataset.PatientID,
            }

    def run(self, catalog: Catalog, progress: Progress | None = None) -> IngestSummary:
        table = self.folder / "table.csv"
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["image_path", "study_instance_uid", "sop_instance_uid", "patient_id"])
            writer.writeheader()
            writer.writerows(self.rows.values())
        return ingest(catalog, ManifestSource(table), progress=progress, workers=0)


class ZipDoor:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "archive.zip"
        self.store = ReceivedStore(folder / "received", min_free_bytes=0)
        self.members: dict[str, bytes] = {}

    def put(self, *datasets: Dataset) -> None:
        self.members |= {str(dataset.SOPInstanceUID): file_bytes(dataset) for dataset in datasets}
        with zipfile.ZipFile(self.path, "w") as archive:
            for name, data in self.members.items():
                archive.writestr(name, data)

    def run(self, catalog: Catalog, progress: Progress | None = None) -> IngestSummary:
        return ingest(catalog, ZipSource(self.path, self.store), progress=progress, workers=0)


class StorageDoor:
    """Objects are sent by C-STORE as they are put."""

    def __init__(self, folder: Path) -> None:
        self.store = ReceivedStore(folder / "received", min_free_bytes=0)
        self.scp = StorageScp(self.store, allowed=["MODALITY"])
        self.port = self.scp.start(port=0)

    def put(self, *datasets: Dataset) -> None:
        entity = AE("MODALITY")
        meta = datasets[0].file_meta
        entity.add_requested_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", self.port, ae_title="ALTA")
        assert [association.send_c_store(dataset).Status for dataset in datasets] == [0] * len(datasets)
        association.release()

    def run(self, catalog: Catalog, progress: Progress | None = None) -> IngestSummary:
        return ingest_received(catalog, self.store, progress=progress, workers=0)

    def close(self) -> None:
        self.scp.stop(patience=5)


class DicomWebDoor:
    def __init__(self, folder: Path, orthanc: Orthanc) -> None:
        self.store = ReceivedStore(folder / "received", min_free_bytes=0)
        self.peer = DicomWebPeer(Origin("orthanc", orthanc.dicomweb_url))
        self.orthanc = orthanc

    def put(self, *datasets: Dataset) -> None:
        self.orthanc.upload(*datasets)

    def run(self, catalog: Catalog, progress: Progress | None = None) -> IngestSummary:
        source = DicomWebSource(catalog, self.peer, self.store, FIRST, LAST, again=True)
        return ingest(catalog, source, progress=progress, workers=0)

    def close(self) -> None:
        self.peer.close()


class PacsDoor:
    def __init__(self, folder: Path, orthanc: Orthanc, use_get: bool) -> None:
        self.store = ReceivedStore(folder / "received", min_free_bytes=0)
        node = PacsNode("127.0.0.1", orthanc.dicom_port, "ORTHANC")
        self.peer = PacsPeer(node, self.store, use_get=use_get)
        self.scp = StorageScp(self.store, allowed=["ORTHANC"], kept=self.peer.received)
        self.orthanc = orthanc
        orthanc.know("ALTA", self.scp.start(port=0))

    def put(self, *datasets: Dataset) -> None:
        self.orthanc.upload(*datasets)

    def run(self, catalog: Catalog, progress: Progress | None = None) -> IngestSummary:
        source = PacsSource(catalog, self.peer, self.store, FIRST, LAST, again=True)
        return ingest(catalog, source, progress=progress, workers=0)

    def close(self) -> None:
        self.peer.close()
        self.scp.stop(patience=5)


DOORS = ["folder", "manifest", "zip", "c-store", "dicomweb", "c-move", "c-get"]


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Door]:
    kind = request.param
    if kind in ("folder", "manifest", "zip"):
        yield {"folder": FolderDoor, "manifest": ManifestDoor, "zip": ZipDoor}[kind](tmp_path)
        return
    if kind == "c-store":
        opened: StorageDoor | DicomWebDoor | PacsDoor = StorageDoor(tmp_path)
    else:
        orthanc = request.getfixturevalue("orthanc")
        opened = DicomWebDoor(tmp_path, orthanc) if kind == "dicomweb" else PacsDoor(tmp_path, orthanc, kind == "c-get")
    yield opened
    opened.close()


def three_studies() -> list[Dataset]:
    return [
        chest_dataset(study="1.2.3.1", seed=1),
        chest_dataset(study="1.2.3.1", seed=2, ViewPosition="LL"),
        chest_dataset(study="1.2.3.2", seed=3, PatientID="P2"),
        chest_dataset(study="1.2.3.3", seed=4, PatientID="P3", StudyDate="20240302"),
    ]


def state(catalog: Catalog) -> list[tuple[object, ...]]:
    """What the archive says of each instance, whatever the path of its file."""
    with catalog.session() as session:
        query = sa.select(
            Instance.sop_instance_uid, Instance.status, Instance.reason, Study.study_instance_uid, Study.image_source
        ).outerjoin(Study)
        return sorted((tuple(row) for row in session.execute(query)), key=repr)


def test_the_first_run_takes_in_and_the_second_changes_nothing(catalog: Catalog, door: Door) -> None:
    door.put(*three_studies())
    first = door.run(catalog)
    assert (first.accepted, first.updated, first.studies_new, first.refused) == (4, 0, 3, {})
    before = state(catalog)
    again = door.run(catalog)
    assert (again.accepted, again.updated, again.studies_new, again.refused) == (0, 0, 0, {})
    assert state(catalog) == before


def test_what_is_new_is_added_to_its_study(catalog: Catalog, door: Door) -> None:
    door.put(*three_studies()[:1])
    door.run(catalog)
    door.put(three_studies()[1])
    added = door.run(catalog)
    assert (added.accepted, added.updated, added.studies_new) == (1, 0, 0)


def test_a_changed_instance_is_updated_and_its_embedding_stale(catalog: Catalog, door: Door) -> None:
    encoder = FakeEncoder()
    door.put(*three_studies())
    door.run(catalog)
    embed_pending(catalog, encoder)
    assert pending_counts(catalog, encoder.fingerprint)["image"] == 0
    door.put(chest_dataset(study="1.2.3.2", sop="1.2.3.2.4", seed=9, PatientID="P2"))
    changed = door.run(catalog)
    assert (changed.accepted, changed.updated, changed.studies_new) == (0, 1, 0)
    assert pending_counts(catalog, encoder.fingerprint)["image"] == 1
    with catalog.session() as session:
        query = sa.select(Instance).where(Instance.sop_instance_uid == "1.2.3.2.4", Instance.status == "accepted")
        row = session.scalars(query).one()
    assert chest_dataset(seed=9).PixelData in Path(row.path).read_bytes()


def test_what_cannot_be_used_is_refused_by_its_reason_and_costs_only_itself(catalog: Catalog, door: Door) -> None:
    door.put(*three_studies(), chest_dataset(study="1.2.3.4", PixelData=CUT_SHORT))
    door.put(chest_dataset(study="1.2.3.5", BodyPartExamined="HIP"))
    first = door.run(catalog)
    assert (first.accepted, first.refused) == (4, {"truncated": 1, "not-a-chest-radiograph": 1})
    before = state(catalog)
    door.run(catalog)
    assert state(catalog) == before


@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_interrupted_run_goes_on_to_the_same_rows(
    catalog: Catalog, door: Door, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.intake.ingest.BATCH", 1)
    door.put(*three_studies(), chest_dataset(study="1.2.3.4", PixelData=CUT_SHORT))
    calls = 0

    def interrupt(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        from index.intake import ingest as module

        write = module.record

        def record(*arguments: object) -> object:
            interrupt()
            return write(*arguments)

        patched.setattr("index.intake.ingest.record", record)
        with pytest.raises(KeyboardInterrupt):
            door.run(catalog)
    door.run(catalog)
    uids = [uid for uid, *_ in state(catalog)]
    assert sorted(uids) == ["1.2.3.1.2", "1.2.3.1.3", "1.2.3.2.4", "1.2.3.3.5", "1.2.3.4.1"]
    assert [status for _, status, *_ in state(catalog)] == ["accepted"] * 4 + ["refused"]
    before = state(catalog)
    door.run(catalog)
    assert state(catalog) == before
