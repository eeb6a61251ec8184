"""By which door a study came is kept, and from that what is to be sent back: once a state of a study and a route."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

from index import Catalog, ReceivedStore, ingest_received, migrate, open_catalog
from index.intake.arrival import DICOM, STOW, Arrival
from index.keeping.delete_study import delete_study, preview_deletion
from index.keeping.forget import forget_patient, preview_forget
from index.keeping.forgotten import NamedPatient
from index.listeners.storage_scp import StorageScp
from index.returns import queue
from index.returns.listing import count_returns, list_returns, retry_returns
from index.returns.queue import (
    EXPIRES_AFTER,
    LEASE_S,
    WITHIN,
    Wanted,
    begin_routes,
    give_up,
    keep_made,
    later,
    note_due,
    sent,
    still_wanted,
    take_due,
)
from index.returns.tidying import KEPT_FOR, tidy_returns
from index.tables import Instance, Setting, StudyArrival, StudyReturn
from service.returns.diagnostic_report import diagnostic_report
from service.returns.structured_report import structured_report, written
from service.settings import Settings
from tests.conftest import chest_dataset
from tests.fakes import FakeEncoder
from tests.peers import file_bytes
from tests.returning import FROM_ORTHANC, Returning, named, rows
from tests.service_samples import Film, serve, settings_for
from tests.test_returns_documents import material

ROUTE = Wanted("pacs", ((DICOM, "ORTHANC"),))
MODEL = FakeEncoder().fingerprint


@pytest.fixture
def world(catalog: Catalog, tmp_path: Path) -> Returning:
    begin_routes(catalog, ["pacs"])
    return Returning(catalog, Settings(data_dir=tmp_path / "data", min_free_mb=0))


def arrivals(catalog: Catalog) -> list[tuple[str, str]]:
    with catalog.session() as session:
        found = session.scalars(sa.select(StudyArrival).order_by(StudyArrival.id))
        return [(row.door, row.sender) for row in found]


def due(world: Returning, quiet_s: float = 0.0, route: Wanted = ROUTE) -> int:
    return note_due(world.catalog, route, MODEL, quiet_s)


def let_time_pass(catalog: Catalog, time: timedelta) -> None:
    with catalog.write() as session:
        for row in session.scalars(sa.select(StudyReturn)):
            row.next_attempt_at -= time
            row.expires_at -= time
            row.created_at -= time
        for arrival in session.scalars(sa.select(StudyArrival)):
            arrival.arrived_at -= time


def test_the_door_is_kept_with_the_study_and_what_was_fetched_has_none(world: Returning) -> None:
    world.arrive(chest_dataset(study="1.2.3.1", seed=1))
    world.arrive(chest_dataset(study="1.2.3.2", seed=2), by=Arrival(STOW))
    world.arrive(chest_dataset(study="1.2.3.3", seed=3), by=None)
    assert arrivals(world.catalog) == [("dicom", "ORTHANC"), ("stow", "")]


def test_a_copy_of_what_came_otherwise_is_an_arrival_and_sent_again_no_new_one(world: Returning) -> None:
    image = chest_dataset(study="1.2.3.1", seed=1)
    world.arrive(image, by=None)
    other = file_bytes(image).replace(b"PYDICOM", b"PYDICOX")  # the same object, by another sender's software
    world.store.keep(other, arrival=FROM_ORTHANC)
    ingest_received(world.catalog, world.store, workers=0)
    assert arrivals(world.catalog) == [("dicom", "ORTHANC")]
    with world.catalog.session() as session:
        first = session.scalars(sa.select(StudyArrival.arrived_at)).one()
    world.arrive(image)
    with world.catalog.session() as session:
        assert session.scalars(sa.select(StudyArrival.arrived_at)).one() == first


def test_every_door_says_which_it_is(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, receive=True, min_free_mb=0)
    migrate(settings.catalog_url)
    one, other, third = (Film(f"1.2.3.{number}", number).dicom() for number in (1, 2, 3))
    stow = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n--b--\r\n"
    with serve(settings) as client:
        content = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
        assert client.post("/dicomweb/studies", content=stow, headers=content).status_code == 200
        assert client.post("/v1/studies", files={"files": other}).status_code == 200
    catalog, store = open_catalog(settings.catalog_url), ReceivedStore(settings.received_dir, 0)
    for fetching in (True, False):  # what a C-MOVE of ours brings did not arrive by itself
        scp = StorageScp(store, allowed=["MODALITY"], fetching=fetching)
        port = scp.start(port=0)
        send_as("MODALITY", port, third)
        scp.stop()
        ingest_received(catalog, store, workers=0)
        assert arrivals(catalog) == [("stow", ""), ("form", ""), *([] if fetching else [("dicom", "MODALITY")])]
    catalog.close()


def send_as(title: str, port: int, data: bytes) -> None:
    """C-STORE of one DX image."""
    image = pydicom.dcmread(io.BytesIO(data))
    entity = AE(title)
    entity.add_requested_context(image.SOPClassUID, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title="ALTA")
    assert association.send_c_store(image).Status == 0x0000
    association.release()


def test_an_object_that_waits_when_its_process_dies_keeps_its_door(world: Returning) -> None:
    world.store.keep(file_bytes(chest_dataset()), arrival=FROM_ORTHANC)
    (waiting,) = ReceivedStore(world.store.folder).waiting()
    assert waiting.arrival == FROM_ORTHANC
    waiting.marker.write_bytes(b'{"door": "di')  # cut off with the power
    assert ReceivedStore(world.store.folder).waiting()[0].arrival is None


def test_a_study_is_due_once_it_is_embedded_and_quiet(world: Returning) -> None:
    world.arrive(chest_dataset())
    assert due(world) == 0
    world.embed()
    assert due(world, quiet_s=60.0) == 0
    let_time_pass(world.catalog, timedelta(seconds=61))
    with world.catalog.write() as session:  # the route was there before
        session.scalars(sa.select(Setting).where(Setting.name == "return-route:pacs")).one().value = "2020-01-01T00:00"
    assert due(world, quiet_s=60.0) == 1
    assert due(world) == 0


def test_only_what_came_by_the_route_and_since_it_holds(world: Returning) -> None:
    world.arrive(chest_dataset(study="1.2.3.1", seed=1), by=Arrival(DICOM, "OTHER"))
    world.arrive(chest_dataset(study="1.2.3.2", seed=2), by=Arrival(STOW))
    world.embed()
    assert due(world) == 0
    assert due(world, route=Wanted("new", ((DICOM, None), (STOW, None)))) == 0  # nobody has begun it
    begin_routes(world.catalog, ["new"])
    assert due(world, route=Wanted("new", ((DICOM, None), (STOW, None)))) == 0
    world.arrive(chest_dataset(study="1.2.3.3", seed=3), by=Arrival(DICOM, "OTHER"))
    world.embed()
    assert due(world, route=Wanted("new", ((DICOM, None), (STOW, None)))) == 1


def test_what_was_embedded_long_after_it_came_is_not_returned(world: Returning) -> None:
    world.arrive(chest_dataset())
    world.embed()
    with world.catalog.write() as session:
        session.scalars(sa.select(Setting).where(Setting.name == "return-route:pacs")).one().value = "2020-01-01T00:00"
    let_time_pass(world.catalog, WITHIN + timedelta(minutes=1))
    assert due(world) == 0


def test_another_image_makes_another_state_and_a_prior_that_comes_late_does_not(world: Returning) -> None:
    world.arrive(chest_dataset(study="1.2.3.1", seed=1, StudyDate="20240301"))
    world.embed()
    assert due(world) == 1
    world.arrive(chest_dataset(study="1.2.3.0", seed=9, StudyDate="20230101"), by=None)  # of the same patient, fetched
    world.embed()
    assert due(world) == 0
    lateral = chest_dataset(study="1.2.3.1", sop="1.2.3.1.77", seed=5, ViewPosition="LL", StudyDate="20240301")
    world.arrive(lateral)
    world.embed()
    assert due(world) == 1
    assert len({row.source_hash for row in rows(world.catalog)}) == 2
    taken = [take_due(world.catalog, "pacs") for _ in range(2)]
    assert [one.number for one in taken if one] == [1, 2]  # Instance Numbers of one series


def test_a_state_that_was_overtaken_before_it_was_sent_gives_way_to_the_new_one(world: Returning) -> None:
    world.arrive(chest_dataset(study="1.2.3.1", seed=1, StudyDate="20240301"))
    world.embed()
    assert due(world) == 1
    world.arrive(chest_dataset(study="1.2.3.0", seed=9, StudyDate="20230101"), by=None)
    world.embed()
    taken = take_due(world.catalog, "pacs")
    assert taken is not None and still_wanted(world.catalog, taken) == "superseded"
    give_up(world.catalog, taken, "superseded")
    assert due(world) == 1  # nothing has gone back yet
    counts = count_returns(world.catalog)
    assert (counts["given-up"], counts["superseded"], counts["waiting"]) == (0, 1, 1)
    assert retry_returns(world.catalog) == 1  # what is waiting, alone


def test_a_state_that_was_overtaken_unsent_and_comes_back_is_returned(world: Returning) -> None:
    world.arrive(chest_dataset(study="1.2.3.1", seed=1, StudyDate="20240301"))
    world.embed()
    assert due(world) == 1
    (first,) = rows(world.catalog)
    world.arrive(chest_dataset(study="1.2.3.0", seed=9, StudyDate="20230101"), by=None)
    world.embed()
    taken = take_due(world.catalog, "pacs")
    assert taken is not None
    give_up(world.catalog, taken, "superseded")
    delete_study(world.catalog, "1.2.3.0", world.store)  # the prior; the study is as it was
    world.embed()
    assert due(world) == 1
    again = take_due(world.catalog, "pacs")
    assert again is not None and (again.id, again.source_hash, again.attempt) == (first.id, first.source_hash, 2)
    assert still_wanted(world.catalog, again) is None and due(world) == 0


def test_old_studies_that_arrive_now_are_not_returned(world: Returning) -> None:
    """A PACS that is migrated sends ten years of studies, and must not be sent as many results."""
    today = datetime.now(UTC).date()
    for number, days in enumerate((0, 6, 30, 3000)):
        date = f"{today - timedelta(days=days):%Y%m%d}"
        world.arrive(chest_dataset(study=f"1.2.3.{number}", seed=number, PatientID=f"P{number}", StudyDate=date))
    world.arrive(chest_dataset(study="1.2.3.9", seed=9, PatientID="P9", StudyDate=None))
    world.embed()
    assert due(world, route=replace(ROUTE, max_age_days=7)) == 3  # those of a week, and the undated one
    found = {one.study_instance_uid for one in list_returns(world.catalog)}
    assert found == {"1.2.3.0", "1.2.3.1", "1.2.3.9"}
    assert due(world) == 2


def test_a_look_makes_so_many_rows_and_the_next_the_others(world: Returning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "AT_ONCE", 2)
    for number in range(3):
        world.arrive(chest_dataset(study=f"1.2.3.{number}", seed=number, PatientID=f"P{number}"))
    world.embed()
    assert [due(world) for _ in range(3)] == [2, 1, 0]


def test_a_study_is_quiet_when_no_image_comes_by_any_door(world: Returning) -> None:
    world.arrive(chest_dataset(study="1.2.3.1", seed=1))
    let_time_pass(world.catalog, timedelta(seconds=61))
    with world.catalog.write() as session:
        session.scalars(sa.select(Setting).where(Setting.name == "return-route:pacs")).one().value = "2020-01-01T00:00"
    lateral = chest_dataset(study="1.2.3.1", sop="1.2.3.1.77", seed=5, ViewPosition="LL")
    world.arrive(lateral, by=Arrival(STOW))
    world.embed()
    assert due(world, quiet_s=60.0) == 0
    let_time_pass(world.catalog, timedelta(seconds=61))
    assert due(world, quiet_s=60.0) == 1


def test_what_was_made_is_kept_until_it_is_sent_and_names_no_study_that_is_gone(world: Returning) -> None:
    world.arrive(*(chest_dataset(study=f"1.2.3.{one}", seed=one, PatientID=f"P{one}") for one in (1, 2)))
    world.embed()
    due(world)
    taken = take_due(world.catalog, "pacs")
    assert taken is not None and taken.made is None
    assert keep_made(world.catalog, taken, "result", ["1.2.3.2"])
    assert not keep_made(world.catalog, taken, "result", ["1.2.3.99"])
    later(world.catalog, taken, "not-reached")
    delete_study(world.catalog, "1.2.3.2", world.store)
    let_time_pass(world.catalog, timedelta(minutes=2))
    again = take_due(world.catalog, "pacs")
    assert again is not None and again.made is None
    assert not keep_made(world.catalog, taken, "result", [])  # who had it before
    assert keep_made(world.catalog, again, "result", []) and rows(world.catalog)[0].made == "result"
    assert sent(world.catalog, again, "1.2.3.4.5")
    (row,) = rows(world.catalog)
    assert (row.made, row.sop_instance_uid) == (None, "1.2.3.4.5")


def test_rows_that_nobody_takes_any_more_come_to_an_end(world: Returning) -> None:
    world.arrive(*(chest_dataset(study=f"1.2.3.{one}", seed=one, PatientID=f"P{one}") for one in (1, 2, 3)))
    world.embed()
    due(world)
    first, second = (take_due(world.catalog, "pacs") for _ in range(2))
    assert first is not None and second is not None
    sent(world.catalog, first, "1.2.3.4.5")
    give_up(world.catalog, second, "not-reached")
    assert tidy_returns(world.catalog, []) == 0
    let_time_pass(world.catalog, EXPIRES_AFTER + timedelta(minutes=1))
    assert tidy_returns(world.catalog, ["pacs"]) == 0  # its sender sees to it
    assert tidy_returns(world.catalog, ["other"]) == 1
    assert [one.error for one in list_returns(world.catalog, state="given-up")] == ["expired", "not-reached"]
    with world.catalog.write() as session:
        for row in session.scalars(sa.select(StudyReturn).where(StudyReturn.given_up_at.is_not(None))):
            row.given_up_at = row.created_at - KEPT_FOR
    assert tidy_returns(world.catalog, []) == 2
    let_time_pass(world.catalog, 2 * WITHIN)
    assert tidy_returns(world.catalog, []) == 3 and arrivals(world.catalog) == []
    assert [row.sop_instance_uid for row in rows(world.catalog)] == ["1.2.3.4.5"]  # what receivers have


def test_a_study_that_is_sent_here_again_years_later_does_not_go_back_again(world: Returning) -> None:
    """That is what the row of a result that was sent is kept for: by then, nothing else says so."""
    image = chest_dataset()
    world.arrive(image)
    world.embed()
    due(world)
    taken = take_due(world.catalog, "pacs")
    assert taken is not None and sent(world.catalog, taken, "1.2.3.4.5")
    with world.catalog.write() as session:
        for row in session.scalars(sa.select(StudyReturn)):
            row.sent_at = row.created_at
    let_time_pass(world.catalog, timedelta(days=1000))
    assert tidy_returns(world.catalog, ["pacs"]) == 1 and arrivals(world.catalog) == []
    # A PACS that is migrated, by other software: the same object, not the same bytes.
    world.store.keep(file_bytes(image).replace(b"PYDICOM", b"PYDICOX"), arrival=FROM_ORTHANC)
    ingest_received(world.catalog, world.store, workers=0)
    assert arrivals(world.catalog) == [("dicom", "ORTHANC")]
    assert due(world) == 0
    with world.catalog.write() as session:
        session.execute(sa.delete(StudyReturn))
    assert due(world) == 1  # as it would without the row


def test_one_whose_header_was_changed_on_its_way_is_another_state_that_age_alone_keeps_back(world: Returning) -> None:
    image = chest_dataset()
    world.arrive(image)
    world.embed()
    due(world)
    taken = take_due(world.catalog, "pacs")
    assert taken is not None and sent(world.catalog, taken, "1.2.3.4.5")
    let_time_pass(world.catalog, timedelta(days=1000))
    tidy_returns(world.catalog, ["pacs"])
    image.InstitutionName = "New PACS"
    world.arrive(image)
    world.embed()
    assert due(world, route=replace(ROUTE, max_age_days=7)) == 0
    assert due(world) == 1


def test_a_row_is_one_senders_until_its_time_is_over(world: Returning) -> None:
    world.arrive(chest_dataset())
    world.embed()
    due(world)
    first = take_due(world.catalog, "pacs")
    assert first is not None and take_due(world.catalog, "pacs") is None
    assert take_due(world.catalog, "other") is None
    let_time_pass(world.catalog, timedelta(seconds=LEASE_S + 1))  # the first one died, or hangs
    second = take_due(world.catalog, "pacs")
    assert second is not None and second.attempt == 2
    assert still_wanted(world.catalog, first) == "taken-over" and still_wanted(world.catalog, second) is None
    assert not sent(world.catalog, first)
    assert sent(world.catalog, second)
    assert count_returns(world.catalog) == {"waiting": 0, "sent": 1, "given-up": 0, "superseded": 0}
    let_time_pass(world.catalog, timedelta(days=1))
    assert take_due(world.catalog, "pacs") is None


def test_what_was_not_taken_waits_longer_each_time_and_is_given_up_after_a_week(world: Returning) -> None:
    world.arrive(chest_dataset())
    world.embed()
    due(world)
    waits = []
    for _ in range(3):
        taken = take_due(world.catalog, "pacs")
        assert taken is not None
        later(world.catalog, taken, "not-reached")
        (row,) = rows(world.catalog)
        waits.append(row.next_attempt_at - row.created_at)
        let_time_pass(world.catalog, timedelta(minutes=2))
    assert row.attempts == 3 and row.last_error == "not-reached"
    let_time_pass(world.catalog, timedelta(days=8))
    taken = take_due(world.catalog, "pacs")
    assert taken is not None
    later(world.catalog, taken, "not-reached")
    (found,) = list_returns(world.catalog, state="given-up")
    assert (found.study_instance_uid, found.attempts, found.error) == ("1.2.3.1", 4, "not-reached")
    assert list_returns(world.catalog, state="sent") == []
    assert retry_returns(world.catalog, study_instance_uid="1.2.3.99") == 0
    assert retry_returns(world.catalog, route="pacs") == 1
    assert take_due(world.catalog, "pacs") is not None


def test_rows_go_with_a_study_that_is_deleted_or_whose_patient_is_forgotten(world: Returning) -> None:
    world.arrive(chest_dataset(study="1.2.3.1", seed=1), chest_dataset(study="1.2.3.2", seed=2, PatientID="P2"))
    world.embed()
    assert due(world) == 2
    first, second = take_due(world.catalog, "pacs"), take_due(world.catalog, "pacs")
    assert first is not None and second is not None
    world.arrive(chest_dataset(study="1.2.3.3", seed=3, PatientID="P2"))
    world.embed()
    due(world)
    third = take_due(world.catalog, "pacs")
    assert third is not None and sent(world.catalog, third, "1.2.9")
    (had,) = preview_deletion(world.catalog, "1.2.3.3", world.store).sent_back
    assert (had.route, had.sop_instance_uid, had.sent_at) == ("pacs", "1.2.9", rows(world.catalog)[-1].sent_at)
    assert preview_deletion(world.catalog, "1.2.3.1", world.store).sent_back == ()
    delete_study(world.catalog, "1.2.3.1", world.store)
    left = {row.study_id for row in rows(world.catalog)}
    assert len(left) == 2 and len(arrivals(world.catalog)) == 2
    world.index()
    patient = NamedPatient("P2", None)
    assert preview_forget(world.catalog, patient, world.store).sent_back == {"pacs": 1}
    done = forget_patient(world.catalog, patient, store=world.store, generations=world.settings.generations_dir)
    assert done.sent_back == {"pacs": 1} and done.complete
    assert rows(world.catalog) == [] and arrivals(world.catalog) == []
    for taken in (first, second):
        assert still_wanted(world.catalog, taken) == "gone"
        assert not sent(world.catalog, taken)


def test_our_own_results_are_refused_and_leave_no_copy(world: Returning) -> None:
    world.arrive(chest_dataset(study="1.2.3.1", **named()))
    data = written(structured_report(material()))
    world.store.keep(data, arrival=FROM_ORTHANC)
    summary = ingest_received(world.catalog, world.store, workers=0)
    assert summary.refused == {"own-result": 1} and summary.report_rows == set()
    with world.catalog.session() as session:
        (row,) = session.scalars(sa.select(Instance).where(Instance.reason == "own-result"))
        assert not Path(row.path).exists()
    world.store.keep(io.BytesIO(data), arrival=FROM_ORTHANC)  # whenever it comes
    assert ingest_received(world.catalog, world.store, workers=0).refused == {"own-result": 1}


def test_our_own_results_are_no_failure_over_http(tmp_path: Path) -> None:
    """A router that sends everything back hears success for the structured report, and why not for the FHIR report."""
    settings = settings_for(tmp_path, receive=True, min_free_mb=0)
    migrate(settings.catalog_url)
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + written(structured_report(material())) + b"\r\n--b--\r\n"
    with serve(settings) as client:
        content = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
        assert client.post("/dicomweb/studies", content=body, headers=content).status_code == 200
        answer = client.post("/v1/reports/fhir", json=diagnostic_report(material()))
        assert answer.status_code == 409 and "own-result" in answer.text
