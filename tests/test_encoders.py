"""Queries are embedded with the model of the generation they search, whichever goes live."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from index import Catalog, build_generation, embed_pending, ingest_folder, migrate, open_catalog, rollback
from model.errors import CheckpointError
from service.app import create_app
from tests.fakes import FakeEncoder
from tests.service_samples import B1, FILMS, Film, form, settings_for, write_archive

pytest_plugins = ["tests.service_fixtures"]

OLD, NEW = "a" * 64, "b" * 64
WIDTH = {OLD: 64, NEW: 48}  # a query of one model cannot pass for one of the other


class Models:
    """Encoders in folders: which fingerprint lies where, and a door that can keep loading waiting."""

    def __init__(self) -> None:
        self.folders: dict[str, str] = {}
        self.open = threading.Event()
        self.open.set()
        self.broken = False
        self.loaded: list[str] = []

    def find(self, path: Path) -> str:
        if str(path) not in self.folders:
            raise CheckpointError(f"There is nothing in {path}.")
        return self.folders[str(path)]

    def load(self, path: Path) -> FakeEncoder:
        assert self.open.wait(60)
        if self.broken:
            raise CheckpointError("The weights are damaged.")
        self.loaded.append(self.folders[str(path)])
        return FakeEncoder(self.loaded[-1], WIDTH[self.loaded[-1]])


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    found = Models()
    monkeypatch.setattr("service.app._load", lambda settings, path: found.load(path))
    monkeypatch.setattr("service.app.read_fingerprint", found.find)
    monkeypatch.setattr("index.search.gallery.POLL_SECONDS", 0)
    return found


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """An archive of four studies, embedded with the old model and indexed."""
    (tmp_path / "source").mkdir()
    write_archive(tmp_path / "source")
    settings = settings_for(tmp_path / "data")
    migrate(settings.catalog_url)
    opened = open_catalog(settings.catalog_url)
    ingest_folder(opened, tmp_path / "source", tmp_path / "source" / "reports.csv", workers=0)
    go_live(opened, tmp_path, OLD)
    yield opened
    opened.close()


def go_live(catalog: Catalog, tmp_path: Path, model: str, path: str | None = None) -> int:
    embed_pending(catalog, FakeEncoder(model, WIDTH[model]), workers=0)
    return build_generation(catalog, tmp_path / "data" / "generations", model, model_path=path or f"/{model[0]}").id


@contextmanager
def running(tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(settings_for(tmp_path / "data", model_path=Path("/a")), encoder=FakeEncoder(OLD, WIDTH[OLD]))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def ask(client: TestClient) -> tuple[str, int]:
    """The model and the generation that answer; the hit must be right under both."""
    film = Film("1.2.9.1", 10, patient="P9", view="AP", modality="CR")
    reply = client.post("/v1/search/image-to-image", files=form(film.dicom())).json()
    assert reply["hits"][0]["study"]["study_instance_uid"] == B1
    assert reply["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
    return reply["model_fingerprint"], reply["generation"]


def until_loaded() -> None:
    for thread in threading.enumerate():
        if thread.name == "load encoders":
            thread.join(60)


def test_a_generation_of_another_model_is_switched_to_once_its_encoders_are_there(
    catalog: Catalog, models: Models, tmp_path: Path
) -> None:
    with running(tmp_path) as client:
        assert ask(client) == (OLD, 1)
        models.folders["/b"] = NEW
        models.open.clear()
        second = go_live(catalog, tmp_path, NEW)
        assert ask(client) == (OLD, 1)
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"], ready.json()["reasons"]) == (
            200,
            "degraded",
            ["model-loading"],
        )
        models.open.set()
        until_loaded()
        assert ask(client) == (NEW, second)
        assert client.get("/readyz").json()["status"] == "ok"
        assert client.get("/v1/model").json()["fingerprint"] == NEW
        assert client.post("/v1/zero-shot", files=form(FILMS[0].dicom())).json()["model_fingerprint"] == NEW
        assert list(client.app.state.resources.encoders._loaded) == [NEW]


def test_going_back_loads_the_old_encoders_again(catalog: Catalog, models: Models, tmp_path: Path) -> None:
    models.folders |= {"/a": OLD, "/b": NEW}
    with running(tmp_path) as client:
        second = go_live(catalog, tmp_path, NEW)
        ask(client)
        until_loaded()
        assert ask(client) == (NEW, second)
        rollback(catalog, tmp_path / "data" / "generations")
        ask(client)
        until_loaded()
        assert ask(client) == (OLD, 1)
        assert models.loaded == [NEW, OLD]


def test_going_back_to_what_is_searched_still_ends_the_wait_for_the_other_encoders(
    catalog: Catalog, models: Models, tmp_path: Path
) -> None:
    with running(tmp_path) as client:
        go_live(catalog, tmp_path, NEW)
        ask(client)
        until_loaded()
        assert client.get("/readyz").json()["status"] == "degraded"  # they are nowhere
        rollback(catalog, tmp_path / "data" / "generations")
        assert ask(client) == (OLD, 1)
        assert client.get("/readyz").json()["status"] == "ok"


@pytest.mark.parametrize("broken", [True, False])
def test_encoders_that_cannot_be_loaded_leave_the_old_generation_answering(
    catalog: Catalog, models: Models, tmp_path: Path, broken: bool
) -> None:
    if broken:
        models.folders["/b"], models.broken = NEW, True  # else there is nothing in the folder
    with running(tmp_path) as client:
        go_live(catalog, tmp_path, NEW)
        assert ask(client) == (OLD, 1)
        until_loaded()
        assert ask(client) == (OLD, 1)
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["reasons"]) == (200, ["model-mismatch"])


def test_encoders_that_fail_when_tried_are_not_held(
    catalog: Catalog, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.folders["/b"] = NEW
    with running(tmp_path) as client:
        monkeypatch.setattr("service.inference.encoders.RETRY_SECONDS", 0)
        go_live(catalog, tmp_path, NEW)
        threads = {thread for thread in threading.enumerate() if thread.name == "encoder"}
        monkeypatch.setattr(FakeEncoder, "encode_studies", lambda *_: 1 / 0)
        for _ in range(3):
            client.get("/v1/model")
            until_loaded()
        assert models.loaded == [NEW] * 3
        assert {thread for thread in threading.enumerate() if thread.name == "encoder"} <= threads


def test_at_its_start_a_service_takes_the_encoders_of_the_live_generation(
    catalog: Catalog, models: Models, tmp_path: Path
) -> None:
    models.folders["/b"] = NEW
    second = go_live(catalog, tmp_path, NEW)
    with running(tmp_path) as client:
        assert ask(client) == (NEW, second)


def test_the_configured_folder_is_tried_where_the_generations_own_leads_nowhere(
    catalog: Catalog, models: Models, tmp_path: Path
) -> None:
    models.folders["/a"] = NEW  # the administrator has put the new encoders in the old place
    second = go_live(catalog, tmp_path, NEW, "/on/another/host")
    with running(tmp_path) as client:
        assert ask(client) == (NEW, second)


def test_without_any_encoders_of_the_live_generation_nothing_is_searched(
    catalog: Catalog, models: Models, tmp_path: Path
) -> None:
    go_live(catalog, tmp_path, NEW)
    with running(tmp_path) as client:
        reply = client.post("/v1/search/text-to-image", json={"text": "a"})
        assert (reply.status_code, reply.json()["type"].rpartition("/")[2]) == (503, "model-mismatch")
        assert client.post("/v1/zero-shot", files=form(FILMS[0].dicom())).json()["model_fingerprint"] == OLD
