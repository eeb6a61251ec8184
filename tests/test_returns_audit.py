"""What goes to other systems is in the audit, in one transaction with the row that says so."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import pytest
import sqlalchemy as sa

from index import Catalog
from index.access.audit import Event, list_entries, record_events, study_key, verify_audit
from index.keeping.delete_study import delete_study
from index.returns.audited import SENT, return_event
from index.returns.queue import EXPIRES_AFTER, note_due, sent, take_due
from index.returns.tidying import KEPT_FOR, tidy_returns
from index.tables import StudyReturn
from service.returns.sender import wanted
from tests.conftest import chest_dataset
from tests.returning import FROM_ORTHANC, HttpPeer, Returning, http_peer, named, returning, rows, sr_route
from tests.test_returns_sending import STUDY, arrive, let_time_pass


@pytest.fixture
def world(catalog: Catalog, tmp_path: Path) -> Returning:
    return returning(catalog, tmp_path / "data")


@pytest.fixture
def peer() -> Iterator[HttpPeer]:
    with http_peer() as found:
        yield found


def written(catalog: Catalog) -> list[tuple[Any, ...]]:
    """Of each entry caller, action, whose study, address; the chain is whole."""
    assert verify_audit(catalog).whole
    names = ("caller", "action", "study_key", "address")
    return [tuple(entry[name] for name in names) for entry in list_entries(catalog)]


def test_what_was_sent_and_what_was_given_up_is_in_the_audit_once(world: Returning, peer: HttpPeer) -> None:
    routes = (
        sr_route(f"{peer.url}/dicom-web"),
        sr_route(f"{peer.url}/fhir", name="emr", kind="fhir"),
        sr_route(f"{peer.url}/hook", name="ris", kind="webhook", link="https://ris.example/{study_instance_uid}"),
    )
    sender = world.sender(*routes)
    arrive(world)
    key = study_key(world.catalog, STUDY)
    peer.answers = [503, 200]
    assert sender.send_due(routes[0]) is False
    assert written(world.catalog) == []  # it is tried again
    let_time_pass(world.catalog)
    for route in routes[:2]:
        assert sender.send_due(route) is True
    sent = [("route:pacs", "result-sent sr", key, "127.0.0.1"), ("route:emr", "result-sent fhir", key, "127.0.0.1")]
    assert written(world.catalog) == sent
    peer.answers = [503]
    assert sender.send_due(routes[2]) is False
    let_time_pass(world.catalog)
    with world.catalog.write() as session:
        session.execute(sa.update(StudyReturn).values(expires_at=StudyReturn.created_at))
    sender.send_due(routes[2])
    assert rows(world.catalog)[2].given_up_at is not None
    assert written(world.catalog) == [*sent, ("route:ris", "result-given-up webhook", key, "127.0.0.1")]
    assert STUDY not in str([*list_entries(world.catalog)]) and "P1" not in str([*list_entries(world.catalog)])


def test_a_result_whose_entry_cannot_be_written_does_not_count_as_sent(
    world: Returning, peer: HttpPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = sr_route(f"{peer.url}/dicom-web")
    sender = world.sender(route)
    arrive(world)
    with monkeypatch.context() as failing:
        failing.setattr("index.returns.audited.append_events", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sender.send_due(route)
    assert rows(world.catalog)[0].sent_at is None
    let_time_pass(world.catalog)
    assert sender.send_due(route) is True
    assert len(written(world.catalog)) == 1
    bodies = [body.split(b"\r\n", 1)[1].rsplit(b"\r\n", 2)[0] for *_, body in peer.told]
    assert bodies[0] == bodies[1]  # no second document


def test_what_left_before_its_study_was_deleted_is_in_it_too(world: Returning, peer: HttpPeer) -> None:
    route = sr_route(f"{peer.url}/dicom-web")
    sender = world.sender(route)
    arrive(world)
    key = study_key(world.catalog, STUDY)
    peer.before = lambda: delete_study(world.catalog, STUDY, world.store)
    assert sender.send_due(route) is True
    assert rows(world.catalog) == []
    assert written(world.catalog) == [("route:pacs", "result-sent sr", key, "127.0.0.1")]


def test_a_state_that_was_overtaken_is_not_and_one_of_a_route_that_is_gone_is(
    world: Returning, peer: HttpPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = sr_route(f"{peer.url}/dicom-web")
    sender = world.sender(route)
    arrive(world)
    peer.answers = [503]
    assert sender.send_due(route) is False
    world.arrive(chest_dataset(study=STUDY, sop=f"{STUDY}.77", seed=5, ViewPosition="LL", **named()), by=FROM_ORTHANC)
    world.embed()
    let_time_pass(world.catalog)
    sender.send_due(route)
    sender.send_due(route)
    assert {row.last_error for row in rows(world.catalog)} == {"superseded", "http-503"}
    assert written(world.catalog) == []
    with world.catalog.write() as session:
        for row in session.scalars(sa.select(StudyReturn)):
            row.expires_at -= EXPIRES_AFTER + timedelta(minutes=1)
    assert tidy_returns(world.catalog, ["pacs"]) == 0
    assert tidy_returns(world.catalog, []) == 1
    key = study_key(world.catalog, STUDY)
    assert written(world.catalog) == [("route:pacs", "result-given-up", key, None)]


def test_who_waits_for_a_row_does_not_keep_the_audit_from_others(world: Returning) -> None:
    """Or every answer about patients would wait for whoever deletes a study."""
    catalog = world.catalog
    if catalog.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has one lock for all")
    world.sender(sr_route())
    arrive(world)
    assert note_due(catalog, wanted(sr_route()), world.encoder.fingerprint, 0.0) == 1
    taken = take_due(catalog, "pacs")
    assert taken is not None
    entry = return_event(SENT, study_key(catalog, STUDY), "pacs", "sr")
    assert_others_are_audited(catalog, lambda: sent(catalog, taken, "1.2", entry=entry))
    with catalog.write() as session:
        (row,) = session.scalars(sa.select(StudyReturn))
        row.sent_at, row.expires_at = None, row.created_at - EXPIRES_AFTER
        session.add(StudyReturn(study_id=row.study_id, route="old", source_hash="0", expires_at=row.created_at))
        session.flush()
        session.execute(
            sa.update(StudyReturn).where(StudyReturn.route == "old").values(given_up_at=row.created_at - 2 * KEPT_FOR)
        )
    assert_others_are_audited(catalog, lambda: tidy_returns(catalog, []), StudyReturn.route == "old")
    assert [entry[1] for entry in written(catalog)] == ["searched", "result-sent sr", "searched", "result-given-up"]


def assert_others_are_audited(catalog: Catalog, call: Callable[[], object], *rows_held: Any) -> None:
    """While ``call`` waits for rows that somebody else has."""
    other = Thread(target=lambda: record_events(catalog, [Event("key:viewer", "searched")]), daemon=True)
    waiting = Thread(target=call, daemon=True)
    with catalog.session() as holder, catalog.session() as looker:
        holder.execute(sa.select(StudyReturn.id).where(*rows_held).with_for_update()).all()
        waiting.start()
        until = monotonic() + 20
        while not looker.scalar(sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
            assert monotonic() < until and waiting.is_alive()
            sleep(0.02)
        other.start()
        other.join(5)
        waited = other.is_alive()
        holder.rollback()
    waiting.join(20)
    other.join(20)
    assert not waited and not waiting.is_alive()
