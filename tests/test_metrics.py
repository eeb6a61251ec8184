"""What Prometheus sees: every metric is documented, counts what happened, and names nobody."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from index.tables import Job
from model.errors import ArchiveError
from service.observing import ArchiveWatch, Metrics
from service.observing.watch import FAMILIES
from tests.fakes import FakeEncoder
from tests.service_samples import A1, Film, form, png, serve, settings_for

pytest_plugins = ["tests.service_fixtures"]

OPERATIONS = Path(__file__).parent.parent / "docs/operations.md"
TEXT_SEARCH = "/v1/search/text-to-image"
IMAGE_SEARCH = "/v1/search/image-to-text"


def scrape(client: TestClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Values by name and labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(client: TestClient, name: str, **labels: str) -> float:
    return scrape(client).get((name, tuple(sorted(labels.items()))), 0.0)


def test_requests_are_counted_by_method_template_and_class_of_status(archive_folder: Path) -> None:
    with serve(settings_for(archive_folder)) as client:
        for path in (f"/v1/studies/{A1}", "/v1/studies/1.2.999", "/v1/studies/1.2.998", "/nowhere"):
            client.get(path)
        name, route = "alta_http_request_duration_seconds_count", "/v1/studies/{study_instance_uid}"
        assert value(client, name, method="GET", route=route, status="2xx") == 1
        assert value(client, name, method="GET", route=route, status="4xx") == 2
        assert value(client, name, method="GET", route="-", status="4xx") == 1
        assert value(client, "alta_problems_total", reason="unknown-study") == 2
        assert value(client, "alta_http_requests_running") == 1  # the scrape itself


def test_a_method_that_is_none_gets_no_label_of_its_own(archive_folder: Path) -> None:
    with serve(settings_for(archive_folder)) as client:
        client.request("SECRET", "/livez")
        text = client.get("/metrics").text
    assert "SECRET" not in text
    assert 'method="other"' in text


def test_every_stage_of_a_search_is_timed(archive_folder: Path) -> None:
    with serve(settings_for(archive_folder)) as client:
        assert client.post(IMAGE_SEARCH, files=form(png())).status_code == 200
        counts = {
            stage: value(client, "alta_stage_duration_seconds_count", stage=stage)
            for stage in ("receive", "decode", "search", "finish")
        }
    assert counts == {"receive": 1, "decode": 1, "search": 1, "finish": 1}


def test_refused_files_are_counted_by_reason(archive_folder: Path) -> None:
    with serve(settings_for(archive_folder)) as client:
        client.post(IMAGE_SEARCH, files=form(png(), b"broken"))
        assert value(client, "alta_files_refused_total", reason="not-an-image") == 1
        assert value(client, "alta_problems_total", reason="not-an-image") == 0  # the search was answered


def test_the_archive_is_seen_as_it_is_searched(archive_folder: Path) -> None:
    with serve(settings_for(archive_folder)) as client:
        assert value(client, "alta_generation") == 1
        assert value(client, "alta_searchable_studies", kind="image") == 4
        assert value(client, "alta_embeddings_pending", kind="image") == 0
        assert value(client, "alta_database_up") == 1


def test_the_queue_and_its_batches_are_seen(archive_folder: Path) -> None:
    gate, entered = threading.Event(), threading.Event()

    class Gated(FakeEncoder):
        def encode_texts(self, texts):
            if "wait" in texts:
                entered.set()
                assert gate.wait(20)
            return super().encode_texts(texts)

    with serve(settings_for(archive_folder), Gated()) as client, ThreadPoolExecutor(2) as callers:
        before = value(client, "alta_batch_size_count", line="texts")
        ask = partial(client.post, TEXT_SEARCH)
        first = callers.submit(ask, json={"text": "wait", "evidence": False})
        assert entered.wait(20)
        second = callers.submit(ask, json={"text": "effusion", "evidence": False})
        depth = 0.0
        while not second.done() and not depth:
            depth = value(client, "alta_queue_depth", line="texts")
        gate.set()
        assert (first.result().status_code, second.result().status_code) == (200, 200)
        assert depth == 1
        assert value(client, "alta_queue_depth", line="texts") == 0
        assert value(client, "alta_batch_size_count", line="texts") == before + 2


def test_embeddings_of_other_encoders_are_pending(archive_folder: Path) -> None:
    with serve(settings_for(archive_folder), FakeEncoder(fingerprint="e" * 64)) as client:
        assert value(client, "alta_embeddings_pending", kind="image") == 4


def test_jobs_are_counted_by_state(empty_client: TestClient) -> None:
    with empty_client.app.state.resources.catalog.write() as session:
        for number, state in enumerate(("queued", "queued", "failed")):
            job = Job(id=str(number), kind="ingest", exclusive=str(number), state=state, requested_by="test")
            session.add(job)
    assert value(empty_client, "alta_jobs", state="queued") == 2
    assert value(empty_client, "alta_jobs", state="failed") == 1
    assert value(empty_client, "alta_jobs", state="running") == 0


def test_a_database_that_is_away_costs_its_gauges_only(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise ArchiveError("password=secret", "database-unavailable")

    resources = client.app.state.resources
    monkeypatch.setattr(resources.catalog, "session", away)
    found = {
        family.name: family.samples
        for family in ArchiveWatch(resources.catalog, resources.gallery, dict, dict, dict).collect()
    }
    assert [sample.value for sample in found["alta_database_up"]] == [0]
    assert [sample.value for sample in found["alta_generation"]] == [1]
    assert found["alta_jobs"] == []


def test_apps_of_one_process_count_for_themselves(archive_folder: Path) -> None:
    with serve(settings_for(archive_folder)) as one, serve(settings_for(archive_folder)) as other:
        one.post(TEXT_SEARCH, json={"text": "effusion"})
        name = "alta_stage_duration_seconds_count"
        assert (value(one, name, stage="search"), value(other, name, stage="search")) == (1, 0)


def test_an_app_that_is_started_again_can_be_scraped_again(archive_folder: Path) -> None:
    served = serve(settings_for(archive_folder))
    for _ in range(2):
        with served as client:
            assert value(client, "alta_database_up") == 1


def test_no_metric_names_a_patient_a_study_or_a_file(archive_folder: Path) -> None:
    with serve(settings_for(archive_folder)) as client:
        client.post(IMAGE_SEARCH, files=form(Film("1.2.9.1", 1).dicom(), b"broken"))
        client.post(TEXT_SEARCH, json={"text": "Secret words"})
        client.get(f"/v1/studies/{A1}")
        text = client.get("/metrics").text
    for secret in ("Secret", "secret-name", A1, "1.2.9.1"):
        assert secret not in text


def test_every_metric_is_documented_and_every_documented_metric_exists() -> None:
    table = dict(re.findall(r"^\| `(alta_\w+)` \| (.*?) \|", OPERATIONS.read_text(), re.MULTILINE))
    counted = {
        metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, ""): metric.documentation
        for metric in Metrics().registry.collect()
        if metric.name.startswith("alta_")  # those of the process are the library's
    }
    assert table == counted | {name: text for name, (text, _) in FAMILIES.items()}


def test_requests_that_are_turned_away_for_load_are_counted() -> None:
    metrics = Metrics()
    metrics.count_request("POST", TEXT_SEARCH, 429, 0.01)
    assert metrics.registry.get_sample_value("alta_too_many_requests_total") == 1
