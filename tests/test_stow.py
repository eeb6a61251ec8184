"""STOW-RS: what a sender is told is what became of each instance, and what it was told is stored is stored."""

import itertools
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import httpx
import pydicom
import pytest
import sqlalchemy as sa
import uvicorn
from dicomweb_client import DICOMwebClient
from fastapi import Request
from fastapi.testclient import TestClient
from pydicom.dataset import Dataset

import service.receiving.receiver
from index import Catalog, ReceivedStore, ingest_folder, migrate
from index.intake.ingest import ingest_received
from index.tables import Instance, Study
from model.errors import ArchiveError
from service.app import create_app
from service.errors import RequestError
from service.receiving import body as body_module
from service.receiving.stow import FAILURE_REASONS, OTHER_STUDY, PROCESSING_FAILURE
from service.settings import Settings
from tests.conftest import chest_dataset
from tests.fakes import FakeEncoder
from tests.peers import Orthanc, file_bytes
from tests.receiving_service import client, opened, settings
from tests.service_samples import serve, settings_for

__all__ = ["client", "opened", "settings"]  # fixtures

TYPE = 'multipart/related; type="application/dicom"; boundary=edge'
CR = "1.2.840.10008.5.1.4.1.1.1"


def body(*parts: Dataset | bytes, kind: str = "application/dicom", end: bytes = b"--edge--\r\n") -> bytes:
    head = f"--edge\r\nContent-Type: {kind}\r\n\r\n".encode()
    return b"".join(head + file_bytes(part) + b"\r\n" for part in parts) + end


def send(
    client: TestClient,
    content: bytes | Iterable[bytes],
    study: str | None = None,
    content_type: str = TYPE,
    **headers: str,
) -> httpx.Response:
    path = "/dicomweb/studies" + (f"/{study}" if study else "")
    return client.post(path, content=content, headers={"Content-Type": content_type, **headers})


def told(response: httpx.Response) -> tuple[int, list[str], list[tuple[str, int]], list[int]]:
    """Status, instances stored, instances that failed with their reason, reasons of unknown ones."""
    assert response.headers["content-type"] == "application/dicom+json"
    dataset = Dataset.from_json(response.json())
    stored = [item.ReferencedSOPInstanceUID for item in dataset.get("ReferencedSOPSequence", [])]
    failed = [(item.ReferencedSOPInstanceUID, item.FailureReason) for item in dataset.get("FailedSOPSequence", [])]
    other = [item.FailureReason for item in dataset.get("OtherFailuresSequence", [])]
    return response.status_code, stored, failed, other


def accepted(catalog: Catalog) -> list[str | None]:
    with catalog.session() as session:
        return list(session.scalars(sa.select(Instance.sop_instance_uid).where(Instance.status == "accepted")))


def studies(catalog: Catalog) -> int:
    with catalog.session() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Study)) or 0


# The ordinary way


def test_instances_are_stored_and_taken_in(client: TestClient, opened: Catalog) -> None:
    response = send(client, body(chest_dataset(seed=1), chest_dataset(seed=2, ViewPosition="LL")))
    assert told(response) == (200, ["1.2.3.1.2", "1.2.3.1.3"], [], [])
    assert sorted(accepted(opened)) == ["1.2.3.1.2", "1.2.3.1.3"] and studies(opened) == 1
    item = response.json()["00081199"]["Value"][0]
    assert item["00081150"] == {"vr": "UI", "Value": [CR]} and item["00081190"] == {"vr": "UR"}
    assert response.json()["00081190"] == {"vr": "UR"}
    assert client.get("/v1/studies/1.2.3.1").status_code == 200


def test_the_same_instance_twice_is_a_success_and_one_study(client: TestClient, opened: Catalog) -> None:
    for content in (body(chest_dataset(), chest_dataset()), body(chest_dataset())):
        assert send(client, content).status_code == 200
    assert accepted(opened) == ["1.2.3.1.1"] and studies(opened) == 1


def test_a_changed_instance_takes_the_place_of_the_old_one(client: TestClient, opened: Catalog) -> None:
    for seed in (1, 2, 1):
        assert told(send(client, body(chest_dataset(sop="1.2.3", seed=seed))))[:2] == (200, ["1.2.3"])
    with opened.session() as session:
        path = session.scalars(sa.select(Instance.path).where(Instance.status == "accepted")).one()
    assert Path(path).read_bytes() == file_bytes(chest_dataset(sop="1.2.3", seed=1))


def test_what_another_door_gave_before_and_what_is_overtaken_are_successes(
    client: TestClient, opened: Catalog, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.dcm").write_bytes(file_bytes(chest_dataset()))
    ingest_folder(opened, folder, workers=0)
    content = body(chest_dataset(), chest_dataset(sop="1.2.3", seed=1), chest_dataset(sop="1.2.3", seed=2))
    assert told(send(client, content)) == (200, ["1.2.3.1.1", "1.2.3", "1.2.3"], [], [])
    assert sorted(str(uid) for uid in accepted(opened)) == ["1.2.3", "1.2.3.1.1"]


def test_other_studies_than_the_address_names_fail_and_leave_nothing(
    client: TestClient, opened: Catalog, settings: Settings
) -> None:
    content = body(chest_dataset(study="1.2.3.1"), chest_dataset(study="1.2.3.2"))
    assert told(send(client, content, "1.2.3.1")) == (202, ["1.2.3.1.1"], [("1.2.3.2.1", OTHER_STUDY)], [])
    assert told(send(client, body(chest_dataset(study="1.2.3.2")), "1.2.3.1"))[0] == 409
    assert accepted(opened) == ["1.2.3.1.1"] and len(list(settings.received_dir.rglob("*.dcm"))) == 1


@pytest.mark.parametrize(
    ("tags", "slug"),
    [
        ({"Modality": "CT"}, "wrong-modality"),
        ({"PixelData": b"\0\1" * 10}, "truncated"),
        ({"PixelData": None}, "no-pixel-data"),
        ({"BodyPartExamined": "HAND"}, "not-a-chest-radiograph"),
    ],
)
def test_what_the_archive_refuses_fails_with_the_standards_reason(
    client: TestClient, tags: dict[str, object], slug: str
) -> None:
    reason = FAILURE_REASONS.get(slug, PROCESSING_FAILURE)
    content = body(chest_dataset(), chest_dataset(study="1.2.3.2", **tags))
    assert told(send(client, content)) == (202, ["1.2.3.1.1"], [("1.2.3.2.1", reason)], [])
    assert told(send(client, body(chest_dataset(study="1.2.3.2", **tags))))[0] == 409


# Peers


@pytest.fixture
def running(settings: Settings) -> Iterator[str]:
    """Address of the service, reached through sockets."""
    config = uvicorn.Config(create_app(settings, encoder=FakeEncoder()), port=0, log_level="warning", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    started = threading.Event()
    startup = server.startup

    async def announce(sockets: object = None) -> None:
        await startup(sockets)  # type: ignore[arg-type]
        started.set()

    server.startup = announce  # type: ignore[method-assign]
    thread.start()
    assert started.wait(60)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


def test_dicomweb_client_stores(running: str, opened: Catalog) -> None:
    client = DICOMwebClient(f"{running}/dicomweb", chunk_size=1000)  # in chunks, without a length
    datasets = [chest_dataset(seed=1), chest_dataset(study="1.2.3.2", Modality="CT")]
    for dataset in datasets:
        dataset.preamble = bytes(128)  # type: ignore[attr-defined]  # else the client sends no DICOM files (PS3.10)
    answer = client.store_instances(datasets)
    assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == ["1.2.3.1.2"]
    assert [item.FailureReason for item in answer.FailedSOPSequence] == [FAILURE_REASONS["wrong-modality"]]
    assert accepted(opened) == ["1.2.3.1.2"]
    client._session.close()


def test_orthanc_stores(running: str, opened: Catalog, orthanc: Orthanc) -> None:
    ids = orthanc.upload(chest_dataset(seed=1), chest_dataset(seed=2, ViewPosition="LL"))
    orthanc.call("PUT", "/dicom-web/servers/alta", json={"Url": f"{running}/dicomweb", "ChunkedTransfers": True})
    answer = orthanc.call("POST", "/dicom-web/servers/alta/stow", json={"Resources": ids, "Synchronous": True})
    assert answer["InstancesCount"] == "2"
    assert sorted(str(uid) for uid in accepted(opened)) == ["1.2.3.1.2", "1.2.3.1.3"]


def test_orthanc_notices_what_did_not_come_in(running: str, orthanc: Orthanc) -> None:
    ids = orthanc.upload(chest_dataset(seed=1), chest_dataset(study="1.2.3.2", Modality="CT"))
    orthanc.call("PUT", "/dicom-web/servers/alta", json={"Url": f"{running}/dicomweb", "ChunkedTransfers": False})
    answer = orthanc.http.post("/dicom-web/servers/alta/stow", json={"Resources": ids, "Synchronous": True})
    assert answer.status_code == 500


# Hostile bodies


def test_a_service_that_takes_nothing_in_says_so(tmp_path: Path) -> None:
    closed = settings_for(tmp_path)
    migrate(closed.catalog_url)
    with serve(closed) as client:
        response = send(client, body(chest_dataset()))
    assert response.status_code == 403 and response.json()["type"] == "/problems/receiving-disabled"
    assert not closed.received_dir.exists()


def problem(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["type"].removeprefix("/problems/")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/dicom",
        "multipart/form-data; boundary=edge",
        "multipart/related; boundary=edge",
        'multipart/related; type="application/dicom+json"; boundary=edge',
    ],
)
def test_other_media_types_are_refused(client: TestClient, content_type: str) -> None:
    assert problem(send(client, body(chest_dataset()), content_type=content_type)) == (415, "wrong-media-type")


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/dicom+json", 200),
        ("application/json", 200),
        ("application/dicom+xml, */*;q=0.1", 200),
        ("application/dicom+xml", 406),
        ("application/dicom+json;q=0, text/html", 406),
    ],
)
def test_the_answer_is_dicom_json_or_none(client: TestClient, accept: str, status: int) -> None:
    assert send(client, body(chest_dataset()), Accept=accept).status_code == status


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (body(chest_dataset()), 'multipart/related; type="application/dicom"'),
        (b"", TYPE),
        (b"--edge--\r\n", TYPE),
        (b"no boundary", TYPE),
        (body(b"x", end=b""), TYPE),
        (b"--edge\r\n" + b"A: b\r\n" * 1000 + b"\r\n--edge--", TYPE),
    ],
)
def test_a_broken_body_is_a_bad_request(client: TestClient, content: bytes, content_type: str) -> None:
    assert problem(send(client, content, content_type=content_type)) == (400, "bad-multipart")


def test_what_came_before_the_body_broke_is_taken_in(client: TestClient, opened: Catalog, settings: Settings) -> None:
    content = body(chest_dataset(seed=1), chest_dataset(seed=2), end=b"")
    assert problem(send(client, content[:-500])) == (400, "bad-multipart")
    assert accepted(opened) == ["1.2.3.1.2"]
    assert list(settings.received_dir.rglob("*.partial")) == []


def test_parts_that_are_no_dicom_fail_alone(client: TestClient) -> None:
    cannot = FAILURE_REASONS["not-dicom"]
    whole = file_bytes(chest_dataset(study="1.2.3.2"))
    content = body(b"", b"x" * 200, whole[:140], whole[:400], chest_dataset())
    status, stored, failed, other = told(send(client, content))
    assert (status, stored) == (202, ["1.2.3.1.1"])
    assert len(failed) + len(other) == 4 and {cannot, FAILURE_REASONS["missing-identifier"]} >= set(other)
    assert told(send(client, body(chest_dataset(), kind="text/plain"))) == (409, [], [], [cannot])
    nested = b"--in\r\n\r\nx\r\n--in--"
    assert told(send(client, body(nested, kind="multipart/mixed; boundary=in"))) == (409, [], [], [cannot])


def test_a_part_without_a_type_is_what_the_request_says(client: TestClient) -> None:
    content = b"--edge\r\n\r\n" + file_bytes(chest_dataset()) + b"\r\n--edge--"
    assert told(send(client, content))[:2] == (200, ["1.2.3.1.1"])


def test_an_instance_without_identifiers_fails(client: TestClient) -> None:
    reason = FAILURE_REASONS["missing-identifier"]
    assert told(send(client, body(chest_dataset(StudyInstanceUID=None)))) == (409, [], [], [reason])


def test_many_empty_parts_are_counted_and_limited(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    status, _, _, other = told(send(client, body(*[b""] * 300)))
    assert status == 409 and len(other) == 300
    monkeypatch.setattr(service.receiving.receiver, "MAX_PARTS", 100)
    assert problem(send(client, body(*[b""] * 10_000))) == (400, "bad-multipart")


def chunked(content: bytes, size: int = 1000) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@pytest.mark.parametrize("whole", [True, False])
def test_a_body_over_the_limit_is_refused(tmp_path: Path, whole: bool) -> None:
    small = settings_for(tmp_path, receive=True, min_free_mb=0, stow_max_mb=1)
    migrate(small.catalog_url)
    content = body(b"x" * 2**20)
    with serve(small) as client:
        response = send(client, content if whole else chunked(content, 2**16))
        assert problem(response) == (413, "file-too-large") and "ALTA_STOW_MAX_MB" in response.json()["detail"]
        assert send(client, chunked(body(chest_dataset()))).status_code == 200
    assert list(small.received_dir.rglob("*.partial")) == []


def test_other_calls_keep_their_own_limit(tmp_path: Path) -> None:
    small = settings_for(tmp_path, receive=True, min_free_mb=0, max_upload_mb=1)
    migrate(small.catalog_url)
    with serve(small) as client:
        assert send(client, body(b"x" * 2**21)).status_code == 409


def test_an_instance_over_the_limit_fails_alone(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.receiving.receiver, "MAX_FILE_BYTES", 10_000)
    content = body(b"x" * 20_000, chest_dataset())
    assert told(send(client, content)) == (202, ["1.2.3.1.1"], [], [FAILURE_REASONS["too-large"]])


# Nothing is lost


def test_a_full_disk_is_said_before_anything_is_promised(tmp_path: Path) -> None:
    full = settings_for(tmp_path, receive=True, min_free_mb=2**40)
    migrate(full.catalog_url)
    with serve(full) as client:
        response = send(client, body(chest_dataset()))
    assert problem(response) == (503, "storage-full") and response.headers["Retry-After"] == "60"
    assert str(tmp_path) not in response.text


def test_a_disk_that_fills_midway_fails_the_rest(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    keep: Callable[..., Path] = ReceivedStore.keep
    calls: list[int] = []

    def keep_once(self: ReceivedStore, *arguments: object) -> Path:
        calls.append(1)
        if len(calls) > 1:
            raise ArchiveError("Full.", "storage-full")
        return keep(self, *arguments)

    monkeypatch.setattr(ReceivedStore, "keep", keep_once)
    content = body(chest_dataset(seed=1), chest_dataset(seed=2))
    assert told(send(client, content)) == (202, ["1.2.3.1.2"], [], [FAILURE_REASONS["storage-full"]])
    assert problem(send(client, body(chest_dataset()))) == (503, "storage-full")


def test_what_was_kept_when_the_service_was_killed_is_taken_in_later(
    client: TestClient, opened: Catalog, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise SystemError("killed")

    monkeypatch.setattr(service.receiving.receiver, "ingest_received", killed)
    assert problem(send(client, body(chest_dataset()))) == (500, "internal-error")
    monkeypatch.undo()
    assert accepted(opened) == []
    store = ReceivedStore(settings.received_dir, min_free_bytes=0)
    assert ingest_received(opened, store, workers=0).accepted == 1
    assert told(send(client, body(chest_dataset())))[:2] == (200, ["1.2.3.1.1"])


@pytest.mark.parametrize(("size", "enough"), [(2**20, True), (1, False)])
def test_a_body_that_drips_ends(monkeypatch: pytest.MonkeyPatch, size: int, enough: bool) -> None:
    seconds = itertools.count(step=20)  # one piece takes that long
    pieces = iter([bytes(size)] * 10 + [None])
    monkeypatch.setattr(body_module, "monotonic", lambda: next(seconds))
    monkeypatch.setattr(body_module.anyio.from_thread, "run", lambda _, stream: next(pieces))
    received = body_module.body_of(Request({"type": "http"}))
    if enough:
        assert len(list(received)) == 10
    else:
        with pytest.raises(RequestError) as raised:
            list(received)
        assert raised.value.slug == "request-timeout"


def test_more_senders_than_places_are_told_to_come_later(tmp_path: Path) -> None:
    few = settings_for(tmp_path, receive=True, min_free_mb=0, max_requests=3)
    migrate(few.catalog_url)
    arrived, go_on = threading.Event(), threading.Event()
    results: list[int] = []

    def slowly() -> Iterator[bytes]:
        content = body(chest_dataset())
        yield content[:500]
        arrived.set()
        assert go_on.wait(30)
        yield content[500:]

    with serve(few) as client:
        store = client.app.state.resources.receiver.store  # type: ignore[attr-defined]
        sender = threading.Thread(target=lambda: results.append(len(store(TYPE, slowly()))))
        sender.start()
        assert arrived.wait(30)
        try:
            response = send(client, body(chest_dataset()))
        finally:
            go_on.set()
            sender.join(30)
        assert problem(response) == (503, "too-busy") and response.headers["Retry-After"] == "5"
        assert results == [1] and send(client, body(chest_dataset())).status_code == 200


def test_a_crash_of_a_decoder_fails_that_instance_alone(tmp_path: Path, opened: Catalog) -> None:
    """In worker processes, as in production."""
    apart = settings_for(tmp_path, receive=True, min_free_mb=0, decode_workers=1)
    with serve(apart) as client:
        content = body(chest_dataset(), chest_dataset(study="1.2.3.2", PixelData=b"\0\1" * 10))
        assert told(send(client, content))[:2] == (202, ["1.2.3.1.1"])


def test_the_answer_names_no_folder_and_no_patient(client: TestClient) -> None:
    response = send(client, body(chest_dataset(PatientID="SECRET", Modality="CT"), b"SECRET"))
    assert "SECRET" not in response.text and "/" not in json.dumps(response.json())
    assert pydicom.Dataset.from_json(response.json())
