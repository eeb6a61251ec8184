"""What a worker makes of jobs: done, failed, cancelled, given back; and that nothing is lost with a worker."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from index import (
    Catalog,
    Reindex,
    begin_reindex,
    embed_pending,
    ingest_folder,
    live_generation,
    reindex_under_way,
)
from index.jobs.holding import Holding, hold
from index.jobs.lease import LEASE_S, claim, finish, give_back
from index.jobs.queue import cancel, enqueue, read_job
from index.jobs.records import JobRecord
from index.tables import Embedding, Instance, Job, Report, Study
from model.encoder import StudyImages
from model.errors import ArchiveError
from service.cli.worker import JobKind
from service.jobs.kinds import KINDS
from service.jobs.workbench import Workbench
from service.jobs.worker import Worker
from service.settings import Settings
from tests.conftest import WriteDicom
from tests.fakes import FakeEncoder

STUDIES = 5


@pytest.fixture
def settings(tmp_path: Path, archive: Path) -> Settings:
    return Settings(data_dir=tmp_path, min_free_mb=0, ingest_roots=(archive,))


@pytest.fixture
def films(write_dicom: WriteDicom) -> None:
    for number in range(STUDIES):
        write_dicom(f"{number}.dcm", study=f"1.2.3.{number}", seed=number, PatientID=f"P{number}")


@pytest.fixture
def filled(catalog: Catalog, films: None, archive: Path) -> Catalog:
    ingest_folder(catalog, archive, workers=0)
    return catalog


def worker(catalog: Catalog, settings: Settings, encoder: FakeEncoder | None = None, **more: object) -> Worker:
    bench = Workbench(settings, catalog, encoder=encoder or FakeEncoder(), decoders=0)
    return Worker(bench, away=lambda _: 0.0, **more)  # type: ignore[arg-type]


def ask(catalog: Catalog, kind: str, **arguments: object) -> str:
    return enqueue(catalog, kind, arguments, exclusive=KINDS[kind].exclusive, requested_by="test").id


def done(catalog: Catalog, settings: Settings, kind: str, **arguments: object) -> JobRecord:
    """The job after a worker had it."""
    job_id = ask(catalog, kind, **arguments)
    worker(catalog, settings).run(Event(), once=True)
    return read_job(catalog, job_id)


def fall_silent(catalog: Catalog, job_id: str) -> None:
    with catalog.write() as session:
        job = session.get_one(Job, job_id)
        assert job.heartbeat_at is not None
        job.heartbeat_at -= timedelta(seconds=LEASE_S + 1)


def count(catalog: Catalog, table: type[Study] | type[Instance] | type[Embedding]) -> int:
    with catalog.session() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(table)) or 0


class TellingEncoder(FakeEncoder):
    """Encodes; before each batch it does what a test wants."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self.act = act
        self.batches = 0

    def encode_studies(self, studies: list[StudyImages]) -> np.ndarray:  # type: ignore[override]
        self.act()
        self.batches += 1
        return super().encode_studies(studies)


# Kinds


def test_the_command_line_names_every_kind() -> None:
    assert [kind.value for kind in JobKind] == list(KINDS)


def test_encoders_are_loaded_once_by_whichever_thread_is_first(
    sqlite_catalog: Catalog, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job and the sending back of results ask for them in different threads."""
    bench, others, loads = Workbench(settings, sqlite_catalog), [], []
    with ThreadPoolExecutor(1) as pool:

        def load(*_: object) -> FakeEncoder:
            loads.append(FakeEncoder())
            if len(loads) == 1:
                others.append(pool.submit(lambda: bench.encoder))
                assert not wait(others, timeout=0.05).done
            return loads[-1]

        monkeypatch.setattr("model.alta_encoder.load_encoder", load)
        assert bench.encoder is others[0].result() is loads[0]
    assert len(loads) == 1


def test_an_archive_is_filled_and_searchable_by_jobs_alone(
    catalog: Catalog, settings: Settings, films: None, archive: Path
) -> None:
    for kind, arguments in (("ingest", {"path": str(archive)}), ("embed", {"batch_size": 2}), ("index-build", {})):
        ask(catalog, kind, **arguments)
    worker(catalog, settings).run(Event(), once=True)
    live = live_generation(catalog)
    assert live is not None and live.image_rows == STUDIES
    assert done(catalog, settings, "verify").result == {"generations": [live.id]}
    assert done(catalog, settings, "index-build").result["generation"] == live.id  # type: ignore[index]


def test_the_result_counts_and_the_progress_is_whole(filled: Catalog, settings: Settings) -> None:
    job = done(filled, settings, "embed", batch_size=2)
    assert job.state == "succeeded" and job.result == {"images": STUDIES, "reports": 0, "failed": {}}
    assert (job.done, job.total, job.attempts) == (STUDIES, STUDIES, 1)
    again = done(filled, settings, "embed")
    assert again.state == "succeeded" and again.result == {"images": 0, "reports": 0, "failed": {}}


def test_a_reindex_moves_to_the_configured_encoders_and_a_build_does_not(filled: Catalog, settings: Settings) -> None:
    done(filled, settings, "embed")
    done(filled, settings, "index-build")
    job_id, other = ask(filled, "index-build"), FakeEncoder(fingerprint="e" * 64)
    worker(filled, settings, other).run(Event(), once=True)
    assert read_job(filled, job_id).error == "model-mismatch"
    job_id = ask(filled, "reindex", batch_size=2)
    worker(filled, settings, other).run(Event(), once=True)
    assert read_job(filled, job_id).state == "succeeded"
    live = live_generation(filled)
    assert live is not None and live.model_fingerprint == "e" * 64


def test_pruning_counts_what_went(filled: Catalog, settings: Settings) -> None:
    done(filled, settings, "embed")
    job = done(filled, settings, "prune", keep=1)
    assert job.result == {"generations": [], "embeddings": 0, "failures": 0, "removals": 0}


def test_a_damaged_generation_fails_the_verification(filled: Catalog, settings: Settings) -> None:
    done(filled, settings, "embed")
    done(filled, settings, "index-build")
    for path in settings.generations_dir.rglob("*"):
        if path.is_file() and path.stat().st_size > 200:
            path.write_bytes(path.read_bytes()[:-1] + b"!")
    job = done(filled, settings, "verify")
    assert (job.state, job.error) == ("failed", "index-file-corrupt")


# Roots


@pytest.mark.parametrize("how", ["outside", "dots", "link", "relative", "absent", "nul"])
def test_nothing_outside_of_the_roots_is_taken_in(
    sqlite_catalog: Catalog, settings: Settings, films: None, archive: Path, tmp_path: Path, how: str
) -> None:
    outside = tmp_path / "outside"
    archive.rename(outside)
    archive.mkdir()
    (archive / "link").symlink_to(outside)
    path = {
        "outside": str(outside),
        "dots": f"{archive}/../outside",
        "link": str(archive / "link"),
        "relative": "archive",
        "absent": str(archive / "absent"),
        "nul": f"{archive}/a\0b",
    }[how]
    job = done(sqlite_catalog, settings, "ingest", path=path)
    assert (job.state, job.error) == ("failed", "path-not-allowed") and count(sqlite_catalog, Instance) == 0


def test_links_and_lists_do_not_lead_out_of_a_root(
    sqlite_catalog: Catalog, settings: Settings, films: None, archive: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (archive / "0.dcm").rename(outside / "0.dcm")
    (archive / "file.dcm").symlink_to(outside / "0.dcm")
    (archive / "folder").symlink_to(outside)
    job = done(sqlite_catalog, settings, "ingest", path=str(archive))
    assert job.result is not None
    assert (job.result["accepted"], job.result["outside_roots"]) == (STUDIES - 1, 2)
    (archive / "list.csv").write_text("image_path,study_id\n../outside/0.dcm,9\n")
    job = done(sqlite_catalog, settings, "ingest", path=str(archive / "list.csv"))
    assert job.result is not None and job.result["outside_roots"] == 1
    assert count(sqlite_catalog, Instance) == STUDIES - 1


def test_links_among_reports_do_not_lead_out_of_a_root(
    sqlite_catalog: Catalog, settings: Settings, films: None, archive: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("A report of another house.")
    (tmp_path / "secret.csv").write_text("accession_number,text\nA1,A report of another house.\n")
    reports = archive / "reports"
    reports.mkdir()
    (reports / "A2.txt").write_text("A report of ours.")
    (reports / "A1.txt").symlink_to(tmp_path / "secret.txt")
    (reports / "more.csv").symlink_to(tmp_path / "secret.csv")
    (archive / "A3.txt").symlink_to(tmp_path / "secret.txt")
    job = done(sqlite_catalog, settings, "ingest", path=str(archive), reports=str(reports))
    assert job.result is not None and job.result["outside_roots"] == 3
    with sqlite_catalog.session() as session:
        assert set(session.scalars(sa.select(Report.text))) == {"A report of ours."}


def test_the_log_of_an_ingest_names_no_folder_and_no_file(
    sqlite_catalog: Catalog, settings: Settings, films: None, archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = archive / "DOE^JOHN"
    folder.mkdir()
    (archive / "0.dcm").rename(folder / "DOE.dcm")
    with caplog.at_level(logging.INFO):
        job = done(sqlite_catalog, settings, "ingest", path=str(folder))
    assert job.state == "succeeded" and "ingested 1 of 1" in caplog.text and "DOE" not in caplog.text


def test_without_roots_nothing_is_taken_in(sqlite_catalog: Catalog, tmp_path: Path, archive: Path) -> None:
    job = done(sqlite_catalog, Settings(data_dir=tmp_path), "ingest", path=str(archive))
    assert job.error == "path-not-allowed"


# Ends


@pytest.fixture
def holdings(monkeypatch: pytest.MonkeyPatch) -> list[Holding]:
    """What the workers of a test held, as they come."""
    met: list[Holding] = []

    @contextlib.contextmanager
    def seen(*arguments: Any, **more: Any) -> Iterator[Holding]:
        with hold(*arguments, **more) as holding:
            met.append(holding)
            yield holding

    monkeypatch.setattr("service.jobs.worker.hold", seen)
    return met


def test_a_cancelled_job_ends_after_the_batch_under_way(
    filled: Catalog, settings: Settings, holdings: list[Holding]
) -> None:
    job_id = ask(filled, "embed", batch_size=1)

    def cancelled() -> None:
        cancel(filled, job_id)
        assert holdings[-1].stop.wait(30)

    encoder = TellingEncoder(cancelled)
    worker(filled, settings, encoder, beat_s=0.01).run(Event(), once=True)
    job = read_job(filled, job_id)
    assert job.state == "cancelled" and job.result == {"images": 1, "reports": 0, "failed": {}}
    assert encoder.batches == count(filled, Embedding) == 1


def test_a_worker_that_has_to_end_gives_its_job_back(
    filled: Catalog, settings: Settings, holdings: list[Holding]
) -> None:
    job_id, told = ask(filled, "embed", batch_size=2), Event()

    def ending() -> None:
        told.set()
        assert holdings[-1].stop.wait(30)

    worker(filled, settings, TellingEncoder(ending)).run(told)
    job, first = read_job(filled, job_id), count(filled, Embedding)
    assert (job.state, job.lost) == ("queued", 0) and first in (1, 2)  # a batch begins anywhere
    worker(filled, settings).run(Event(), once=True)
    job = read_job(filled, job_id)
    assert (
        (job.state, job.attempts) == ("succeeded", 2)
        and job.result is not None
        and job.result["images"] == STUDIES - first
    )
    assert count(filled, Embedding) == STUDIES


def test_a_build_that_is_stopped_leaves_what_was_live(
    filled: Catalog, settings: Settings, holdings: list[Holding], monkeypatch: pytest.MonkeyPatch
) -> None:
    done(filled, settings, "embed")
    before = done(filled, settings, "index-build").result
    with filled.write() as session:
        session.execute(sa.delete(Embedding).where(Embedding.id == 1))
    job_id, progress = ask(filled, "index-build"), Holding.progress

    def cancelled(self: Holding, done: int, total: int) -> None:
        progress(self, done, total)
        cancel(filled, job_id)
        assert self.stop.wait(30)

    monkeypatch.setattr(Holding, "progress", cancelled)
    worker(filled, settings, beat_s=0.01).run(Event(), once=True)
    live = live_generation(filled)
    assert read_job(filled, job_id).state == "cancelled" and live is not None and before is not None
    assert live.id == before["generation"]


@pytest.mark.parametrize("how", ["cancelled", "told to end"])
def test_a_reindex_that_is_called_off_is_under_way_no_more(
    filled: Catalog, settings: Settings, holdings: list[Holding], how: str
) -> None:
    job_id, told = ask(filled, "reindex", batch_size=1), Event()

    def stopped() -> None:
        if how == "cancelled":
            cancel(filled, job_id)
        else:
            told.set()
        assert holdings[-1].stop.wait(30)

    worker(filled, settings, TellingEncoder(stopped), beat_s=0.01).run(told, once=True)
    assert (reindex_under_way(filled) is None) == (how == "cancelled")
    assert read_job(filled, job_id).state == ("cancelled" if how == "cancelled" else "queued")
    cancel(filled, job_id)
    assert reindex_under_way(filled) is None


def test_a_reindex_that_never_began_ends_no_other(filled: Catalog) -> None:
    begin_reindex(filled, Reindex("f" * 64, "encoders"))
    cancel(filled, ask(filled, "reindex"))
    assert reindex_under_way(filled) == Reindex("f" * 64, "encoders")


def test_a_worker_that_lost_its_job_stops_and_writes_no_end(
    filled: Catalog, settings: Settings, holdings: list[Holding]
) -> None:
    """It stalls for longer than its lease; another worker does the job meanwhile; then it goes on."""
    job_id = ask(filled, "embed", batch_size=1)

    def stalled() -> None:
        encoder.act = lambda: None
        with filled.write() as session:  # in one transaction, or a heartbeat comes in between
            job = session.get_one(Job, job_id)
            job.worker, job.attempts = "another", 2
        assert holdings[-1].stop.wait(30)

    encoder = TellingEncoder(stalled)
    worker(filled, settings, encoder, beat_s=0.01).run(Event(), once=True)
    job = read_job(filled, job_id)
    assert (job.state, job.worker, job.attempts) == ("running", "another", 2)
    assert encoder.batches == 1


class Killed(BaseException):
    """What no code of ours catches."""


@pytest.mark.parametrize("when", ["at work", "at its end"])
def test_a_killed_workers_job_is_anothers_and_nothing_is_lost_or_doubled(
    filled: Catalog, settings: Settings, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    job_id = ask(filled, "embed", batch_size=2)

    def killed(*_: object, **__: object) -> None:
        raise Killed

    if when == "at its end":
        monkeypatch.setattr("service.jobs.worker.finish", killed)
    encoder = TellingEncoder(killed) if when == "at work" else FakeEncoder()
    with pytest.raises(Killed):
        worker(filled, settings, encoder).run(Event(), once=True)
    monkeypatch.undo()
    worker(filled, settings).run(Event(), once=True)
    assert read_job(filled, job_id).state == "running"  # it may live yet
    fall_silent(filled, job_id)
    worker(filled, settings).run(Event(), once=True)
    job = read_job(filled, job_id)
    assert (job.state, job.attempts, job.lost) == ("succeeded", 2, 1)
    assert count(filled, Embedding) == STUDIES


def test_a_job_that_breaks_fails_alone_and_says_nothing_of_what_it_met(
    filled: Catalog, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = "DOE^JOHN"  # not in the line that a traceback quotes

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr("service.jobs.kinds.verify_generation", broken)
    done(filled, settings, "embed")
    done(filled, settings, "index-build")
    with caplog.at_level(logging.INFO):
        job = done(filled, settings, "verify")
    assert (job.state, job.error, job.detail) == ("failed", "internal-error", "RuntimeError")
    assert "RuntimeError" in caplog.text and "DOE" not in caplog.text
    assert done(filled, settings, "embed").state == "succeeded"


def test_a_worker_outlives_a_database_that_goes_away(
    filled: Catalog, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it asks for a job, works, and writes the end."""
    away = ArchiveError("Away.", "database-unavailable")
    met: list[str] = []
    for place, name in (
        ("service.jobs.worker", "claim"),
        ("service.jobs.kinds", "embed_pending"),
        ("service.jobs.worker", "give_back"),
        ("service.jobs.worker", "finish"),
    ):
        monkeypatch.setattr(f"{place}.{name}", once_raising(away, name, met))
    job = done(filled, settings, "embed")
    assert met == ["claim", "embed_pending", "give_back", "finish"]
    assert (job.state, job.attempts, job.lost) == ("succeeded", 2, 1) and count(filled, Embedding) == STUDIES


def once_raising(error: Exception, name: str, met: list[str]) -> Callable[..., Any]:
    real = {"claim": claim, "embed_pending": embed_pending, "give_back": give_back, "finish": finish}[name]

    def act(*arguments: Any, **more: Any) -> Any:
        if name not in met:
            met.append(name)
            raise error
        return real(*arguments, **more)

    return act


def test_arrivals_are_embedded_while_there_is_no_job_and_jobs_come_first(
    filled: Catalog, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.jobs.worker.POLL_S", 0.01)
    told, asked = Event(), []

    def job_comes() -> None:
        if not asked:
            asked.append(ask(filled, "prune"))

    def ended(*arguments: Any, **more: Any) -> bool:
        told.set()
        return finish(*arguments, **more)

    monkeypatch.setattr("service.jobs.worker.finish", ended)
    worker(filled, settings, TellingEncoder(job_comes), embed_arrivals=True).run(told)
    assert read_job(filled, asked[0]).state == "succeeded" and count(filled, Embedding) == STUDIES


# Processes


@pytest.mark.slow
def test_killed_processes_lose_nothing_and_double_nothing(
    catalog: Catalog, url: str, write_dicom: WriteDicom, archive: Path, settings: Settings
) -> None:
    for number in range(20):
        write_dicom(f"{number}.dcm", study=f"1.2.3.{number}", seed=number, PatientID=f"P{number}")
    ingest_folder(catalog, archive, workers=0)
    job_id = ask(catalog, "embed", batch_size=2)
    environment = os.environ | {"ALTA_TEST_ENCODER_DELAY": "0.2"}
    command = [sys.executable, "-m", "tests.working", url, str(settings.data_dir)]
    for _ in range(2):
        before = count(catalog, Embedding)
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() == "batch" and count(catalog, Embedding) > before:
                    break
            process.kill()
        assert read_job(catalog, job_id).state == "running"
        fall_silent(catalog, job_id)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert read_job(catalog, job_id).state == "queued"
    worker(catalog, settings).run(Event(), once=True)
    job = read_job(catalog, job_id)
    assert (job.state, job.lost) == ("succeeded", 2) and count(catalog, Embedding) == 20
