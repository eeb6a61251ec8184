"""The Python client on the running service: every operation, blocking and asyncio, and what is sent again."""

import asyncio
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from alta_client import AsyncClient, Client, ClientError, JobFailed, Problem, Retries, SearchOptions, Unreachable
from alta_client import messages as client_messages
from alta_client import operations as client_operations

from index import open_catalog
from index.tables import Job
from service.app import create_app
from service.settings import Settings
from tests.live_service import live
from tests.service_samples import A1, Film, png, settings_for

pytest_plugins = ["tests.service_fixtures"]

CLIENT = Path(__file__).parent.parent / "clients/python"
OPENAPI = Path(__file__).parent.parent / "docs/openapi.json"
FILM = Film("1.2.9.1", 1).dicom()
REPORT = {
    "resourceType": "DiagnosticReport",
    "status": "final",
    "identifier": [{"system": "urn:oid:1.2.3", "value": "F1"}],
    "code": {"text": "XR Chest"},
    "imagingStudy": [{"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{A1}"}}],
    "presentedForm": [{"contentType": "text/plain", "data": "RklORElOR1M6IENsZWFyIGx1bmdzLg=="}],
}


@pytest.fixture(scope="module")
def data(archive_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client") / "data"
    shutil.copytree(archive_folder, folder)
    return folder


@pytest.fixture(scope="module")
def url(data: Path) -> Iterator[str]:
    with live(settings_for(data, receive=True)) as running:
        yield running


@pytest.fixture
def alta(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


# On the running service


def test_searches_by_files_by_archived_study_and_by_text(alta: Client, tmp_path: Path) -> None:
    path = tmp_path / "film.png"
    path.write_bytes(png())
    for file in (path, str(path), png(), io.BytesIO(png())):
        reply = alta.search([file], views=["PA"], check_image=False, options={"top_k": 2, "rank_by": "image"})
        assert len(reply["hits"]) == 2
    assert alta.search(study_instance_uid=A1)["hits"]
    assert alta.search(text="effusion", filters={"sex": ["F"], "age_min": 1})["hits"]
    assert alta.similar(A1, options={"top_k": 1})["hits"]
    assert alta.similar_by_accession("A1", options={"top_k": 1})["hits"]


def test_hits_go_on_over_pages(alta: Client) -> None:
    options: SearchOptions = {"top_k": 1, "group_reports": False}
    hits = list(alta.hits(alta.search(text="effusion", options=options)))
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4]


def test_findings_maps_studies_and_images(alta: Client) -> None:
    found = alta.zero_shot([FILM], labels=["Pneumothorax", "No Finding"])
    assert [label["name"] for label in found["labels"]] == ["Pneumothorax", "No Finding"]
    prompt: client_messages.PromptSet = {"name": "rib", "positive": ["rib fracture"], "negative": ["intact ribs"]}
    assert alta.zero_shot([FILM], prompts=[prompt])["findings"][0]["name"] == "rib"
    assert alta.study(A1)["study"]["study_instance_uid"] == A1
    assert alta.study_by_accession("A1", date="2020-01-01") == alta.study(A1)
    assert alta.image(A1, size=32).startswith(b"\x89PNG")
    assert alta.model()["max_top_k"] == 100
    assert alta.ready()["status"] == "ok"
    assert alta.overview()["archive"]["value"] is not None


def test_what_is_written(alta: Client, tmp_path: Path) -> None:
    path = tmp_path / "film.dcm"
    path.write_bytes(Film("1.2.9.2", 2).dicom())
    stored = alta.store_studies([path, io.BytesIO(Film("1.2.9.2", 3).dicom())])
    assert [file["status"] for file in stored["files"]] == ["accepted", "accepted"]
    assert alta.store_studies([b"no DICOM file"])["files"][0]["status"] == "refused"  # which is a result
    assert alta.send_fhir(REPORT)["reports"][0]["status"] == "matched"
    assert alta.send_report({"study_instance_uid": "1.2.9.2", "text": "Clear."})["reports"][0]["status"] == "matched"
    assert alta.delete_study("1.2.9.2", dry_run=True)["images"] == 2
    assert alta.delete_study("1.2.9.2")["reports"] == 1
    alta.restore_study("1.2.9.2")


def test_jobs_are_asked_for_waited_for_and_called_off(alta: Client, data: Path) -> None:
    job = alta.start_job("index-build", keep=3)
    assert (job["state"], job["arguments"]["keep"]) == ("queued", 3)
    assert job["id"] in [other["id"] for other in alta.jobs(state="queued")["jobs"]]
    with pytest.raises(ClientError, match="not ended within"):
        alta.wait_for_job(job["id"], poll_s=0.01, timeout_s=0.02)
    alta.cancel_job(job["id"])
    with pytest.raises(JobFailed, match="cancelled"):
        alta.wait_for_job(job["id"])
    with open_catalog(settings_for(data).catalog_url).write() as session:
        session.get_one(Job, job["id"]).state = "succeeded"
    assert alta.wait_for_job(job["id"])["state"] == "succeeded"


def test_problems_are_exceptions_with_their_slug(alta: Client) -> None:
    with pytest.raises(Problem, match="unknown-study") as caught:
        alta.study("1.2.999")
    problem = caught.value
    assert (problem.status, problem.slug) == (404, "unknown-study")
    assert problem.request_id == problem.document["request_id"]


def test_everything_may_be_awaited_as_well(url: str, tmp_path: Path) -> None:
    path = tmp_path / "film.dcm"
    path.write_bytes(Film("1.2.9.3", 2).dicom())

    async def ask() -> None:
        async with AsyncClient(url) as alta:
            replies = await asyncio.gather(*(alta.search([path], options={"top_k": 1}) for _ in range(3)))
            assert [reply["hits"][0]["rank"] for reply in replies] == [1, 1, 1]
            hits = [hit async for hit in alta.hits(await alta.search(text="effusion", options={"top_k": 2}))]
            assert len(hits) >= 2
            assert (await alta.store_studies([path]))["studies"] == ["1.2.9.3"]
            with pytest.raises(Problem, match="unknown-study"):
                await alta.study("1.2.999")

    asyncio.run(ask())


def test_names_of_files_are_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "Secret^Patient.dcm"
    path.write_bytes(FILM)
    bodies: list[bytes] = []

    def keep(request: httpx.Request) -> httpx.Response:
        bodies.append(request.read())
        return httpx.Response(200, json={})

    alta = scripted(keep)
    alta.search([path])
    alta.store_studies([path])
    assert len(bodies) == 2
    assert not any(b"Secret^Patient.dcm" in body for body in bodies)
    assert all(FILM in body for body in bodies)


# What is sent again

Answer = Callable[[httpx.Request], httpx.Response]
QUICK = Retries(most=3, first_s=0.0)


def scripted(answer: Answer, retries: Retries = QUICK, **options: Any) -> Client:
    transport = httpx.MockTransport(answer)
    return Client("http://alta.example", retries=retries, http=httpx.Client(transport=transport), **options)


def script(*outcomes: httpx.Response | Exception) -> tuple[Answer, list[httpx.Request]]:
    """Answers one after the other, and the requests that came."""
    left, seen = list(outcomes), []

    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        seen.append(request)
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return answer, seen


def problem(status: int, slug: str, **headers: str) -> httpx.Response:
    body = {"type": f"/problems/{slug}", "status": status, "detail": "later", "request_id": "r1"}
    return httpx.Response(status, json=body, headers={"content-type": "application/problem+json", **headers})


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the blocking client would have slept."""
    waited: list[float] = []
    monkeypatch.setattr("alta_client.client.time.sleep", waited.append)
    return waited


OK = httpx.Response(200, json={"reports": []})
BUSY = problem(429, "overloaded", **{"retry-after": "7"})
AWAY = problem(503, "archive-error")


@pytest.mark.parametrize("outcome", [BUSY, AWAY, httpx.ConnectError("refused"), httpx.ReadError("broken")])
def test_a_query_is_sent_again_whatever_kept_it_from_an_answer(outcome: Any, waits: list[float]) -> None:
    answer, seen = script(outcome, OK)
    assert scripted(answer).model() == {"reports": []}
    assert len(seen) == 2
    assert len(waits) == 1


def test_retry_after_is_kept(waits: list[float]) -> None:
    scripted(script(BUSY, OK)[0]).model()
    assert waits == [7.0]


def test_waits_double_up_to_a_limit_and_vary(waits: list[float]) -> None:
    answer, _ = script(*[AWAY] * 6, OK)
    scripted(answer, Retries(most=6, patience_s=1000, first_s=1.0, longest_s=4.0)).model()
    for wait, longest in zip(waits, (1, 2, 4, 4, 4, 4), strict=True):
        assert longest / 2 <= wait <= longest


def test_it_gives_up_after_so_many_times_with_the_last_problem(waits: list[float]) -> None:
    answer, seen = script(*[AWAY] * 4)
    with pytest.raises(Problem, match="archive-error"):
        scripted(answer).model()
    assert len(seen) == 4


def test_it_does_not_wait_longer_than_its_patience(waits: list[float]) -> None:
    answer, seen = script(BUSY)
    with pytest.raises(Problem, match="overloaded"):
        scripted(answer, Retries(patience_s=5)).model()
    assert (len(seen), waits) == (1, [])


@pytest.mark.parametrize(
    ("outcome", "again"),
    [(BUSY, True), (httpx.ConnectError("refused"), True), (AWAY, False), (httpx.ReadError("broken"), False)],
)
def test_a_job_is_asked_for_again_only_where_it_cannot_have_been_accepted(
    outcome: Any, again: bool, waits: list[float]
) -> None:
    answer, seen = script(outcome, OK)
    alta = scripted(answer)
    if again:
        alta.start_job("embed")
    else:
        with pytest.raises((Problem, Unreachable)):
            alta.start_job("embed")
    assert len(seen) == 1 + again


def test_writes_that_count_once_are_sent_again_whole(waits: list[float], tmp_path: Path) -> None:
    path = tmp_path / "film.dcm"
    path.write_bytes(FILM)
    answer, seen = script(AWAY, OK, AWAY, OK)
    alta = scripted(answer)
    alta.store_studies([path, io.BytesIO(FILM)])
    alta.send_fhir(REPORT)
    assert [request.content.count(FILM) for request in seen[:2]] == [2, 2]
    assert json.loads(seen[3].content) == REPORT


def test_a_stream_that_cannot_be_rewound_is_sent_once(waits: list[float]) -> None:
    class Once(io.BytesIO):
        def seekable(self) -> bool:
            return False

    answer, seen = script(AWAY)
    with pytest.raises(Problem, match="archive-error"):
        scripted(answer).search([Once(FILM)])
    assert len(seen) == 1


def test_readiness_is_an_answer_and_is_not_waited_for(waits: list[float]) -> None:
    body = {"status": "unavailable", "reasons": ["stopping"], "generation": None}
    answer, seen = script(httpx.Response(503, json=body))
    assert scripted(answer).ready()["reasons"] == ["stopping"]
    assert len(seen) == 1


def test_an_answer_that_is_no_problem_document_is_told_as_one(waits: list[float]) -> None:
    with pytest.raises(Problem, match="unexpected-answer") as caught:
        scripted(script(httpx.Response(502, text="<html>proxy</html>"))[0]).model()
    assert caught.value.status == 502


def test_no_service_at_all_is_unreachable(waits: list[float]) -> None:
    with pytest.raises(Unreachable, match="ConnectError"), Client("http://127.0.0.1:9", retries=QUICK) as alta:
        alta.model()
    assert len(waits) == 3


def test_the_key_is_sent_as_a_bearer_token() -> None:
    answer, seen = script(OK)
    scripted(answer, api_key="alta_key").model()
    assert seen[0].headers["authorization"] == "Bearer alta_key"


# In step with the service


def test_messages_are_those_of_the_committed_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CLIENT))
    from generate_messages import generate

    committed = (CLIENT / "alta_client/messages.py").read_text()
    command = "python generate_messages.py ../../docs/openapi.json > alta_client/messages.py"
    assert committed == generate(json.loads(OPENAPI.read_text())), f"run in clients/python: {command}"


def test_a_search_can_say_all_that_the_service_understands() -> None:
    document = create_app(Settings()).openapi()
    body = document["paths"]["/v1/search"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    schemas = document["components"]["schemas"]
    form = schemas[body["$ref"].rpartition("/")[2]]
    parts = [form, *(schemas[part["$ref"].rpartition("/")[2]] for part in form.get("allOf", []))]
    said = set(SearchOptions.__annotations__) | set(client_messages.SearchFilters.__annotations__)
    said |= {"files", "study_instance_uid", "text", "views", "prior_files", "prior_views", "find_prior", "check_image"}
    assert said == {field for part in parts for field in part["properties"]}


def test_every_operation_is_a_method_of_both_clients() -> None:
    for name in client_operations.__all__:
        if name[0].islower():
            for client in (Client, AsyncClient):
                assert getattr(client, name).__doc__, name


def test_the_package_needs_nothing_but_httpx() -> None:
    found = (CLIENT / "pyproject.toml").read_text()
    assert 'dependencies = ["httpx>=0.28,<1"]' in found
    imported = {
        line.split()[1].split(".")[0]
        for path in (CLIENT / "alta_client").glob("*.py")
        for line in path.read_text().splitlines()
        if line.startswith(("import ", "from ")) and not line.startswith("from .")
    }
    assert imported - set(sys.stdlib_module_names) == {"httpx"}
