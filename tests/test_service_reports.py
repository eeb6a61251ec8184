"""Reports sent to the service as FHIR: an answer for each, and only where receiving is allowed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from index import ingest_folder, migrate, open_catalog
from index.tables import Report
from service.routes.reports import EXAMPLE
from tests.report_samples import NAME, Sample, bundle, fhir_resource
from tests.service_samples import A1, B1, serve, settings_for, write_archive

PATH = "/v1/reports/fhir"
STUDY_A = Sample(study=A1, accession="", number="F1")
STUDY_B = Sample(study=B1, accession="", number="F2", patient="P2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of an archive without reports."""
    source = tmp_path / "source"
    source.mkdir()
    write_archive(source)
    url = settings_for(tmp_path).catalog_url
    migrate(url)
    catalog = open_catalog(url)
    ingest_folder(catalog, source, workers=0)
    catalog.close()
    return tmp_path


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    with serve(settings_for(folder, receive=True)) as running:
        yield running


def send(client: TestClient, resource: Any, kind: str = "application/fhir+json") -> httpx.Response:
    return client.post(PATH, content=json.dumps(resource), headers={"Content-Type": kind})


def outcomes(reply: httpx.Response) -> list[tuple[str, str | None]]:
    return [(each["status"], each["reason"]) for each in reply.json()["reports"]]


def impression(client: TestClient, study: str) -> str | None:
    report = client.get(f"/v1/studies/{study}").json()["report"]
    return report and report["impression"]


@pytest.mark.parametrize("kind", ["application/fhir+json", "application/json; charset=utf-8"])
def test_a_report_is_taken_in_and_shown_with_its_study(client: TestClient, kind: str) -> None:
    reply = send(client, fhir_resource(STUDY_A), kind)
    assert reply.status_code == 200
    (report,) = reply.json()["reports"]
    assert report == {"entry": 1, "status": "matched", "reason": None, "detail": None, "study_instance_uid": A1}
    assert impression(client, A1) == "Pneumonia."


def test_versions_replace_and_withdraw(client: TestClient) -> None:
    later = STUDY_A.but(issued="20240302080000")
    send(client, fhir_resource(STUDY_A))
    assert outcomes(send(client, fhir_resource(later.but(status="corrected", impression="Normal.")))) == [
        ("matched", None)
    ]
    assert impression(client, A1) == "Normal."
    assert outcomes(send(client, fhir_resource(STUDY_A))) == [("outdated", "outdated")]
    assert outcomes(send(client, fhir_resource(later.but(status="withdrawn")))) == [("withdrawn", None)]
    assert impression(client, A1) is None


def test_each_report_of_a_bundle_has_its_answer(client: TestClient) -> None:
    patient = {"resourceType": "Patient", "id": "1"}
    broken = fhir_resource(STUDY_B, status="nonsense")
    whole = bundle(fhir_resource(STUDY_A), patient, broken, fhir_resource(STUDY_B.but(study="1.2.3.99")))
    reply = send(client, whole)
    assert reply.status_code == 202
    assert [each["entry"] for each in reply.json()["reports"]] == [1, 3, 4]
    assert outcomes(reply) == [("matched", None), ("refused", "bad-fhir"), ("unmatched", None)]
    assert send(client, bundle(broken)).status_code == 409


def test_what_is_refused_twice_is_listed_once(client: TestClient, folder: Path) -> None:
    for _ in range(3):
        send(client, fhir_resource(STUDY_A, status="nonsense"))
    catalog = open_catalog(settings_for(folder).catalog_url)
    with catalog.session() as session:
        (row,) = session.scalars(sa.select(Report))
    assert (row.status, row.reason) == ("refused", "bad-fhir")
    catalog.close()


@pytest.mark.parametrize(
    ("content", "kind", "status", "slug"),
    [
        ("{}", "text/plain", 415, "wrong-media-type"),
        ("{}", "", 415, "wrong-media-type"),
        ("{", "application/json", 400, "bad-request"),
        ("[" * 100_000, "application/json", 400, "bad-request"),
        ("\xff", "application/json", 400, "bad-request"),
        ('{"resourceType": "Patient"}', "application/json", 422, "bad-fhir"),
        (json.dumps(bundle()), "application/json", 422, "bad-fhir"),
        (json.dumps(bundle(*[fhir_resource(STUDY_A)] * 1001)), "application/json", 422, "bad-fhir"),
    ],
)
def test_a_body_that_is_no_report_is_a_problem(
    client: TestClient, content: str, kind: str, status: int, slug: str
) -> None:
    reply = client.post(PATH, content=content.encode("latin-1"), headers={"Content-Type": kind})
    assert (reply.status_code, reply.json()["type"]) == (status, f"/problems/{slug}")


def test_nothing_is_taken_in_unless_the_service_may_receive(folder: Path) -> None:
    with serve(settings_for(folder)) as client:
        reply = send(client, fhir_resource(STUDY_A))
        assert (reply.status_code, reply.json()["type"]) == (403, "/problems/receiving-disabled")
        assert impression(client, A1) is None


def test_the_documented_example_is_a_report_that_can_be_used(client: TestClient) -> None:
    assert outcomes(send(client, EXAMPLE)) == [("matched", None)]


def test_neither_answer_nor_log_names_the_patient(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    replies = [send(client, fhir_resource(STUDY_A)), send(client, fhir_resource(STUDY_A, subject={"display": [NAME]}))]
    assert not any("JANE" in text or A1 in caplog.text for text in (*(reply.text for reply in replies), caplog.text))
