"""Studies as files of a form, reports as JSON, and deleting: what the sender is told is what became of it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from pydicom.dataset import Dataset

from index import Catalog, ingest_folder, migrate
from index.tables import Instance, Report, Study, StudyReturn
from service.settings import Settings
from tests.conftest import WriteDicom, chest_dataset
from tests.peers import file_bytes
from tests.receiving_service import client, opened, settings
from tests.service_samples import serve, settings_for

__all__ = ["client", "opened", "settings"]  # fixtures


def send(client: TestClient, *files: Dataset | bytes, name: str = "DOE^JOHN.dcm") -> httpx.Response:
    form = [("files", (name, file_bytes(file), "application/octet-stream")) for file in files]
    return client.post("/v1/studies", files=form)


def problem(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["type"].removeprefix("/problems/")


# Studies


def test_files_are_taken_in_and_the_study_is_named(client: TestClient, opened: Catalog, settings: Settings) -> None:
    response = send(client, chest_dataset(seed=1), chest_dataset(seed=2, ViewPosition="LL"))
    assert response.status_code == 200 and response.headers["Location"] == "/v1/studies/1.2.3.1"
    assert response.json() == {
        "files": [
            {
                "file": number,
                "status": "accepted",
                "reason": None,
                "study_instance_uid": "1.2.3.1",
                "sop_instance_uid": f"1.2.3.1.{number + 1}",
            }
            for number in (1, 2)
        ],
        "studies": ["1.2.3.1"],
    }
    assert client.get(response.headers["Location"]).status_code == 200
    assert len(list(settings.received_dir.rglob("*.dcm"))) == 2


def test_sent_again_they_count_as_accepted_and_are_one_study(client: TestClient, opened: Catalog) -> None:
    for _ in range(2):
        assert send(client, chest_dataset(), chest_dataset()).status_code == 200
    with opened.session() as session:
        assert session.scalars(sa.select(Instance.status)).all() == ["accepted"]


def test_each_file_is_judged_alone(client: TestClient) -> None:
    response = send(client, chest_dataset(), chest_dataset(study="1.2.3.2", Modality="CT"), b"no DICOM")
    assert response.status_code == 202
    told = [(file["status"], file["reason"], file["study_instance_uid"]) for file in response.json()["files"]]
    assert told == [
        ("accepted", None, "1.2.3.1"),
        ("refused", "wrong-modality", "1.2.3.2"),
        ("refused", "not-dicom", None),
    ]
    assert response.json()["studies"] == ["1.2.3.1"] and "DOE" not in response.text
    alone = send(client, b"no DICOM")
    assert alone.status_code == 409 and "Location" not in alone.headers and alone.json()["studies"] == []


def test_several_studies_have_no_one_place(client: TestClient) -> None:
    response = send(client, chest_dataset(study="1.2.3.1"), chest_dataset(study="1.2.3.2"))
    assert response.status_code == 200 and "Location" not in response.headers


def test_many_files_are_taken_in_whatever_a_query_may_have(client: TestClient, settings: Settings) -> None:
    """Nothing of the form is held in memory: it goes to the disk file by file."""
    assert settings.max_files < 12
    files = [chest_dataset(study=f"1.2.3.{number}") for number in range(12)]
    assert len(send(client, *files).json()["studies"]) == 12


@pytest.mark.parametrize(
    ("content_type", "content", "expected"),
    [
        ("application/json", b"{}", (415, "wrong-media-type")),
        ("multipart/related; boundary=b", b"--b--", (415, "wrong-media-type")),
        ("multipart/form-data", b"--b--", (400, "bad-multipart")),
        ("multipart/form-data; boundary=b", b"--b--\r\n", (400, "bad-multipart")),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx", (400, "bad-multipart")),
    ],
)
def test_what_is_no_form_of_files_is_refused(
    client: TestClient, content_type: str, content: bytes, expected: tuple[int, str]
) -> None:
    headers = {"Content-Type": content_type}
    assert problem(client.post("/v1/studies", content=content, headers=headers)) == expected


def test_the_limit_of_a_body_is_that_of_stow(tmp_path: Path) -> None:
    small = settings_for(tmp_path, receive=True, min_free_mb=0, stow_max_mb=1, max_upload_mb=64)
    migrate(small.catalog_url)
    with serve(small) as client:
        assert problem(send(client, b"x" * 2**21)) == (413, "file-too-large")
        assert send(client, chest_dataset()).status_code == 200


def test_a_service_that_takes_nothing_in_says_so(tmp_path: Path) -> None:
    closed = settings_for(tmp_path)
    migrate(closed.catalog_url)
    with serve(closed) as client:
        for response in (
            send(client, chest_dataset()),
            client.post("/v1/reports", json={"study_instance_uid": "1.2", "text": "Clear."}),
            client.delete("/v1/studies/1.2"),
            client.post("/v1/studies/1.2/restore"),
        ):
            assert problem(response) == (403, "receiving-disabled")


# Reports


def report(client: TestClient, **about: object) -> tuple[int, dict[str, Any]]:
    response = client.post("/v1/reports", json=about)
    return response.status_code, response.json()["reports"][0] if "reports" in response.json() else response.json()


def text_of(client: TestClient, uid: str = "1.2.3.1") -> str | None:
    found = client.get(f"/v1/studies/{uid}").json()["report"]
    return None if found is None else found["text"]


def test_a_report_is_matched_to_its_study_or_waits_for_it(client: TestClient) -> None:
    status, told = report(client, study_instance_uid="1.2.3.1", findings="Small effusion.", impression="Effusion.")
    assert (status, told["status"], told["study_instance_uid"]) == (200, "unmatched", None)
    send(client, chest_dataset())
    assert text_of(client) == "FINDINGS: Small effusion.\nIMPRESSION: Effusion."
    status, told = report(client, accession_number="A1", text="FINDINGS: Clear.")
    assert (status, told["status"]) == (409, "refused")  # the study has another report


def test_versions_replace_wait_and_withdraw(client: TestClient) -> None:
    send(client, chest_dataset())
    about = {"study_instance_uid": "1.2.3.1", "number": "R1", "numbering": "RIS"}
    final = about | {"text": "Clear.", "status": "final", "issued": "2024-03-01T12:00:00+01:00"}
    assert report(client, **final)[1]["status"] == "matched"
    assert report(client, **final)[1]["status"] == "matched"
    early = about | {"text": "Effusion.", "status": "preliminary", "issued": "2024-03-01T10:00:00Z"}
    assert report(client, **early)[1]["status"] == "outdated" and text_of(client) == "Clear."
    corrected = about | {"text": "Nodule.", "status": "corrected", "issued": "2024-03-01T11:30:00Z"}
    assert report(client, **corrected)[1]["status"] == "matched" and text_of(client) == "Nodule."
    assert report(client, **about, status="withdrawn")[1]["status"] == "withdrawn" and text_of(client) is None


def test_the_patient_is_kept_as_a_pseudonym_and_no_zero_byte_breaks_it(client: TestClient, opened: Catalog) -> None:
    assert report(client, accession_number="A9", patient_id="P\x001", text="Cl\x00ear.")[0] == 200
    with opened.session() as session:
        row = session.scalars(sa.select(Report)).one()
    assert row.text == "Clear." and row.patient_key == opened.patient_key("P1")


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"text": "Clear."}, (409, "missing-identifier")),
        ({"study_instance_uid": "1.2", "text": " . "}, (409, "empty-report")),
    ],
)
def test_a_report_that_cannot_be_used_is_refused_with_its_reason(
    client: TestClient, about: dict[str, object], expected: tuple[int, str]
) -> None:
    status, told = report(client, **about)
    assert (status, told["reason"]) == expected


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"study_instance_uid": "1.2"},
        {"study_instance_uid": "1.2", "text": "Clear.", "findings": "Clear."},
        {"study_instance_uid": "one", "text": "Clear."},
        {"study_instance_uid": "1.2", "text": "Clear.", "issued": "2024-03-01T12:00:00"},
        {"study_instance_uid": "1.2", "text": "Clear.", "status": "amended"},
        {"study_instance_uid": "1.2", "text": "Clear.", "author": "Who?"},
        {"accession_number": "A" * 65, "text": "Clear."},
        {"study_instance_uid": "1.2", "text": "Clear.", "issued": "0001-01-01T00:00:00+14:00"},
        {"study_instance_uid": "1.2", "text": "Clear.", "issued": "9999-12-31T23:00:00-14:00"},
        {"status": "withdrawn", "patient_id": "P1"},
    ],
)
def test_what_is_no_report_is_an_invalid_request(client: TestClient, about: dict[str, object]) -> None:
    assert problem(client.post("/v1/reports", json=about)) == (422, "invalid-request")


# Deleting


def test_a_deleted_study_is_unknown_until_it_is_restored(client: TestClient, settings: Settings) -> None:
    send(client, chest_dataset())
    preview = client.delete("/v1/studies/1.2.3.1", params={"dry_run": True}).json()
    assert preview["dry_run"] and client.get("/v1/studies/1.2.3.1").status_code == 200
    response = client.delete("/v1/studies/1.2.3.1")
    assert response.status_code == 200 and response.json() == preview | {"dry_run": False}
    assert (response.json()["images"], response.json()["own_copies"]) == (1, 1)
    assert problem(client.get("/v1/studies/1.2.3.1")) == (404, "unknown-study")
    assert list(settings.received_dir.rglob("*.dcm")) == []
    again = send(client, chest_dataset())
    assert again.status_code == 409 and again.json()["files"][0]["reason"] == "deleted"
    assert report(client, study_instance_uid="1.2.3.1", text="Clear.")[1]["reason"] == "deleted"
    assert client.delete("/v1/studies/1.2.3.1").json()["images"] == 0
    assert client.post("/v1/studies/1.2.3.1/restore").status_code == 204
    assert send(client, chest_dataset()).status_code == 200
    assert client.get("/v1/studies/1.2.3.1").status_code == 200


def test_whoever_deletes_hears_what_other_systems_have(client: TestClient, opened: Catalog) -> None:
    send(client, chest_dataset(), chest_dataset(study="1.2.3.2", seed=2))
    assert client.delete("/v1/studies/1.2.3.2").json()["sent_back"] == []
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    with opened.write() as session:
        study = session.scalars(sa.select(Study)).one()
        for number, (route, sent_at, uid) in enumerate(
            (("pacs", moment + timedelta(days=2), "2.25.7"), ("emr", moment, None), ("waits", None, None))
        ):
            row = StudyReturn(study_id=study.id, route=route, source_hash=f"{number}", expires_at=moment)
            row.sent_at, row.sop_instance_uid = sent_at, uid
            session.add(row)
    expected = [
        {"route": "emr", "sent_at": "2026-01-31T12:00:00Z", "sop_instance_uid": None},
        {"route": "pacs", "sent_at": "2026-02-02T12:00:00Z", "sop_instance_uid": "2.25.7"},
    ]
    assert client.delete("/v1/studies/1.2.3.1", params={"dry_run": True}).json()["sent_back"] == expected
    assert client.delete("/v1/studies/1.2.3.1").json()["sent_back"] == expected
    assert client.delete("/v1/studies/1.2.3.1").json()["sent_back"] == []  # as it was deleted before


def test_a_file_in_a_folder_stays_where_it_is(
    client: TestClient, opened: Catalog, write_dicom: WriteDicom, archive: Path
) -> None:
    path = write_dicom("a.dcm")
    ingest_folder(opened, archive, workers=0)
    assert client.delete("/v1/studies/1.2.3.1").json()["in_place"] == 1 and path.exists()
    assert ingest_folder(opened, archive, workers=0).refused == {"deleted": 1}


def test_an_unknown_study_is_neither_deleted_nor_restored(client: TestClient) -> None:
    for response in (client.delete("/v1/studies/9.9"), client.post("/v1/studies/9.9/restore")):
        assert problem(response) == (404, "unknown-study")
