"""Jobs over HTTP: asked for, looked at, called off; what is not allowed is refused before anything waits."""

from pathlib import Path
from threading import Event
from typing import get_args

import pytest
from fastapi.testclient import TestClient

from index import Catalog, migrate
from index.jobs.lease import claim, finish
from service.jobs.kinds import KINDS
from service.jobs.requests import JobRequest
from service.jobs.workbench import Workbench
from service.jobs.worker import Worker
from service.routes.jobs import KindName
from service.settings import Settings
from tests.conftest import WriteDicom
from tests.fakes import FakeEncoder
from tests.receiving_service import client, opened
from tests.service_samples import serve, settings_for

__all__ = ["client", "opened"]  # fixtures

SECRET = "whsec_" + "c2VjcmV0" * 6
ORIGIN = "https://pacs.example"


@pytest.fixture
def settings(tmp_path: Path, archive: Path) -> Settings:
    found = settings_for(
        tmp_path,
        receive=True,
        min_free_mb=0,
        ingest_roots=(archive,),
        webhook_origins=(ORIGIN,),
        webhook_secret=SECRET,
    )
    migrate(found.catalog_url)
    return found


def test_every_kind_can_be_asked_for() -> None:
    asked = {get_args(model.model_fields["kind"].annotation)[0]: model for model in get_args(JobRequest)}
    assert asked == {name: kind.request for name, kind in KINDS.items()}
    assert get_args(KindName) == tuple(KINDS)


def test_a_job_is_asked_for_done_by_a_worker_and_seen(
    client: TestClient, opened: Catalog, settings: Settings, write_dicom: WriteDicom, archive: Path
) -> None:
    write_dicom("a.dcm")
    response = client.post("/v1/jobs", json={"kind": "ingest", "path": str(archive)})
    asked = response.json()
    assert response.status_code == 202 and response.headers["Location"] == f"/v1/jobs/{asked['id']}"
    assert (asked["state"], asked["requested_by"], asked["webhook"]) == ("queued", "anonymous", None)
    assert asked["arguments"] == {"path": str(archive), "reports": None, "retry_refused": False}
    bench = Workbench(settings, opened, encoder=FakeEncoder(), decoders=0)
    Worker(bench).run(Event(), once=True)
    job = client.get(response.headers["Location"]).json()
    assert (job["state"], job["error"], job["done"], job["total"]) == ("succeeded", None, 1, 1)
    assert job["result"]["accepted"] == 1 and job["started_at"] < job["finished_at"]
    assert client.get("/v1/studies/1.2.3.1").status_code == 200


def test_jobs_are_listed_and_called_off(client: TestClient) -> None:
    ids = [client.post("/v1/jobs", json={"kind": kind}).json()["id"] for kind in ("embed", "verify", "embed")]
    assert [job["id"] for job in client.get("/v1/jobs").json()["jobs"]] == ids[::-1]
    response = client.delete(f"/v1/jobs/{ids[0]}")
    assert response.status_code == 202 and response.json()["state"] == "cancelled"
    listed = client.get("/v1/jobs", params={"kind": "embed", "state": "queued"}).json()["jobs"]
    assert [job["id"] for job in listed] == [ids[2]]
    assert client.get("/v1/jobs", params={"state": "lost"}).status_code == 422


def test_what_a_job_met_is_said_without_names_of_files(client: TestClient, opened: Catalog) -> None:
    job_id = client.post("/v1/jobs", json={"kind": "embed"}).json()["id"]
    held = claim(opened, "one", ["embed"])
    assert held is not None
    finish(opened, held, "failed", error="worker-lost", detail="/archive/DOE^JOHN.dcm")
    job = client.get(f"/v1/jobs/{job_id}")
    assert job.json()["error"] == "worker-lost" and "five times" in job.json()["detail"]
    assert "DOE" not in job.text


def refused(client: TestClient, **asked: object) -> tuple[int, str]:
    response = client.post("/v1/jobs", json=asked)
    assert client.get("/v1/jobs").json()["jobs"] == []
    return response.status_code, response.json()["type"].removeprefix("/problems/")


@pytest.mark.parametrize(
    "path", ["/etc", "/", "/etc/passwd", "{archive}/../outside", "{archive}2", "archive", "{archive}/\0"]
)
def test_nothing_outside_of_the_roots_is_asked_for(client: TestClient, archive: Path, path: str) -> None:
    given = path.format(archive=archive)
    assert refused(client, kind="ingest", path=given) == (403, "path-not-allowed")
    assert refused(client, kind="ingest", path=str(archive), reports=given) == (403, "path-not-allowed")


@pytest.mark.parametrize(
    "url",
    [
        "https://pacs.example.evil/x",
        "http://pacs.example/x",
        "https://pacs.example:8443/x",
        "https://pacs.example@evil/x",
        "https://evil\\@pacs.example/x",
        "https://evil#@pacs.example/x",
        "file:///etc/passwd",
        "//pacs.example/x",
        "pacs.example",
        "https://pacs.example\n.evil/x",
        "https://pacs.example:0/x",
        "https://xn--pacs.example/x",
    ],
)
def test_nobody_but_the_configured_is_told(client: TestClient, url: str) -> None:
    assert refused(client, kind="embed", webhook=url) == (422, "webhook-not-allowed")


@pytest.mark.parametrize("url", ["https://pacs.example/alta?a=b", "HTTPS://PACS.example:443/alta"])
def test_the_configured_may_be_told(client: TestClient, url: str) -> None:
    job = client.post("/v1/jobs", json={"kind": "embed", "webhook": url}).json()
    assert job["webhook"] == {"state": "waiting", "attempts": 0, "last_error": None, "next_attempt_at": None}


def test_a_list_says_as_well_what_became_of_the_message(client: TestClient) -> None:
    job_id = client.post("/v1/jobs", json={"kind": "embed", "webhook": f"{ORIGIN}/alta"}).json()["id"]
    client.delete(f"/v1/jobs/{job_id}")
    (listed,) = client.get("/v1/jobs").json()["jobs"]
    assert listed["webhook"]["next_attempt_at"] and listed == client.get(f"/v1/jobs/{job_id}").json()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"kind": "format-disk"},
        {"kind": "embed", "batch_size": 0},
        {"kind": "embed", "path": "/archive"},
        {"kind": "ingest"},
        {"kind": "index-build", "engine": "other"},
    ],
)
def test_what_is_no_job_is_refused(client: TestClient, asked: dict[str, object]) -> None:
    assert refused(client, **asked) == (422, "invalid-request")


def test_unknown_jobs_and_too_many_are_said_to_be(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for response in (client.get("/v1/jobs/none"), client.delete("/v1/jobs/none")):
        assert (response.status_code, response.json()["type"]) == (404, "/problems/unknown-job")
    assert client.get("/v1/jobs/%00").status_code == 422
    monkeypatch.setattr("index.jobs.queue.MAX_QUEUED", 0)
    response = client.post("/v1/jobs", json={"kind": "embed"})
    assert (response.status_code, response.json()["type"]) == (429, "/problems/too-many-jobs")
    assert response.headers["Retry-After"] == "60"


def test_a_service_that_takes_nothing_in_takes_no_jobs(tmp_path: Path) -> None:
    closed = settings_for(tmp_path)
    migrate(closed.catalog_url)
    with serve(closed) as client:
        for response in (client.post("/v1/jobs", json={"kind": "embed"}), client.delete("/v1/jobs/none")):
            assert (response.status_code, response.json()["type"]) == (403, "/problems/receiving-disabled")
        assert client.get("/v1/jobs").json() == {"jobs": []}
