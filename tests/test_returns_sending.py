"""Results on their way: taken once, tried again, held up by nothing but their own destination, lost by no crash."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event
from urllib.parse import unquote

import pydicom
import pytest
import sqlalchemy as sa
from pydicom import Dataset

from index import Catalog
from index.access.audit import list_entries
from index.keeping.delete_study import delete_study
from index.returns.listing import count_returns, list_returns
from index.tables import StudyReturn
from model.errors import ArchiveError
from service.jobs.webhooks import signature
from service.return_settings import ReturnRoute
from service.settings import Settings
from tests.conftest import chest_dataset
from tests.peers import free_port
from tests.returning import FROM_ORTHANC, HttpPeer, Returning, http_peer, named, returning, rows, sr_route, storage_scp

STUDY = "1.2.3.1"
# pynetdicom leaves the socket of a peer that it does not reach to the garbage collector.
unreached = pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def world(sqlite_catalog: Catalog, tmp_path: Path) -> Returning:
    return returning(sqlite_catalog, tmp_path / "data")


@pytest.fixture
def peer() -> Iterator[HttpPeer]:
    with http_peer() as found:
        yield found


def arrive(world: Returning, study: str = STUDY, seed: int = 1, **tags: object) -> None:
    """Sent and embedded."""
    world.arrive(chest_dataset(study=study, seed=seed, **named(**tags)), by=FROM_ORTHANC)
    world.embed()


def let_time_pass(catalog: Catalog, time: timedelta = timedelta(hours=2)) -> None:
    with catalog.write() as session:
        for row in session.scalars(sa.select(StudyReturn)):
            row.next_attempt_at -= time


def stow(url: str, **members: object) -> ReturnRoute:
    return sr_route(f"{url}/dicom-web", **members)


def test_a_report_goes_by_c_store_once(world: Returning) -> None:
    with storage_scp() as (address, got):
        route = sr_route(address)
        sender = world.sender(route)
        assert sender.send_due(route) is None
        arrive(world)
        assert sender.send_due(route) is True
        assert sender.send_due(route) is None
    (document,) = got
    assert (document.StudyInstanceUID, str(document.PatientName)) == (STUDY, "Secret^Patient")
    assert count_returns(world.catalog) == {"waiting": 0, "sent": 1, "given-up": 0, "superseded": 0}


@pytest.mark.parametrize(
    ("status", "state", "there"),
    [(0xB000, "sent", True), (0x0111, "sent", True), (0xC000, "waiting", True), (0xA700, "waiting", False)],
)
def test_warnings_and_what_is_there_already_count_as_sent(
    world: Returning, status: int, state: str, there: bool
) -> None:
    with storage_scp(lambda: status) as (address, _):
        route = sr_route(address)
        sender = world.sender(route)
        arrive(world)
        assert sender.send_due(route) is there  # whatever it thinks of this one, unless it has no room for any
    assert [one.state for one in list_returns(world.catalog)] == [state]
    assert rows(world.catalog)[0].last_error == (None if state == "sent" else f"status-{status:04X}")


def test_a_document_that_cannot_be_encoded_is_no_lost_association(
    world: Returning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pynetdicom.association.encode", lambda *_: None)  # of which send_c_store says ValueError
    with storage_scp() as (address, got):
        route = sr_route(address)
        sender = world.sender(route)
        arrive(world)
        assert sender.send_due(route) is True and got == []
    assert rows(world.catalog)[0].last_error == "not-made: ValueError"


def test_a_report_that_is_sent_again_is_the_same_though_the_archive_changed_meanwhile(
    world: Returning, peer: HttpPeer
) -> None:
    route = stow(peer.url)
    sender = world.sender(route)
    arrive(world)
    peer.answers = [503, 200]
    assert sender.send_due(route) is False  # which may have it all the same
    arrive(world, study="1.2.3.8", seed=8, PatientID="P8")
    world.index()
    let_time_pass(world.catalog)
    while sender.send_due(route) is not None:
        pass
    first, second = [report for report in map(report_in, peer.told) if report.StudyInstanceUID == STUDY]
    assert first == second
    assert {row.sop_instance_uid for row in rows(world.catalog)} >= {first.SOPInstanceUID}
    assert {row.made for row in rows(world.catalog)} == {None}


def test_a_report_after_another_image_names_the_one_that_it_replaces(world: Returning, peer: HttpPeer) -> None:
    route = stow(peer.url)
    sender = world.sender(route)
    arrive(world)
    assert sender.send_due(route) is True
    lateral = chest_dataset(study=STUDY, sop=f"{STUDY}.77", seed=5, ViewPosition="LL", **named())
    world.arrive(lateral, by=FROM_ORTHANC)
    world.embed()
    assert sender.send_due(route) is True
    first, second = map(report_in, peer.told)
    (study,) = second.PredecessorDocumentsSequence
    (one,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert one.ReferencedSOPInstanceUID == first.SOPInstanceUID != second.SOPInstanceUID
    assert study.ReferencedSeriesSequence[0].SeriesInstanceUID == first.SeriesInstanceUID


def report_in(told: tuple[str, str, dict[str, str], bytes]) -> Dataset:
    """What a STOW-RS request carries."""
    body = told[3]
    return pydicom.dcmread(io.BytesIO(body[body.index(b"\r\n\r\n") + 4 : body.rindex(b"\r\n--")]))


@unreached
def test_a_destination_that_is_away_or_refuses_us_is_said_and_tried_again(world: Returning) -> None:
    nowhere = sr_route(f"dicom://ORTHANC@127.0.0.1:{free_port()}")
    sender = world.sender(nowhere)
    arrive(world)
    assert sender.send_due(nowhere) is False
    assert rows(world.catalog)[0].last_error == "not-reached"
    with storage_scp() as (address, got):
        stranger = sr_route(address.replace("ORTHANC@", "ANOTHER@"))
        let_time_pass(world.catalog)
        assert world.sender(stranger).send_due(stranger) is False
        assert rows(world.catalog)[0].last_error == "association-rejected"
        let_time_pass(world.catalog)
        there = sr_route(address)
        assert world.sender(there).send_due(there) is True
    assert len(got) == 1 and rows(world.catalog)[0].attempts == 3


def test_a_report_goes_by_stow_with_credentials_and_its_failures_are_read(world: Returning, peer: HttpPeer) -> None:
    route = stow(peer.url)
    sender = world.sender(route, return_credentials={"pacs": Settings(milvus_token="Bearer abc").milvus_token})
    arrive(world)
    failed = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA700]}}]}}
    peer.answers, peer.answer = [202, 409, 401, 503, 200], json.dumps(failed).encode()
    errors = []
    for _ in range(4):
        sender.send_due(route)
        errors.append(rows(world.catalog)[0].last_error)
        let_time_pass(world.catalog)
    assert errors == ["status-A700", "status-A700", "http-401", "http-503"]
    peer.answer = b"{}"
    assert sender.send_due(route) is True and rows(world.catalog)[0].sent_at is not None
    method, path, headers, body = peer.told[-1]
    assert (method, path, headers["authorization"]) == ("POST", "/dicom-web/studies", "Bearer abc")
    assert headers["content-type"].startswith('multipart/related; type="application/dicom"')
    start = body.index(b"\r\n\r\n") + 4
    assert pydicom.dcmread(io.BytesIO(body[start:])).StudyInstanceUID == STUDY
    assert len({told[3].split(b"\r\n", 1)[1].rsplit(b"\r\n", 2)[0] for told in peer.told}) == 1  # the same each time


def test_an_instance_that_is_there_already_is_a_success(world: Returning, peer: HttpPeer) -> None:
    route = stow(peer.url)
    sender = world.sender(route)
    arrive(world)
    there = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0x0111]}}]}}
    peer.answers, peer.answer = [409], json.dumps(there).encode()
    assert sender.send_due(route) is True and rows(world.catalog)[0].sent_at is not None


@pytest.mark.parametrize("method", ["put", "conditional"])
def test_a_fhir_report_is_one_resource_however_often_it_is_sent(world: Returning, peer: HttpPeer, method: str) -> None:
    route = sr_route(f"{peer.url}/fhir", kind="fhir", method=method)
    sender = world.sender(route)
    arrive(world)
    peer.answers = [500, 201]
    assert sender.send_due(route) is False
    let_time_pass(world.catalog)
    assert sender.send_due(route) is True
    lateral = chest_dataset(study=STUDY, sop=f"{STUDY}.77", seed=5, ViewPosition="LL", **named())
    world.arrive(lateral, by=FROM_ORTHANC)
    world.embed()
    assert sender.send_due(route) is True  # its next version
    assert {(verb, path) for verb, path, _, _ in peer.told} == {peer.told[0][:2]}
    one, other, newer = peer.bodies
    assert one == other != newer
    assert isinstance(one, dict) and one["resourceType"] == "DiagnosticReport"
    verb, path = peer.told[0][:2]
    assert verb == "PUT"
    if method == "put":
        assert path == f"/fhir/DiagnosticReport/{one['id']}"
    else:
        number = one["identifier"][0]["value"]
        assert "id" not in one and unquote(path) == f"/fhir/DiagnosticReport?identifier=urn:ietf:rfc:3986|{number}"


def test_an_image_with_several_values_is_given_up_at_once_and_a_mended_one_goes_back(
    world: Returning, peer: HttpPeer
) -> None:
    route = sr_route(f"{peer.url}/fhir", kind="fhir")
    sender = world.sender(route)
    arrive(world, AccessionNumber=["A1", "A2"])
    assert sender.send_due(route) is True and peer.told == []  # of the study, not of the destination
    (given_up,) = list_returns(world.catalog, state="given-up")
    assert (given_up.error, given_up.attempts) == ("several-values", 1)
    assert [entry["action"] for entry in list_entries(world.catalog)] == ["result-given-up fhir"]
    let_time_pass(world.catalog)
    assert sender.send_due(route) is None
    arrive(world, AccessionNumber="A1")  # the same image, mended
    assert sender.send_due(route) is True and len(peer.told) == 1


def test_a_webhook_is_signed_and_tells_only_what_its_route_names(world: Returning, peer: HttpPeer) -> None:
    route = sr_route(f"{peer.url}/alta", kind="webhook", tells=["study_instance_uid"])
    signed = Settings(webhook_origins=(peer.url,), webhook_secret=SECRET)  # type: ignore[arg-type]
    sender = world.sender(route, webhook_origins=(peer.url,), webhook_secret=signed.webhook_secret)
    arrive(world)
    peer.answers = [503, 204]
    assert sender.send_due(route) is False
    let_time_pass(world.catalog)
    assert sender.send_due(route) is True
    (_, _, before, _), (_, path, headers, body) = peer.told
    assert path == "/alta" and headers["webhook-id"] == before["webhook-id"]
    told = json.loads(body)
    assert told["type"] == "study.embedded" and told["data"] == {"route": "pacs", "study_instance_uid": STUDY}
    expected = signature(signed.webhook_key, headers["webhook-id"], int(headers["webhook-timestamp"]), body.decode())
    assert headers["webhook-signature"] == expected


def test_a_study_that_is_deleted_while_its_document_is_made_is_not_sent(
    world: Returning, peer: HttpPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = stow(peer.url)
    sender = world.sender(route)
    arrive(world)

    def made(material: object) -> Dataset:
        delete_study(world.catalog, STUDY, world.store)
        return Dataset()

    monkeypatch.setattr("service.returns.sender.structured_report", made)
    assert sender.send_due(route) is True
    assert peer.told == [] and rows(world.catalog) == []


def test_a_header_that_no_document_can_be_made_of_holds_nothing_up(
    world: Returning, peer: HttpPeer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from service.returns import sender as module

    made = module.structured_report

    def fails_once(material: object) -> Dataset:
        monkeypatch.setattr(module, "structured_report", made)
        raise ValueError(f"{material.headers[0].PatientName} is no name")  # type: ignore[attr-defined]

    monkeypatch.setattr(module, "structured_report", fails_once)
    route = stow(peer.url)
    sender = world.sender(route)
    arrive(world)
    arrive(world, study="1.2.3.2", seed=2, PatientID="P2")
    assert sender.send_due(route) is True and sender.send_due(route) is True
    assert len(peer.told) == 1
    assert {row.last_error for row in rows(world.catalog)} == {"not-made: ValueError", None}
    assert "Secret" not in caplog.text and STUDY not in caplog.text


def test_without_a_live_generation_results_wait(sqlite_catalog: Catalog, tmp_path: Path, peer: HttpPeer) -> None:
    world = Returning(sqlite_catalog, Settings(data_dir=tmp_path, min_free_mb=0))
    route = stow(peer.url)
    sender = world.sender(route)
    arrive(world)
    assert sender.send_due(route) is True and peer.told == []
    assert rows(sqlite_catalog)[0].last_error == "empty-index"
    world.index()
    let_time_pass(sqlite_catalog)
    assert sender.send_due(route) is True and len(peer.told) == 1


def test_two_senders_do_not_send_one_result_twice(catalog: Catalog, tmp_path: Path, peer: HttpPeer) -> None:
    world = returning(catalog, tmp_path / "data")
    route = stow(peer.url)
    senders = [world.sender(route) for _ in range(2)]
    for number in range(6):
        arrive(world, study=f"1.2.3.{number}", seed=number, PatientID=f"P{number}")
    errors: list[Exception] = []

    def send(sender: object) -> None:
        try:
            while sender.send_due(route) is not None:  # type: ignore[attr-defined]
                pass
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=send, args=(sender,)) for sender in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == [] and len(peer.told) == 6
    assert count_returns(catalog)["sent"] == 6


@unreached
def test_a_dead_destination_holds_up_no_other_and_a_lost_database_costs_time_only(
    world: Returning, peer: HttpPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.returns.sender.POLL_S", 0.01)
    monkeypatch.setattr("service.returns.sender.AWAY_S", 0.01)
    from service.returns import sender as module

    looking = module.take_due
    away = [ArchiveError("Away.", "database-unavailable")]

    def away_once(catalog: Catalog, route: str) -> object:
        if away:
            raise away.pop()
        return looking(catalog, route)

    monkeypatch.setattr(module, "take_due", away_once)
    came, told = Event(), Event()
    peer.before = came.set
    dead = sr_route(f"dicom://ORTHANC@127.0.0.1:{free_port()}", name="dead")
    sender = world.sender(dead, stow(peer.url))
    arrive(world)
    running = threading.Thread(target=sender.run, args=(told,))
    running.start()
    assert came.wait(60)
    told.set()
    running.join(60)
    assert not running.is_alive()
    assert {one.route: one.state for one in list_returns(world.catalog)}["dead"] == "waiting"


@pytest.mark.slow
def test_killed_while_it_sends_the_same_document_goes_again_and_is_no_second_one(
    world: Returning, tmp_path: Path, peer: HttpPeer
) -> None:
    route = stow(peer.url)
    world.sender(route)
    arrive(world)
    asked, go_on = Event(), Event()

    def hold() -> None:
        asked.set()
        go_on.wait(60)

    peer.before = hold
    environment = os.environ | {"ALTA_RETURN_ROUTES": json.dumps([route.model_dump(mode="json")])}
    command = [sys.executable, "-m", "tests.returning_slowly", world.catalog.url, str(world.settings.data_dir)]
    process = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[1])
    assert asked.wait(60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    go_on.set()
    assert rows(world.catalog)[0].sent_at is None and rows(world.catalog)[0].attempts == 1
    let_time_pass(world.catalog)
    peer.before = lambda: None
    assert world.sender(route).send_due(route) is True
    first, second = (told[3].split(b"\r\n", 1)[1].rsplit(b"\r\n", 2)[0] for told in peer.told)
    assert first == second
