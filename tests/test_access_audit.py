"""Every answer about patients is in the audit before it leaves, or does not leave."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from index import Catalog, migrate, open_catalog
from index.access.audit import Event, list_entries, record_events, study_key, verify_audit
from index.catalog import ACCESS_LOCK, WRITER_LOCK
from model.errors import ArchiveError
from service.access.audit_writer import AuditWriter
from service.app import create_app
from tests.fakes import FakeEncoder
from tests.live_service import live
from tests.service_samples import A1, A2, Film, form, serve, settings_for
from tests.test_access import QUERY, TEXT, CardOf, folder, key, opened, problem, raising

pytest_plugins = ["tests.service_fixtures"]

__all__ = ["folder", "key"]

Entries = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    """The service on an archive whose audit is this test's own."""
    with serve(settings_for(folder, receive=True)) as running:
        yield running


@pytest.fixture
def entries(folder: Path) -> Entries:
    """Those that were written since the test began; other tests read the archive that this one's is a copy of."""

    def read() -> list[dict[str, Any]]:
        with opened(folder) as catalog:
            return list(list_entries(catalog))

    before = len(read())
    return lambda: read()[before:]


def test_an_entry_says_who_asked_what_about_which_study_from_where_with_how_many_results(
    folder: Path, key: CardOf, entries: Entries
) -> None:
    mine = key("search")
    before = len(entries())
    with serve(settings_for(folder)) as client:
        film = Film("1.2.9.1", 1, patient="P9").dicom()
        answer = client.post("/v1/search/image-to-text", files=form(film), headers=mine | {"X-Request-ID": "pacs-42"})
    (entry,) = entries()[before:]
    with opened(folder) as catalog:
        expected = study_key(catalog, "1.2.9.1")
    assert entry["caller"].startswith("key:") and entry["caller"][4:] in mine["Authorization"]
    assert (entry["action"], entry["status"], entry["request_id"]) == ("image_to_text", 200, "pacs-42")
    assert (entry["study_key"], entry["results"]) == (expected, len(answer.json()["hits"]))


def test_the_address_is_the_peers(archive_folder: Path, folder: Path, key: CardOf, entries: Entries) -> None:
    app = create_app(settings_for(folder), encoder=FakeEncoder())
    with TestClient(app, base_url="http://localhost", client=("10.0.0.7", 4711)) as client:
        answer = client.get(f"/v1/studies/{A1}", headers=key("search") | {"X-Forwarded-For": "10.9.9.9"})
    assert answer.status_code == 200
    assert entries()[-1]["address"] == "10.0.0.7"


@pytest.mark.parametrize(
    ("path", "action", "status"),
    [
        (f"/v1/studies/{A1}", "study", 200),
        (f"/v1/studies/{A1}/image", "image", 200),
        ("/v1/studies/1.2.3.99", "study", 404),
        ("/v1/studies/1.2.3.99/image?size=1", "image", 422),
    ],
)
def test_looking_at_a_study_is_written_down_whatever_the_answer(
    client: TestClient, entries: Entries, folder: Path, path: str, action: str, status: int
) -> None:
    assert client.get(path).status_code == status
    (entry,) = entries()
    with opened(folder) as catalog:
        asked = study_key(catalog, path.split("/")[3].partition("?")[0])
    assert (entry["caller"], entry["action"], entry["status"], entry["study_key"]) == (
        "anonymous",
        action,
        status,
        asked,
    )


def test_an_archived_study_that_is_asked_with_is_named(client: TestClient, entries: Entries, folder: Path) -> None:
    answer = client.post("/v1/search", data={"study_instance_uid": A2})
    (entry,) = entries()
    with opened(folder) as catalog:
        assert entry["study_key"] == study_key(catalog, A2)
    assert (entry["action"], entry["results"]) == ("search", len(answer.json()["hits"]))


def test_a_study_that_is_found_by_its_accession_number_is_named(
    client: TestClient, entries: Entries, folder: Path
) -> None:
    assert client.get("/v1/studies", params={"accession_number": "A2"}).status_code == 200
    assert client.get("/v1/studies", params={"accession_number": "none"}).status_code == 404
    found, unknown = entries()
    with opened(folder) as catalog:
        assert found["study_key"] == study_key(catalog, A2)
    assert (found["action"], found["status"]) == ("study_by_accession", 200)
    assert (unknown["action"], unknown["status"], unknown["study_key"]) == ("study_by_accession", 404, None)


def test_what_is_sent_is_written_down_with_each_of_its_studies(
    client: TestClient, entries: Entries, folder: Path
) -> None:
    films = [Film("1.2.9.1", 1).dicom(), Film("1.2.9.2", 2).dicom()]
    parts = [b"--x\r\nContent-Type: application/dicom\r\n\r\n" + film + b"\r\n" for film in films]
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'}
    assert client.post("/dicomweb/studies", content=b"".join(parts) + b"--x--\r\n", headers=kind).status_code == 200
    with opened(folder) as catalog:
        keys = {study_key(catalog, uid) for uid in ("1.2.9.1", "1.2.9.2")}
    written = entries()
    assert {entry["study_key"] for entry in written} == keys
    assert {(entry["action"], entry["results"]) for entry in written} == {("store_instances", 2)}


def test_pages_health_and_the_model_card_are_not_written_down(client: TestClient, entries: Entries) -> None:
    for path in ("/", "/livez", "/readyz", "/v1/model", "/openapi.json", "/nothing/here"):
        client.get(path)
    assert entries() == []


def test_who_is_not_let_in_is_not_written_down_but_who_lacks_a_scope_is(
    folder: Path, key: CardOf, entries: Entries
) -> None:
    headers = key("write")
    before = len(entries())
    with serve(settings_for(folder)) as client:
        assert client.get(f"/v1/studies/{A1}").status_code == 401
        assert client.get(f"/v1/studies/{A1}", headers=headers).status_code == 403
    (entry,) = entries()[before:]
    assert (entry["action"], entry["status"]) == ("study", 403)


def test_neither_text_nor_report_nor_uid_nor_file_name_is_in_it(client: TestClient, entries: Entries) -> None:
    client.post(TEXT, json={"text": "secret words"})
    client.post("/v1/search/image-to-text", files=form(Film("1.2.9.1", 1, patient="P9").dicom()))
    client.get(f"/v1/studies/{A1}")
    written = str(entries())
    for secret in ("secret", "1.2.9.1", A1, "P9", "opacity", "Secret"):
        assert secret not in written


def test_without_an_entry_there_is_no_answer(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = ArchiveError("gone", "database-unavailable")
    monkeypatch.setattr("service.access.audit_writer.record_events", raising(gone))
    for answer in (
        client.get(f"/v1/studies/{A1}"),
        client.post(TEXT, json=QUERY),
        client.get(f"/v1/studies/{A1}/image"),
    ):
        assert problem(answer) == (503, "audit-unavailable")
        assert "opacity" not in answer.text and answer.headers["content-type"] == "application/problem+json"
    assert client.get("/livez").status_code == 200


def test_the_answer_waits_for_its_entry(client: TestClient, entries: Entries, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def slow(catalog: Catalog, events: list[Event]) -> None:
        reached.set()
        assert go_on.wait(10)
        record_events(catalog, events)

    monkeypatch.setattr("service.access.audit_writer.record_events", slow)
    with ThreadPoolExecutor(1) as caller:
        asked = caller.submit(client.get, f"/v1/studies/{A1}")
        assert reached.wait(10)
        assert not asked.done() and entries() == []
        go_on.set()
        assert asked.result().status_code == 200
    assert len(entries()) == 1


def test_an_answer_does_not_wait_for_the_audit_for_ever(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr("service.access.audit_writer.WAIT_SECONDS", 0.05)
    monkeypatch.setattr("service.access.audit_writer.record_events", lambda *_: go_on.wait(10))
    assert problem(client.get(f"/v1/studies/{A1}")) == (503, "audit-unavailable")
    go_on.set()


def test_entries_that_wait_share_a_transaction_and_the_chain_stays_whole(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on, sizes = threading.Event(), threading.Event(), []

    def counted(catalog: Catalog, events: list[Event]) -> None:
        reached.set()
        assert go_on.wait(10)
        sizes.append(len(events))
        record_events(catalog, events)

    monkeypatch.setattr("service.access.audit_writer.record_events", counted)
    writer = AuditWriter(catalog)

    async def ask() -> None:
        first = asyncio.create_task(writer.write([Event("a", "study")]))
        await asyncio.to_thread(reached.wait, 10)
        others = [asyncio.create_task(writer.write([Event("b", "study")])) for _ in range(31)]
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(first, *others)

    asyncio.run(ask())
    writer.close()
    assert sizes == [1, 31]
    assert verify_audit(catalog).whole and verify_audit(catalog).entries == 32


def test_two_replicas_write_one_chain(catalog: Catalog) -> None:
    writers = [AuditWriter(catalog) for _ in range(2)]

    async def ask() -> None:
        await asyncio.gather(*(writer.write([Event("a", "study")]) for _ in range(20) for writer in writers))

    asyncio.run(ask())
    for writer in writers:
        writer.close()
    assert verify_audit(catalog).whole and verify_audit(catalog).entries == 40


def test_what_waits_is_written_when_the_service_ends(catalog: Catalog) -> None:
    writer = AuditWriter(catalog)

    async def ask() -> None:
        task = asyncio.create_task(writer.write([Event("a", "study")]))
        await asyncio.sleep(0)
        writer.close()
        await task

    asyncio.run(ask())
    assert verify_audit(catalog).entries == 1


def test_on_postgresql_a_long_ingest_does_not_hold_the_audit_up(postgres_url: str) -> None:
    migrate(postgres_url)
    catalog = open_catalog(postgres_url)
    with catalog.write(WRITER_LOCK):
        record_events(catalog, [Event("a", "study")])
        with catalog.engine.connect() as connection:
            assert connection.exec_driver_sql(
                f"SELECT pg_try_advisory_xact_lock({ACCESS_LOCK}), pg_try_advisory_xact_lock({WRITER_LOCK})"
            ).one() == (True, False)
    catalog.close()


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        (("127.0.0.1",), "6.6.6.6, 10.0.0.9", "10.0.0.9"),
        (("127.0.0.1", "10.0.0.0/8"), "172.16.0.1, 10.0.0.9", "172.16.0.1"),
        (("127.0.0.1",), "no address", None),
        (("10.0.0.1",), "6.6.6.6", "127.0.0.1"),
        ((), "6.6.6.6", "127.0.0.1"),
    ],
)
def test_only_a_trusted_proxy_says_where_a_request_comes_from(
    folder: Path, key: CardOf, entries: Entries, trusted: tuple[str, ...], forwarded: str, address: str | None
) -> None:
    headers = key("search") | {"X-Forwarded-For": forwarded}
    with live(settings_for(folder, trusted_proxies=trusted)) as url:
        assert httpx.get(f"{url}/v1/studies/{A1}", headers=headers).status_code == 200
    assert entries()[-1]["address"] == address
