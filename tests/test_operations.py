"""The administrator's figures: exact on a small archive, in parts that fail alone, cheap on a large one."""

import json
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from index import Catalog, migrate, open_catalog
from index.access.keys import create_key
from index.embedding.removal import remove_embeddings
from index.jobs.lease import beat, claim, finish
from index.tables import IMAGE, Embedding, EmbeddingFailure, Study
from model.errors import ArchiveError
from service.app import create_app
from service.settings import Settings
from tests.fakes import FakeEncoder
from tests.service_samples import A1, C1, Film, form, png, serve, settings_for, take_in

pytest_plugins = ["tests.service_fixtures"]

PATH = "/v1/operations"


@pytest.fixture
def source(own_archive: Settings, tmp_path: Path) -> Path:
    """Beside the usual four studies two files that are refused and a report that waits."""
    source = tmp_path / "source"
    (source / "foot.dcm").write_bytes(Film("1.2.3.8", 2, body_part="FOOT").dicom())
    (source / "slice.dcm").write_bytes(Film("1.2.3.9", 2, modality="CT").dicom())
    with (source / "reports.csv").open("a") as file:
        file.write("1.2.3.77,,,Waits.,\n")
    take_in(own_archive, source)
    return source


def parts(client: TestClient) -> dict[str, Any]:
    """The values of all parts, each of which is there."""
    reply = client.get(PATH).json()
    assert {name: part["problem"] for name, part in reply.items() if name not in ("at", "process")} == dict.fromkeys(
        reply.keys() - {"at", "process"}
    )
    return {name: part["value"] if name not in ("at", "process") else part for name, part in reply.items()}


def counts(reasons: list[dict[str, Any]]) -> dict[str, int]:
    return {reason["slug"]: reason["count"] for reason in reasons}


def test_figures_are_those_of_the_archive(own_archive: Settings, source: Path) -> None:
    with serve(own_archive) as client:
        found = parts(client)
    assert found["archive"] == {
        "studies": 4,
        "patients": 3,
        "images": 5,
        "files_refused": 2,
        "reports_matched": 3,
        "reports_waiting": 1,
        "reports_withdrawn": 0,
        "reports_refused": 0,
    }
    assert counts(found["refused"]["files"]) == {"not-a-chest-radiograph": 1, "wrong-modality": 1}
    assert found["refused"]["files"][0]["title"] == "Not a chest radiograph"
    assert found["embedding"]["image"] == {"due": 4, "embedded": 4, "missing": 0, "failed": []}
    assert found["embedding"]["report"] == {"due": 3, "embedded": 3, "missing": 0, "failed": []}
    assert found["embedding"]["without_frontal"] == 0
    assert found["searched"] == {"generation": 1, "images": 4, "reports": 3}
    live = found["generations"]["live"]
    assert (live["id"], live["image_rows"], live["report_rows"], live["self_found"]) == (1, 4, 3, 7)
    assert live["recall"] == 1.0 and live["engine"] == "flat" and live["least_recall"] == 0.99
    assert found["generations"]["image_beside"] == 0 and found["generations"]["others"] == []
    assert sum(found["throughput"]["taken_in"]) == found["throughput"]["taken_in_week"] == 4
    assert found["throughput"]["embedded"][-1] == found["throughput"]["embedded_week"] == 4
    assert found["backups"] == {"count": 0, "missing": 0, "last_at": None}
    assert found["disk"]["total"] > found["disk"]["free"] > 0
    assert found["sizes"]["database"] > 0 and found["sizes"]["generations"] > 0 and found["sizes"]["received"] == 0


def test_what_is_not_embedded_yet_and_what_failed_is_told_apart(own_archive: Settings) -> None:
    catalog = open_catalog(own_archive.catalog_url)
    with catalog.write() as session:
        for study, reason in ((A1, "undecodable"), (C1, "file-missing")):
            row = session.scalars(sa.select(Study).where(Study.study_instance_uid == study)).one()
            remove_embeddings(session, Embedding.study_id == row.id, Embedding.kind == IMAGE)
            session.add(
                EmbeddingFailure(
                    study_id=row.id,
                    kind=IMAGE,
                    model_fingerprint=FakeEncoder().fingerprint,
                    source_hash=row.image_source or "",
                    reason=reason,
                    detail="",
                )
            )
    catalog.close()
    with serve(own_archive) as client:
        image = parts(client)["embedding"]["image"]
    # A missing file may be mounted again: it is tried in every run, so it is not embedded *yet*.
    assert (image["due"], image["embedded"], image["missing"]) == (4, 2, 1)
    assert counts(image["failed"]) == {"undecodable": 1}


def test_studies_beside_the_generation_and_the_next_one(own_archive: Settings, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "new.dcm").write_bytes(Film("1.2.3.5", 3, patient="P5").dicom())
    take_in(own_archive, source)
    with serve(own_archive) as client:
        found = parts(client)
    assert found["generations"]["image_beside"] == 1 and found["searched"]["images"] == 5


def test_a_study_without_a_frontal_image_is_counted_apart(own_archive: Settings, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "lateral.dcm").write_bytes(Film("1.2.3.5", 3, patient="P5", view="LL").dicom())
    take_in(own_archive, source)
    with serve(own_archive) as client:
        found = parts(client)
    assert found["archive"]["studies"] == 5 and found["embedding"]["image"]["due"] == 4
    assert found["embedding"]["without_frontal"] == 1


def test_jobs_their_progress_and_their_workers(own_archive: Settings) -> None:
    settings = own_archive.model_copy(update={"receive": True})
    catalog = open_catalog(settings.catalog_url)
    with serve(settings) as client:
        for kind in ("verify", "embed", "index-build"):
            client.post("/v1/jobs", json={"kind": kind})
        ended = claim(catalog, "host:1:ab", ["verify"])
        assert ended is not None
        finish(catalog, ended, "failed", error="index-file-corrupt", detail="/a/path")
        held = claim(catalog, "host:2:cd", ["embed"])
        assert held is not None
        beat(catalog, held, 30, 120)
        reply = client.get(PATH)
        found = parts(client)
    catalog.close()
    jobs = found["jobs"]
    assert (jobs["queued"], jobs["running"], jobs["failed"]) == (1, 1, 1)
    (running,) = jobs["under_way"]
    assert (running["kind"], running["done"], running["total"]) == ("embed", 30, 120)
    assert [job["kind"] for job in jobs["ended"]] == ["verify"] and jobs["waiting_since"] is not None
    workers = {worker["name"]: worker["job_id"] for worker in jobs["workers"]}
    assert workers == {"host:1": None, "host:2": running["id"]}
    verified = found["generations"]["last_verification"]
    assert verified["state"] == "failed" and verified["error"]["slug"] == "index-file-corrupt"
    assert "/a/path" not in reply.text and "arguments" not in reply.text


def test_the_process_tells_of_its_requests_and_encoders(own_archive: Settings) -> None:
    with serve(own_archive) as client:
        client.post("/v1/search/text-to-image", json={"text": "effusion"})
        client.post("/v1/search", files=form(png()))
        client.get("/v1/studies/9.9")
        process = client.get(PATH).json()["process"]
    assert process["encoders"] == {
        "name": "unknown",
        "fingerprint": "f" * 64,
        "demo": False,
        "device": None,
        "dtype": None,
    }
    assert process["requests"] == {"2xx": 2, "4xx": 1} and process["requests_running"] == 1
    assert process["searches"]["count"] == 2 and 0 < process["searches"]["median"] <= process["searches"]["p95"]
    assert (process["decoders"], process["receives"], process["ingest_roots"]) == (0, False, [])


def test_nothing_names_a_patient_a_study_or_a_file(own_archive: Settings, source: Path) -> None:
    with serve(own_archive) as client:
        text = client.get(PATH).text
    for name in ("1.2.3.", "Secret", "P1", "P2", str(source), "slice.dcm", "effusion", "Waits"):
        assert name not in text, name


def test_an_empty_archive_has_figures_too(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    migrate(settings.catalog_url)
    with serve(settings) as client:
        found = parts(client)
    assert found["archive"]["studies"] == 0 and found["generations"]["live"] is None
    assert found["searched"] == {"generation": None, "images": 0, "reports": 0}


def test_only_administrators_may_look_and_looking_is_no_access_to_patients(
    own_archive: Settings, tmp_path: Path
) -> None:
    catalog = open_catalog(own_archive.catalog_url)
    keys = {scope: create_key(catalog, scope, [scope], "test")[0] for scope in ("search", "write", "admin")}
    with serve(own_archive) as client:
        assert client.get(PATH).status_code == 401
        for scope, expected in (("search", 403), ("write", 403), ("admin", 200)):
            response = client.get(PATH, headers={"Authorization": f"Bearer {keys[scope]}"})
            assert response.status_code == expected, scope
        assert client.get("/operations").status_code == 200  # the page, which asks for the key
    with catalog.session() as session:
        found = session.execute(sa.text("SELECT action FROM audit_entry WHERE status = 200")).scalars().all()
    catalog.close()
    assert "operations" not in found


def test_a_part_that_cannot_be_read_costs_no_other(own_archive: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(catalog: Catalog) -> None:
        raise ArchiveError("The database postgresql://alta@db cannot be used.", "database-unavailable")

    def broken(folder: Path) -> None:
        raise OSError(5, "Input/output error", "/secret/place")

    monkeypatch.setattr("service.operations.parts.archive_size", away)
    monkeypatch.setattr("service.operations.parts.received_bytes", broken)
    with serve(own_archive) as client:
        response = client.get(PATH)
    reply = response.json()
    assert response.status_code == 200 and "alta@db" not in response.text and "secret" not in response.text
    assert reply["archive"]["value"] is None and reply["archive"]["as_of"] is None
    assert reply["archive"]["problem"]["slug"] == "database-unavailable" and reply["archive"]["problem"]["title"]
    assert reply["sizes"]["problem"]["slug"] == "internal-error"
    assert reply["generations"]["value"]["live"]["id"] == 1


def test_a_database_that_goes_away_leaves_the_last_figures(
    own_archive: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(own_archive, encoder=FakeEncoder())
    with TestClient(app, base_url="http://localhost") as client:
        before = client.get(PATH).json()["jobs"]

        def away() -> None:
            raise ArchiveError("Gone.", "database-unavailable")

        for part in (part for some in app.state.operations.kept.values() for part in some):
            monkeypatch.setattr(part, "_read", away)
            monkeypatch.setattr(part, "_due", 0.0)
        after = client.get(PATH).json()["jobs"]
    assert after["value"] == before["value"] and after["as_of"] == before["as_of"] is not None
    assert after["problem"]["slug"] == "database-unavailable"


def test_a_count_that_takes_long_is_waited_for_by_nobody(
    own_archive: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Event()
    monkeypatch.setattr("service.operations.parts.archive_size", lambda catalog: counted.wait(60))
    monkeypatch.setattr("service.operations.operations.PATIENCE_S", 0.2)
    with serve(own_archive) as client:
        reply = client.get(PATH).json()
        assert reply["archive"]["problem"]["slug"] == "counting" and reply["archive"]["value"] is None
        assert reply["jobs"]["value"] is not None
        counted.set()


def test_it_is_answered_when_others_are_turned_away(own_archive: Settings) -> None:
    app = create_app(own_archive.model_copy(update={"max_requests": 1}), encoder=FakeEncoder())
    with TestClient(app, base_url="http://localhost") as client:
        layer = app.middleware_stack
        while layer is not None and not hasattr(layer, "_at_work"):
            layer = getattr(layer, "_app", getattr(layer, "app", None))
        assert layer is not None
        layer._at_work = 1
        assert client.get("/v1/model").status_code == 429
        assert client.get(PATH).status_code == 200


def test_the_reply_is_json_of_its_schema(own_archive: Settings) -> None:
    with serve(own_archive) as client:
        reply = client.get(PATH).json()
        document = client.get("/openapi.json").json()
    names = document["components"]["schemas"]
    assert set(reply) == set(names["OperationsReply"]["properties"])
    json.dumps(reply, allow_nan=False)
