"""Jobs are done once at a time by whoever takes them, outlive their workers, and end in one transaction."""

import json
import threading
from datetime import timedelta
from threading import Event

import pytest
import sqlalchemy as sa

from index import Catalog, migrate, open_catalog
from index.jobs import lease as leases
from index.jobs.holding import hold
from index.jobs.lease import LEASE_S, MAX_LOST, Lease, beat, claim, finish, give_back
from index.jobs.queue import KEPT, MAX_QUEUED, cancel, enqueue, list_jobs, read_job
from index.jobs.records import JobRecord
from index.tables import Job, WebhookDelivery
from model.errors import ArchiveError

KINDS = ("embed", "verify")


def ask(catalog: Catalog, kind: str = "embed", exclusive: str | None = None, webhook: str | None = None) -> JobRecord:
    return enqueue(catalog, kind, {"size": 1}, exclusive=exclusive or kind, requested_by="test", webhook=webhook)


def take(catalog: Catalog, worker: str = "one") -> Lease:
    found = claim(catalog, worker, KINDS)
    assert found is not None
    return found


def fall_silent(catalog: Catalog, lease: Lease) -> None:
    """As if the worker had not been heard of for as long as a lease lasts."""
    with catalog.write() as session:
        job = session.get_one(Job, lease.job.id)
        assert job.heartbeat_at is not None
        job.heartbeat_at -= timedelta(seconds=LEASE_S + 1)


def deliveries(catalog: Catalog) -> list[WebhookDelivery]:
    with catalog.session() as session:
        return list(session.scalars(sa.select(WebhookDelivery)))


def test_a_job_waits_runs_and_ends(catalog: Catalog) -> None:
    asked = ask(catalog)
    assert (asked.state, asked.arguments, asked.attempts) == ("queued", {"size": 1}, 0)
    held = take(catalog)
    assert read_job(catalog, asked.id).state == "running" and held.job.id == asked.id
    assert beat(catalog, held, 3, 10).held
    running = read_job(catalog, asked.id)
    assert (running.done, running.total, running.worker) == (3, 10, "one")
    assert finish(catalog, held, "succeeded", result={"images": 10}, progress=(10, 10))
    ended = read_job(catalog, asked.id)
    assert (ended.state, ended.result, ended.done) == ("succeeded", {"images": 10}, 10)
    assert ended.created_at <= ended.started_at <= ended.finished_at  # type: ignore[operator]


def test_the_oldest_job_that_may_run_is_taken(catalog: Catalog) -> None:
    first, second, third = ask(catalog), ask(catalog), ask(catalog, "verify")
    assert take(catalog).job.id == first.id
    assert take(catalog).job.id == third.id  # the second must not run beside the first
    assert claim(catalog, "one", KINDS) is None
    with catalog.session() as session:
        assert session.get_one(Job, second.id).state == "queued"


def test_a_worker_takes_only_its_kinds(catalog: Catalog) -> None:
    ask(catalog)
    assert claim(catalog, "one", ("verify",)) is None
    assert claim(catalog, "one", ("embed",)) is not None


def test_many_workers_at_once_take_a_job_once(catalog: Catalog, url: str) -> None:
    asked = {ask(catalog, exclusive=str(number)).id for number in range(6)}
    taken: list[str] = []
    together = threading.Barrier(4)

    def work(name: str) -> None:
        own = open_catalog(url)
        together.wait(30)
        while (found := claim(own, name, KINDS)) is not None:
            taken.append(found.job.id)
        own.close()

    workers = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(taken) == len(asked) and set(taken) == asked


def test_the_database_refuses_a_second_one_whatever_a_worker_tries(catalog: Catalog) -> None:
    ask(catalog)
    ask(catalog)
    take(catalog)
    with pytest.raises(sa.exc.IntegrityError), catalog.write() as session:
        session.execute(sa.update(Job).where(Job.state == "queued").values(state="running"))


def test_a_job_whose_worker_is_silent_is_anothers(catalog: Catalog) -> None:
    ask(catalog)
    lost = take(catalog, "one")
    assert claim(catalog, "two", KINDS) is None
    fall_silent(catalog, lost)
    found = take(catalog, "two")
    assert found.job.id == lost.job.id and (found.job.attempts, found.job.lost) == (2, 1)


@pytest.mark.parametrize("again", ["one", "two"])
def test_who_lost_a_job_writes_nothing_more(catalog: Catalog, again: str) -> None:
    """Not even where the same process has it again."""
    asked = ask(catalog, webhook="https://pacs.example/told")
    lost = take(catalog, "one")
    fall_silent(catalog, lost)
    found = take(catalog, again)
    assert not beat(catalog, lost, 9, 9).held
    assert not finish(catalog, lost, "failed", error="broken")
    assert not give_back(catalog, lost)
    assert read_job(catalog, asked.id).state == "running" and deliveries(catalog) == []
    assert finish(catalog, found, "succeeded") and len(deliveries(catalog)) == 1


def test_a_job_that_loses_every_worker_has_failed(catalog: Catalog) -> None:
    asked = ask(catalog, webhook="https://pacs.example/told")
    for _ in range(MAX_LOST):
        fall_silent(catalog, take(catalog))
    assert claim(catalog, "last", KINDS) is None
    ended = read_job(catalog, asked.id)
    assert (ended.state, ended.error, ended.lost) == ("failed", "worker-lost", MAX_LOST)
    assert json.loads(deliveries(catalog)[0].body)["data"]["error"] == "worker-lost"


def test_a_job_may_be_given_back_as_often_as_workers_are_restarted(catalog: Catalog) -> None:
    asked = ask(catalog)
    for _ in range(MAX_LOST + 1):
        assert give_back(catalog, take(catalog))
        assert read_job(catalog, asked.id).state == "queued"
    assert (read_job(catalog, asked.id).attempts, read_job(catalog, asked.id).lost) == (MAX_LOST + 1, 0)


def test_an_attempt_that_the_database_stopped_counts(catalog: Catalog) -> None:
    asked = ask(catalog)
    for _ in range(MAX_LOST):
        give_back(catalog, take(catalog), failure=("database-unavailable", "It was away."))
    ended = read_job(catalog, asked.id)
    assert (ended.state, ended.error, ended.detail) == ("failed", "database-unavailable", "It was away.")


def test_a_job_that_waits_is_cancelled_at_once(catalog: Catalog) -> None:
    asked = ask(catalog, webhook="https://pacs.example/told")
    assert cancel(catalog, asked.id).state == "cancelled"
    assert claim(catalog, "one", KINDS) is None
    assert cancel(catalog, asked.id).state == "cancelled" and len(deliveries(catalog)) == 1


def test_a_running_job_hears_that_it_is_cancelled(catalog: Catalog) -> None:
    ask(catalog)
    held = take(catalog)
    running = cancel(catalog, held.job.id)
    assert running.state == "running" and running.cancel_requested
    assert beat(catalog, held).cancel
    finish(catalog, held, "cancelled")
    assert cancel(catalog, held.job.id).state == "cancelled"


@pytest.mark.parametrize("how", ["silent", "given back"])
def test_a_cancelled_job_is_not_begun_again(catalog: Catalog, how: str) -> None:
    ask(catalog)
    held = take(catalog)
    cancel(catalog, held.job.id)
    if how == "silent":
        fall_silent(catalog, held)
    else:
        give_back(catalog, held)
    assert claim(catalog, "two", KINDS) is None
    assert read_job(catalog, held.job.id).state == "cancelled"


def test_an_end_that_is_not_committed_tells_nobody(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(catalog, webhook="https://pacs.example/told")
    held = take(catalog)
    ending = leases.end

    def broken(*arguments: object, **more: object) -> None:
        ending(*arguments, **more)  # type: ignore[arg-type]
        raise RuntimeError("killed before the commit")

    monkeypatch.setattr(leases, "end", broken)
    with pytest.raises(RuntimeError):
        finish(catalog, held, "succeeded")
    assert read_job(catalog, held.job.id).state == "running" and deliveries(catalog) == []


def test_jobs_are_listed_newest_first(sqlite_catalog: Catalog) -> None:
    ids = [ask(sqlite_catalog, kind).id for kind in ("embed", "verify", "embed")]
    take(sqlite_catalog)
    assert [job.id for job in list_jobs(sqlite_catalog)] == ids[::-1]
    assert [job.id for job in list_jobs(sqlite_catalog, kind="embed", state="queued")] == [ids[2]]
    assert [job.id for job in list_jobs(sqlite_catalog, limit=1)] == [ids[2]]


def test_an_unknown_job_is_said_to_be(sqlite_catalog: Catalog) -> None:
    for act in (read_job, cancel):
        with pytest.raises(ArchiveError) as caught:
            act(sqlite_catalog, "nobody")
        assert caught.value.slug == "unknown-job"


def test_the_queue_is_bounded(sqlite_catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_QUEUED >= 100
    monkeypatch.setattr("index.jobs.queue.MAX_QUEUED", 2)
    ask(sqlite_catalog)
    ask(sqlite_catalog)
    with pytest.raises(ArchiveError) as caught:
        ask(sqlite_catalog)
    assert caught.value.slug == "too-many-jobs"


def test_the_record_of_a_job_stays_for_a_while_and_then_goes(catalog: Catalog) -> None:
    old, waiting = ask(catalog, "embed", webhook="https://pacs.example/told"), ask(catalog, "verify")
    finish(catalog, take(catalog), "succeeded")
    ask(catalog)
    assert read_job(catalog, old.id).state == "succeeded"
    with catalog.write() as session:
        for job in session.scalars(sa.select(Job)):
            job.created_at -= KEPT * 2
            job.finished_at = job.finished_at and job.finished_at - KEPT * 2
    ask(catalog)
    with pytest.raises(ArchiveError):
        read_job(catalog, old.id)
    assert read_job(catalog, waiting.id).state == "queued" and deliveries(catalog) == []


def test_no_heartbeat_waits_for_a_writer(postgres_url: str) -> None:
    """On PostgreSQL: a long transaction must not cost a worker its lease. On SQLite there is one lock for all."""
    migrate(postgres_url)
    catalog = open_catalog(postgres_url)
    with catalog.write():
        ask(catalog)
        assert beat(catalog, take(catalog)).held
    catalog.close()


# Holding


@pytest.fixture
def held(sqlite_catalog: Catalog) -> Lease:
    ask(sqlite_catalog)
    return take(sqlite_catalog)


def test_the_work_hears_of_a_cancellation_and_its_progress_is_seen(sqlite_catalog: Catalog, held: Lease) -> None:
    with hold(sqlite_catalog, held, told=Event(), every=0.01) as holding:
        holding.progress(2, 5)
        cancel(sqlite_catalog, held.job.id)
        assert holding.stop.wait(30) and holding.cancelled and not holding.lost
    assert read_job(sqlite_catalog, held.job.id).done == 2


def test_the_work_hears_that_its_worker_lost_the_job(sqlite_catalog: Catalog, held: Lease) -> None:
    fall_silent(sqlite_catalog, held)
    take(sqlite_catalog, "two")
    with hold(sqlite_catalog, held, told=Event(), every=0.01) as holding:
        assert holding.stop.wait(30) and holding.lost


def test_the_work_hears_that_its_worker_has_to_end(sqlite_catalog: Catalog, held: Lease) -> None:
    told = Event()
    with hold(sqlite_catalog, held, told=told, every=60) as holding:
        told.set()
        assert holding.stop.wait(30) and not holding.lost and not holding.cancelled


def test_a_heartbeat_without_a_database_is_tried_again(
    sqlite_catalog: Catalog, held: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([ArchiveError("Away.", "database-unavailable")])
    beating, came = beat, Event()

    def away_once(*arguments: object) -> leases.Beat:
        for error in answers:
            raise error
        came.set()
        return beating(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("index.jobs.holding.beat", away_once)
    with hold(sqlite_catalog, held, told=Event(), every=0.01) as holding:
        assert came.wait(30)
    assert not holding.stop.is_set()
