"""Traces: one span a request with its stages inside, part of the caller's trace, and nothing about a patient in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from model.errors import AltaError
from service.observing import Tracing, require_tracing
from tests.service_samples import A1, Film, form, serve, settings_for

pytest_plugins = ["tests.service_fixtures"]

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
IMAGE_SEARCH = "/v1/search/image-to-text"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENDPOINT, raising=False)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def client(archive_folder: Path, exporter: InMemorySpanExporter) -> Iterator[TestClient]:
    with serve(settings_for(archive_folder)) as running:
        running.app.state.resources.observer.tracing = Tracing(SimpleSpanProcessor(exporter))
        yield running


def request_and_stages(exporter: InMemorySpanExporter) -> tuple[ReadableSpan, list[ReadableSpan]]:
    spans = exporter.get_finished_spans()
    (request,) = [span for span in spans if span.kind.name == "SERVER"]
    return request, [span for span in spans if span is not request]


def test_a_search_is_one_span_with_its_stages_inside(client: TestClient, exporter: InMemorySpanExporter) -> None:
    assert client.post(IMAGE_SEARCH, files=form(Film("1.2.9.1", 1).dicom())).status_code == 200
    request, stages = request_and_stages(exporter)
    assert request.name == f"POST {IMAGE_SEARCH}"
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": IMAGE_SEARCH,
        "http.response.status_code": 200,
    }
    assert {span.name for span in stages} >= {"receive", "decode", "queue", "encode", "search", "finish"}
    for span in stages:
        assert span.parent is not None
        assert span.parent.span_id == request.context.span_id
        assert request.start_time <= span.start_time <= span.end_time <= request.end_time


def test_a_request_is_part_of_its_callers_trace(client: TestClient, exporter: InMemorySpanExporter) -> None:
    client.get(f"/v1/studies/{A1}", headers={"traceparent": CALLER})
    request, _ = request_and_stages(exporter)
    assert format(request.context.trace_id, "032x") == CALLER.split("-")[1]
    assert request.parent is not None
    assert format(request.parent.span_id, "016x") == CALLER.split("-")[2]


def test_a_problem_is_named_by_its_slug(client: TestClient, exporter: InMemorySpanExporter) -> None:
    client.get("/v1/studies/1.2.999")
    request, _ = request_and_stages(exporter)
    assert request.attributes is not None
    assert request.attributes["error.type"] == "unknown-study"
    assert request.status.status_code.name == "UNSET"  # the caller's error, as the conventions have it


def test_no_attribute_is_about_a_patient(client: TestClient, exporter: InMemorySpanExporter) -> None:
    client.post(IMAGE_SEARCH, files=form(Film("1.2.9.1", 1).dicom(), b"broken"))
    client.get(f"/v1/studies/{A1}")
    client.request("SECRET", "/secret-name")
    written = "\n".join(span.to_json() for span in exporter.get_finished_spans())
    for secret in ("Secret", "SECRET", "secret-name", A1, "1.2.9.1"):
        assert secret not in written


def test_without_a_collector_nothing_is_traced(archive_folder: Path) -> None:
    with serve(settings_for(archive_folder)) as client:
        assert client.app.state.resources.observer.tracing is None


@pytest.mark.parametrize(
    ("chosen", "endpoint", "wanted"),
    [
        ("auto", "", False),
        ("auto", "http://collector:4318", True),
        ("off", "http://collector:4318", False),
        ("on", "", True),
    ],
)
def test_who_wants_traces(chosen: str, endpoint: str, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, endpoint)
    assert require_tracing(chosen) is wanted


def test_traces_that_are_wanted_without_the_extra_are_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.observing.tracing.find_spec", lambda name: None)
    with pytest.raises(AltaError, match=r"pip install 'alta-retrieval\[traces\]'"):
        require_tracing("on")
    assert not require_tracing("auto")
