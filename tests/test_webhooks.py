"""Webhooks: signed, to configured origins, again and again until they are taken, and never anywhere else."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from index import Catalog
from index.jobs.deliveries import GIVEN_UP_AFTER, Delivery, deliveries_of, later, take_due
from index.jobs.lease import claim, finish
from index.jobs.queue import enqueue
from index.tables import WebhookDelivery
from index.tables.base import now
from model.errors import ArchiveError
from service.jobs.webhooks import Courier, origin_of, signature
from service.settings import Settings

# The example of the Standard Webhooks specification.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Receiver:
    """A server that answers as it is told: status codes in turn, the last one for ever."""

    url: str = ""
    answers: list[int] = field(default_factory=lambda: [200])
    told: list[tuple[str, dict[str, str], str]] = field(default_factory=list)  # path, headers, body
    before: Callable[[], None] = lambda: None


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    state = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            state.told.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            state.before()
            status = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{state.url}/elsewhere")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def settings(tmp_path: Path, receiver: Receiver) -> Settings:
    return Settings(data_dir=tmp_path, webhook_origins=(receiver.url,), webhook_secret=SECRET)  # type: ignore[arg-type]


def end_a_job(catalog: Catalog, url: str) -> str:
    """A job that is to tell a URL, and has ended."""
    job = enqueue(catalog, "ingest", {"path": "/DOE^JOHN"}, exclusive="ingest", requested_by="test", webhook=url)
    held = claim(catalog, "one", ["ingest"])
    assert held is not None
    finish(catalog, held, "failed", result={"accepted": 3}, error="worker-lost", detail="/DOE^JOHN")
    return job.id


def message(catalog: Catalog, job_id: str) -> Delivery:
    return deliveries_of(catalog, [job_id])[job_id]


def let_time_pass(catalog: Catalog, time: timedelta) -> None:
    with catalog.write() as session:
        for row in session.scalars(sa.select(WebhookDelivery)):
            row.next_attempt_at -= time
            row.created_at -= time


def test_the_end_of_a_job_is_told_signed_and_without_names(
    catalog: Catalog, settings: Settings, receiver: Receiver
) -> None:
    job_id = end_a_job(catalog, f"{receiver.url}/alta?site=north")
    Courier(settings, catalog).deliver_due()
    ((path, headers, body),) = receiver.told
    assert path == "/alta?site=north" and headers["content-type"] == "application/json"
    told = json.loads(body)
    assert told["type"] == "job.failed" and told["data"] == {
        "id": job_id,
        "kind": "ingest",
        "state": "failed",
        "error": "worker-lost",
        "result": {"accepted": 3},
    }
    assert "DOE" not in body
    expected = signature(settings.webhook_key, headers["webhook-id"], int(headers["webhook-timestamp"]), body)
    assert headers["webhook-signature"] == expected
    assert message(catalog, job_id).state == "delivered"
    Courier(settings, catalog).deliver_due()
    assert len(receiver.told) == 1


def test_the_signature_is_that_of_the_specification() -> None:
    """https://github.com/standard-webhooks/standard-webhooks: the example that its libraries are tested with."""
    key = Settings(webhook_secret=SECRET).webhook_key  # type: ignore[arg-type]
    assert signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}') == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 5), (2, 10), (5, 80), (11, 3600), (30, 3600)])
def test_the_wait_doubles_up_to_an_hour_and_is_never_the_same(
    sqlite_catalog: Catalog, attempt: int, seconds: float
) -> None:
    job_id = end_a_job(sqlite_catalog, "https://a.example")
    delivery = take_due(sqlite_catalog)
    assert delivery is not None
    waits = set()
    for _ in range(2):
        before = now()
        later(sqlite_catalog, replace(delivery, attempts=attempt), "http-503")
        waits.add((message(sqlite_catalog, job_id).next_attempt_at - before).total_seconds())
    assert len(waits) == 2 and all(0.5 * seconds <= wait <= 1.5 * seconds + 30 for wait in waits)


def test_what_was_not_taken_is_told_again(catalog: Catalog, settings: Settings, receiver: Receiver) -> None:
    receiver.answers = [503, 404, 200]
    job_id = end_a_job(catalog, receiver.url)
    courier = Courier(settings, catalog)
    courier.deliver_due()
    first = message(catalog, job_id)
    assert (first.state, first.attempts, first.last_error) == ("waiting", 1, "http-503")
    courier.deliver_due()
    assert len(receiver.told) == 1  # not yet
    for _ in range(2):
        let_time_pass(catalog, timedelta(minutes=1))
        courier.deliver_due()
    assert message(catalog, job_id).state == "delivered" and message(catalog, job_id).attempts == 3
    assert len({headers["webhook-id"] for _, headers, _ in receiver.told}) == 1


def test_a_message_is_given_up_after_a_day(catalog: Catalog, settings: Settings, receiver: Receiver) -> None:
    receiver.answers = [500]
    job_id = end_a_job(catalog, receiver.url)
    let_time_pass(catalog, GIVEN_UP_AFTER)
    Courier(settings, catalog).deliver_due()
    assert (message(catalog, job_id).state, message(catalog, job_id).last_error) == ("given-up", "http-500")
    let_time_pass(catalog, timedelta(days=2))
    Courier(settings, catalog).deliver_due()
    assert len(receiver.told) == 1


def test_who_wants_no_more_is_told_no_more(sqlite_catalog: Catalog, settings: Settings, receiver: Receiver) -> None:
    receiver.answers = [410]
    job_id = end_a_job(sqlite_catalog, receiver.url)
    Courier(settings, sqlite_catalog).deliver_due()
    assert message(sqlite_catalog, job_id).state == "given-up"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(
    sqlite_catalog: Catalog, settings: Settings, receiver: Receiver, status: int
) -> None:
    receiver.answers = [status, 200]
    job_id = end_a_job(sqlite_catalog, receiver.url)
    Courier(settings, sqlite_catalog).deliver_due()
    assert [path for path, _, _ in receiver.told] == ["/"]
    assert message(sqlite_catalog, job_id).last_error == f"http-{status}"


def test_who_is_on_the_list_no_more_is_told_nothing(
    sqlite_catalog: Catalog, tmp_path: Path, receiver: Receiver
) -> None:
    job_id = end_a_job(sqlite_catalog, receiver.url)
    for closed in (
        Settings(data_dir=tmp_path),
        Settings(data_dir=tmp_path, webhook_origins=("https://other.example",), webhook_secret=SECRET),  # type: ignore[arg-type]
    ):
        Courier(closed, sqlite_catalog).deliver_due()
    assert receiver.told == [] and message(sqlite_catalog, job_id).last_error == "origin-not-allowed"


def test_a_receiver_that_is_slow_or_away_is_tried_again(
    sqlite_catalog: Catalog, settings: Settings, receiver: Receiver
) -> None:
    go_on = Event()
    receiver.before = lambda: go_on.wait(30) and None
    job_id = end_a_job(sqlite_catalog, receiver.url)
    Courier(settings, sqlite_catalog, timeout=0.2).deliver_due()
    go_on.set()
    assert message(sqlite_catalog, job_id).last_error == "timeout"
    nowhere = "http://127.0.0.1:9"  # discard: nothing listens there
    away = settings.model_copy(update={"webhook_origins": (nowhere,)})
    other = end_a_job(sqlite_catalog, nowhere)
    Courier(away, sqlite_catalog).deliver_due()
    assert message(sqlite_catalog, other).last_error == "not-reached: ConnectError"


def test_two_senders_do_not_send_one_message_and_one_that_dies_has_tried_in_vain(
    catalog: Catalog, settings: Settings, receiver: Receiver
) -> None:
    job_id = end_a_job(catalog, receiver.url)
    assert take_due(catalog) is not None  # by a sender that dies now
    Courier(settings, catalog).deliver_due()
    assert receiver.told == []
    let_time_pass(catalog, timedelta(minutes=2))
    Courier(settings, catalog).deliver_due()
    assert len(receiver.told) == 1 and message(catalog, job_id).attempts == 2


def test_a_courier_outlives_a_database_that_goes_away(
    sqlite_catalog: Catalog, settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.jobs.webhooks.AWAY_S", 0.0)
    monkeypatch.setattr("service.jobs.webhooks.POLL_S", 0.01)
    told, came, away = Event(), Event(), [ArchiveError("Away.", "database-unavailable")]

    def away_once(catalog: Catalog) -> Delivery | None:
        if away:
            raise away.pop()
        return take_due(catalog)

    monkeypatch.setattr("service.jobs.webhooks.take_due", away_once)
    receiver.before = came.set
    end_a_job(sqlite_catalog, receiver.url)
    courier = threading.Thread(target=Courier(settings, sqlite_catalog).run, args=(told,))
    courier.start()
    assert came.wait(30)
    told.set()
    courier.join(30)


def test_origins_are_told_apart_by_scheme_host_and_port() -> None:
    assert origin_of("https://a.example/x") == origin_of("HTTPS://A.example:443/y?z")
    assert origin_of("http://[::1]:80/") == origin_of("http://[::1]/x")
    assert origin_of("http://a.example") != origin_of("https://a.example")
    for url in ("https://user@a.example", "https://:secret@a.example", "ftp://a.example", "https://", "a.example", ""):
        assert origin_of(url) is None
    for url in ("https://xn--pacs.example", "https://a.example:0"):  # no Punycode, no port
        assert origin_of(url) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"webhook_origins": ("https://a.example",)},  # unsigned
        {"webhook_origins": ("https://a.example/path",), "webhook_secret": SECRET},
        {"webhook_origins": ("https://u@a.example",), "webhook_secret": SECRET},
        {"webhook_origins": ("ftp://a.example",), "webhook_secret": SECRET},
        {"webhook_secret": "whsec_c2hvcnQ="},
        {"webhook_secret": "a-password-that-somebody-chose"},
        {"ingest_roots": ("archive",)},
    ],
)
def test_settings_that_would_be_unsafe_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**wrong)  # type: ignore[arg-type]
    assert "c2hvcnQ" not in str(caught.value) and "somebody" not in str(caught.value)
