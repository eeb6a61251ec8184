"""Readiness: an image and a text go the whole way, for many probes at once, and never for longer than a limit."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from model.errors import ArchiveError
from service.readiness import Readiness
from tests.fakes import FakeEncoder
from tests.service_samples import serve, settings_for

pytest_plugins = ["tests.service_fixtures"]


class Watched(FakeEncoder):
    """Counts calls; ``broken`` and ``gate`` come into force once it has been warmed up."""

    def __init__(self) -> None:
        super().__init__()
        self.studies, self.texts = 0, 0
        self.broken: str | None = None
        self.gate: threading.Event | None = None

    def encode_studies(self, studies):
        self.studies += 1
        if self.gate is not None:
            assert self.gate.wait(20)
        vectors = super().encode_studies(studies)
        return vectors * np.nan if self.broken == "studies" else vectors

    def encode_texts(self, texts):
        self.texts += 1
        if self.broken == "texts":
            raise RuntimeError("Secret^Patient")
        return super().encode_texts(texts)


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def client(archive_folder: Path, watched: Watched) -> Iterator[TestClient]:
    with serve(settings_for(archive_folder), watched) as running:
        yield running


def ask(client: TestClient) -> tuple[int, list[str]]:
    answer = client.get("/readyz")
    return answer.status_code, answer.json()["reasons"]


def impatient(client: TestClient, trial_seconds: float) -> None:
    client.app.state.readiness = Readiness(client.app.state.resources, 0.0, trial_seconds)


def test_ready_means_that_an_image_and_a_text_were_encoded_and_searched_with(
    client: TestClient, watched: Watched
) -> None:
    watched.studies = watched.texts = 0
    assert ask(client) == (200, [])
    assert (watched.studies, watched.texts) == (1, 1)


def test_probes_that_come_together_or_soon_after_share_one_trial(client: TestClient, watched: Watched) -> None:
    watched.studies, watched.gate = 0, threading.Event()
    with ThreadPoolExecutor(6) as probes:
        asked = [probes.submit(ask, client) for _ in range(6)]
        watched.gate.set()
        assert {answer.result()[0] for answer in asked} == {200}
    ask(client)
    assert watched.studies == 1


@pytest.mark.parametrize("broken", ["studies", "texts"])
def test_encoders_that_fail_are_seen(client: TestClient, watched: Watched, broken: str) -> None:
    watched.broken = broken
    assert ask(client) == (503, ["canary-failed"])
    assert "Secret" not in client.get("/readyz").text


def test_a_search_that_fails_is_seen(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def corrupt(*_: object, **__: object) -> None:
        raise ArchiveError("/data/generations/1/image.faiss is another file.", "index-file-corrupt")

    monkeypatch.setattr("index.search.snapshot.Snapshot.search", corrupt)
    assert ask(client) == (503, ["canary-failed"])


def test_encoders_that_hang_are_seen_within_the_limit_and_so_is_their_recovery(
    client: TestClient, watched: Watched
) -> None:
    impatient(client, 0.2)
    watched.gate = threading.Event()
    assert ask(client) == (503, ["canary-failed"])
    assert ask(client) == (503, ["canary-failed"])  # the trial that hangs is not joined by another
    watched.gate.set()
    impatient(client, 10)
    assert ask(client) == (200, [])


def test_a_full_queue_is_waited_for_and_no_failure(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.errors import RequestError
    from service.inference import Inference

    probe, turned_away = Inference.probe, [RequestError("full", "overloaded")]

    def crowded(self: Inference):
        if turned_away:
            raise turned_away.pop()
        return probe(self)

    monkeypatch.setattr(Inference, "probe", crowded)
    assert ask(client) == (200, [])
    assert turned_away == []


def test_not_ready_before_the_encoders_are_warm(client: TestClient) -> None:
    client.app.state.resources.encoders.configured.warm = False
    assert ask(client) == (503, ["warming-up"])


def test_not_ready_when_told_to_stop_and_alive_all_the_same(client: TestClient) -> None:
    client.app.state.readiness.stopping = True
    assert ask(client) == (503, ["stopping"])
    assert client.get("/livez").status_code == 200
