"""PostgreSQL restarts under jobs and readers: they go on, or end with one clear error and can be run again."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import sqlalchemy as sa

from index import Catalog, Gallery, build_generation, embed_pending, ingest_folder, migrate, open_catalog
from index.jobs.queue import enqueue, read_job
from index.tables import Embedding, Instance, Study
from model.encoder import StudyImages
from model.errors import ArchiveError
from service.jobs.workbench import Workbench
from service.jobs.worker import Worker
from service.settings import Settings
from tests.conftest import WriteDicom, postgres_folder
from tests.fakes import FakeEncoder
from tests.restarting_postgres import Server
from tests.test_cli import Alta, alta

__all__ = ["alta"]

STUDIES = 5


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres_folder() as folder:
        started = Server(folder)
        yield started
        started.cleanup()


@pytest.fixture
def restarting(server: Server) -> Iterator[Catalog]:
    url = server.database()
    migrate(url)
    opened = open_catalog(url)
    yield opened
    opened.close()


@pytest.fixture
def films(write_dicom: WriteDicom) -> None:
    for number in range(STUDIES):
        write_dicom(f"{number}.dcm", study=f"1.2.3.{number}", seed=number, PatientID=f"P{number}")


def once(act: Callable[[], None]) -> Callable[..., None]:
    done = []

    def first(*_: object) -> None:
        if not done:
            done.append(True)
            act()

    return first


def in_the_middle_of(catalog: Catalog, statement: str, act: Callable[[], None]) -> None:
    """``act`` once, right after the statement was executed, in its transaction."""
    first = once(act)

    @sa.event.listens_for(catalog.engine, "after_cursor_execute")
    def _after(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if sql.startswith(statement):
            first()


@contextlib.contextmanager
def finishing_or_unavailable() -> Iterator[None]:
    try:
        yield
    except ArchiveError as error:
        if error.slug != "database-unavailable" or "do the same again" not in error.message:
            raise


def count(catalog: Catalog, table: type[Study] | type[Instance] | type[Embedding]) -> int:
    with catalog.session() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(table)) or 0


@pytest.mark.parametrize("how", ["fast", pytest.param("immediate", marks=pytest.mark.slow)])
def test_an_open_catalog_outlives_a_restart(restarting: Catalog, server: Server, how: str) -> None:
    assert count(restarting, Study) == 0
    server.restart(how)
    assert count(restarting, Study) == 0
    server.restart(how)
    with restarting.write() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Study)) == 0


def test_a_reader_says_that_the_database_is_away_and_goes_on_by_itself(
    restarting: Catalog, server: Server, films: None, archive: Path, tmp_path: Path
) -> None:
    encoder = FakeEncoder()
    ingest_folder(restarting, archive, workers=0)
    embed_pending(restarting, encoder)
    build_generation(restarting, tmp_path / "generations", encoder.fingerprint)
    gallery = Gallery(restarting, tmp_path / "generations")
    gallery.refresh()
    query = np.ones(encoder.dimension)
    before = gallery.search("image", query, 3)
    server.stop()
    for act in (lambda: gallery.refresh(now=True), lambda: gallery.search("image", query, 3)):
        with pytest.raises(ArchiveError) as caught:
            act()
        assert caught.value.slug == "database-unavailable"
    server.start()
    gallery.refresh()
    assert gallery.search("image", query, 3) == before


@pytest.mark.parametrize("statement", ["INSERT INTO instance", "SELECT instance"])
def test_an_ingest_cut_off_in_a_transaction_ends_clearly_and_can_be_run_again(
    restarting: Catalog, server: Server, films: None, archive: Path, statement: str
) -> None:
    in_the_middle_of(restarting, statement, server.restart)
    with finishing_or_unavailable():
        ingest_folder(restarting, archive, workers=0)
    ingest_folder(restarting, archive, workers=0)
    assert (count(restarting, Study), count(restarting, Instance)) == (STUDIES, STUDIES)


class RestartingEncoder(FakeEncoder):
    """Encodes; the database restarts while it does."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self._act = once(act)

    def encode_studies(self, studies: list[StudyImages]) -> np.ndarray:  # type: ignore[override]
        self._act()
        return super().encode_studies(studies)


def test_a_restart_while_the_encoder_works_is_not_noticed(
    restarting: Catalog, server: Server, films: None, archive: Path
) -> None:
    ingest_folder(restarting, archive, workers=0)
    assert embed_pending(restarting, RestartingEncoder(server.restart), batch_size=2).images == STUDIES
    assert count(restarting, Embedding) == STUDIES


def test_an_embedding_batch_cut_off_while_written_is_made_again(
    restarting: Catalog, server: Server, films: None, archive: Path
) -> None:
    ingest_folder(restarting, archive, workers=0)
    in_the_middle_of(restarting, "INSERT INTO embedding ", server.restart)
    with pytest.raises(ArchiveError) as caught:
        embed_pending(restarting, FakeEncoder(), batch_size=2)
    assert caught.value.slug == "database-unavailable"
    embed_pending(restarting, FakeEncoder(), batch_size=2)
    assert count(restarting, Embedding) == STUDIES


@pytest.mark.parametrize("statement", ["UPDATE job", "INSERT INTO embedding ", "SELECT study"])
def test_a_worker_goes_on_with_its_job_by_itself(
    restarting: Catalog, server: Server, films: None, archive: Path, tmp_path: Path, statement: str
) -> None:
    ingest_folder(restarting, archive, workers=0)
    asked = enqueue(restarting, "embed", {"batch_size": 2}, exclusive="embed", requested_by="test")
    bench = Workbench(Settings(data_dir=tmp_path), restarting, encoder=FakeEncoder(), decoders=0)
    in_the_middle_of(restarting, statement, server.restart)
    Worker(bench, away=lambda _: 0.0).run(Event(), once=True)
    assert read_job(restarting, asked.id).state == "succeeded"
    assert count(restarting, Embedding) == STUDIES


# psycopg's own complaint about a cursor whose connection is gone.
@pytest.mark.filterwarnings("ignore:.*ServerCursorMixin:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("statement", ["SELECT embedding.id", "INSERT INTO generation", "UPDATE generation"])
def test_a_build_cut_off_leaves_what_was_live_and_can_be_run_again(
    restarting: Catalog, server: Server, films: None, archive: Path, tmp_path: Path, statement: str
) -> None:
    encoder, folder = FakeEncoder(), tmp_path / "generations"
    ingest_folder(restarting, archive, workers=0)
    embed_pending(restarting, encoder)
    in_the_middle_of(restarting, statement, server.restart)
    with finishing_or_unavailable():
        build_generation(restarting, folder, encoder.fingerprint)
    assert build_generation(restarting, folder, encoder.fingerprint).image_rows == STUDIES


def test_the_command_line_says_it_in_one_line(
    alta: Alta, server: Server, films: None, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALTA_DATABASE_URL", server.database())
    assert alta("db", "upgrade")[0] == 0
    opening = open_catalog

    def opened(url: str) -> Catalog:
        catalog = opening(url)
        in_the_middle_of(catalog, "INSERT INTO instance", server.stop)
        return catalog

    monkeypatch.setattr("index.open_catalog", opened)
    code, _, err = alta("ingest", archive)
    assert code == 1
    assert err.startswith("alta: The database postgresql") and err.count("\n") == 1 and "Traceback" not in err
    monkeypatch.setattr("index.open_catalog", opening)
    code, _, err = alta("ingest", archive)  # still away
    assert code == 1 and err.startswith("alta: The database postgresql")
    server.start()
    assert alta("ingest", archive)[0] == 0
