"""`alta embed --watch`: what arrives or changes is embedded at once, and SIGTERM ends it cleanly."""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from index import Catalog, EmbedSummary, ingest_folder, pending_counts
from index.embedding.watch import embed_as_it_comes
from service.cli.embed import until_told
from tests.conftest import WriteDicom
from tests.fakes import FakeEncoder
from tests.test_embed import ROOT, embeddings, failures

WAIT_S = 60


class Watch:
    """The job in a thread."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.stop = threading.Event()
        self.told: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self.summary: EmbedSummary | None = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        self.summary = embed_as_it_comes(self.catalog, FakeEncoder(), self.stop, workers=0, tell=self.tell)

    def tell(self, summary: EmbedSummary) -> None:
        self.told.put((summary.images, summary.reports))

    def wait_for(self, images: int, reports: int) -> None:
        """Until so much has been embedded in all; fails when it is more, or never comes."""
        while (found := self.told.get(timeout=WAIT_S)) != (images, reports):
            assert found < (images, reports) or found[1] < reports

    def end(self) -> None:
        self.stop.set()
        self.thread.join()


@pytest.fixture
def watch(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Only rows that are new tell; a whole look never comes again."""
    monkeypatch.setattr("index.embedding.watch.POLL_S", 0.01)
    monkeypatch.setattr("index.embedding.watch.WHOLE_LOOK_S", 1e9)
    made = Watch(catalog)
    yield made
    made.end()


def test_what_arrives_or_changes_is_embedded(watch: Watch, archive: Path, write_dicom: WriteDicom) -> None:
    catalog, reports = watch.catalog, archive.parent / "reports.csv"

    def study(number: int, date: str, **tags: object) -> None:
        write_dicom(f"{number}.dcm", study=f"1.2.3.{number}", seed=number, StudyDate=date, **tags)
        ingest_folder(catalog, archive, reports if reports.exists() else None, workers=0)

    study(1, "20210101")
    watch.wait_for(1, 0)
    reports.write_text("accession_number,text\nA1,A first report.\nA2,It waits for its study.\n")
    ingest_folder(catalog, archive, reports, workers=0)
    watch.wait_for(1, 1)
    study(2, "20220101")  # its report was there before it
    watch.wait_for(2, 2)
    study(0, "20200101")  # a prior that comes late: study 1 is another one now
    watch.wait_for(4, 2)
    reports.write_text("accession_number,text\nA1,Corrected.\nA2,It waits for its study.\n")
    ingest_folder(catalog, archive, reports, workers=0)
    watch.wait_for(4, 3)
    write_dicom("1l.dcm", study="1.2.3.1", seed=50, StudyDate="20210101", ViewPosition="LL")
    ingest_folder(catalog, archive, workers=0)  # a lateral that comes late, of study 1 and as the prior of study 2
    watch.wait_for(6, 3)
    assert pending_counts(catalog, FakeEncoder().fingerprint) == {"image": 0, "report": 0}
    assert len(embeddings(catalog)) == 5


def test_a_disk_that_comes_back_is_noticed_and_failures_are_counted_once(
    sqlite_catalog: Catalog, archive: Path, write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.embedding.watch.POLL_S", 0.01)
    monkeypatch.setattr("index.embedding.watch.WHOLE_LOOK_S", 0)
    monkeypatch.setattr("index.embedding.watch.PATIENCE", 0)
    path = write_dicom("a.dcm", study="1.2.1")
    ingest_folder(sqlite_catalog, archive, workers=0)
    away = path.rename(archive.parent / "away")
    looks = 0
    looked = threading.Event()

    def count(*arguments: object, **options: object) -> EmbedSummary:
        nonlocal looks
        looks += 1
        if looks == 4:
            looked.set()
        return embed_pending(*arguments, **options)  # type: ignore[arg-type]

    from index import embed_pending

    monkeypatch.setattr("index.embedding.watch.embed_pending", count)
    watch = Watch(sqlite_catalog)
    try:
        assert looked.wait(WAIT_S)
        assert failures(sqlite_catalog) == [("1.2.1", "file-missing")]
        away.rename(path)
        watch.wait_for(1, 0)
    finally:
        watch.end()
    assert watch.summary is not None
    assert (watch.summary.images, watch.summary.failed.total()) == (1, 0)


def test_an_archive_where_nothing_happens_is_not_searched(
    watch: Watch, archive: Path, write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.embedding.watch.FRESH_S", 0)
    write_dicom("a.dcm", study="1.2.1")
    ingest_folder(watch.catalog, archive, workers=0)
    watch.wait_for(1, 0)
    looked = threading.Event()
    polled = threading.Semaphore(0)
    newest = sys.modules["index.embedding.watch"]._newest

    def poll(catalog: Catalog) -> object:
        polled.release()
        return newest(catalog)

    monkeypatch.setattr("index.embedding.watch._newest", poll)
    for _ in range(3):  # the removal of the row before is seen, if there was one
        assert polled.acquire(timeout=WAIT_S)
    monkeypatch.setattr("index.embedding.watch.embed_pending", lambda *_, **__: looked.set())
    for _ in range(3):
        assert polled.acquire(timeout=WAIT_S)
    assert not looked.is_set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_first_signal_is_a_request_and_a_second_one_an_order(number: signal.Signals) -> None:
    before = signal.signal(number, signal.default_int_handler)  # one that raises
    try:
        with until_told() as stop:
            assert not stop.is_set()
            os.kill(os.getpid(), number)
            assert stop.wait(WAIT_S)
            assert signal.getsignal(number) is signal.default_int_handler
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


@pytest.mark.slow
def test_sigterm_ends_the_command_after_its_batch(
    sqlite_catalog: Catalog, sqlite_url: str, archive: Path, write_dicom: WriteDicom, tmp_path: Path
) -> None:
    write_dicom("a.dcm", study="1.2.1")
    ingest_folder(sqlite_catalog, archive, workers=0)
    environment = {**os.environ, "ALTA_DATABASE_URL": sqlite_url, "ALTA_DATA_DIR": str(tmp_path), "ALTA_DEVICE": "cpu"}
    command = [sys.executable, "-u", "-c", "from service.cli import main; main()", "embed", "--watch"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            if line.startswith("1 studies"):
                process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    assert len(embeddings(sqlite_catalog)) == 1
