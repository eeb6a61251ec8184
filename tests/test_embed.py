"""Embedding: complete, resumable, safe to kill, safe to run twice, and no study costs another."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from index import Catalog, embed_pending, ingest_folder, migrate, open_catalog, pending_counts
from index.embedding.pending import Walk
from index.tables import Embedding, EmbeddingFailure, Instance, Study
from model.encoder import StudyImages
from tests.conftest import WriteDicom
from tests.fakes import FakeEncoder

ROOT = Path(__file__).parents[1]


def fill(catalog: Catalog, archive: Path, write_dicom: WriteDicom, studies: int) -> None:
    """Studies of one patient in two, each with a report, some with a lateral."""
    lines = ["accession_number,text"]
    for number in range(studies):
        about = {"study": f"1.2.3.{number}", "PatientID": f"P{number // 2}", "StudyDate": f"20200{number % 2 + 1}01"}
        write_dicom(f"{number}.dcm", seed=number, **about)
        if number % 3 == 0:
            write_dicom(f"{number}l.dcm", seed=100 + number, ViewPosition="LL", **about)
        lines.append(f"A{number},Report {number} of a chest.")
    reports = archive.parent / "reports.csv"
    reports.write_text("\n".join(lines))
    ingest_folder(catalog, archive, reports, workers=0)


def embeddings(catalog: Catalog) -> set[tuple[str, str, str, bytes]]:
    with catalog.session() as session:
        query = sa.select(Study.study_instance_uid, Embedding.kind, Embedding.source_hash, Embedding.vector)
        rows = session.execute(query.join(Study, Study.id == Embedding.study_id)).all()
    assert len(rows) == len(set(rows))
    return {tuple(row) for row in rows}


def failures(catalog: Catalog) -> list[tuple[str, str]]:
    with catalog.session() as session:
        query = sa.select(Study.study_instance_uid, EmbeddingFailure.reason)
        return [tuple(row) for row in session.execute(query.join(Study, Study.id == EmbeddingFailure.study_id))]


@pytest.fixture
def from_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every batch but the last has to be full: a walk begins at the first patient, not at a random one."""
    monkeypatch.setattr("index.embedding.pending.secrets.randbelow", lambda limit: 0)


def test_every_study_and_report_is_embedded_once(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, encoder: FakeEncoder
) -> None:
    fill(catalog, archive, write_dicom, 7)
    assert pending_counts(catalog, encoder.fingerprint) == {"image": 7, "report": 7}
    seen: list[tuple[int, int]] = []
    summary = embed_pending(catalog, encoder, batch_size=3, progress=lambda done, total: seen.append((done, total)))
    assert (summary.images, summary.reports, summary.failed.total()) == (7, 7, 0)
    assert seen[-1] == (14, 14)
    assert pending_counts(catalog, encoder.fingerprint) == {"image": 0, "report": 0}
    before = embeddings(catalog)
    assert len(before) == 14
    again = embed_pending(catalog, encoder)
    assert (again.images, again.reports) == (0, 0)
    assert embeddings(catalog) == before


def test_vectors_are_what_the_encoder_makes_of_the_slots(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, encoder: FakeEncoder
) -> None:
    from index import study_slots
    from model.image import read_radiograph

    fill(catalog, archive, write_dicom, 2)
    embed_pending(catalog, encoder)
    slots = study_slots(catalog, "1.2.3.1")
    assert set(slots) == {"current_frontal", "prior_frontal", "prior_lateral"}
    images = {slot: encoder.transform(read_radiograph(path).pixels) for slot, path in slots.items()}
    expected = encoder.encode_studies([StudyImages(**images)])[0].astype("<f4").tobytes()
    assert ("1.2.3.1", "image", expected) in {(uid, kind, vector) for uid, kind, _, vector in embeddings(catalog)}


def test_each_model_has_its_own_embeddings(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, encoder: FakeEncoder
) -> None:
    fill(catalog, archive, write_dicom, 2)
    embed_pending(catalog, encoder)
    other = FakeEncoder(fingerprint="0" * 64)
    assert pending_counts(catalog, other.fingerprint) == {"image": 2, "report": 2}
    embed_pending(catalog, other)
    with catalog.session() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Embedding)) == 8


def test_changed_sources_are_embedded_again(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, encoder: FakeEncoder
) -> None:
    fill(catalog, archive, write_dicom, 4)
    embed_pending(catalog, encoder)
    reports = archive.parent / "reports.csv"
    reports.write_text("accession_number,text\nA3,Another report.\n")
    # Study 0 is the prior of study 1: both become stale.
    write_dicom("0.dcm", study="1.2.3.0", seed=0, PatientID="P0", StudyDate="20200101", Rows=20, Columns=96)
    assert ingest_folder(catalog, archive, reports, workers=0).updated == 1
    assert pending_counts(catalog, encoder.fingerprint) == {"image": 2, "report": 1}
    summary = embed_pending(catalog, encoder)
    assert (summary.images, summary.reports) == (2, 1)
    assert len(embeddings(catalog)) == 8


def test_a_study_without_an_image_any_more_loses_its_embedding(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, encoder: FakeEncoder
) -> None:
    fill(catalog, archive, write_dicom, 3)
    embed_pending(catalog, encoder)
    (archive / "2.dcm").write_bytes(b"gone")
    ingest_folder(catalog, archive, workers=0)
    assert ("1.2.3.2", "image") not in {row[:2] for row in embeddings(catalog)}


def test_a_file_that_vanished_or_changed_costs_only_its_study(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, encoder: FakeEncoder
) -> None:
    for number in range(4):
        write_dicom(f"{number}.dcm", study=f"1.2.3.{number}", seed=number, PatientID=f"P{number}")
    ingest_folder(catalog, archive, workers=0)
    (archive / "1.dcm").unlink()
    write_dicom("2.dcm", study="1.2.3.2", seed=77, PatientID="P2")
    summary = embed_pending(catalog, encoder)
    assert summary.images == 2
    assert summary.failed == {"file-missing": 1, "file-changed": 1}
    assert sorted(failures(catalog)) == [("1.2.3.1", "file-missing"), ("1.2.3.2", "file-changed")]
    # The changed file waits for its ingest; the vanished one may come back at any time.
    assert pending_counts(catalog, encoder.fingerprint)["image"] == 1
    ingest_folder(catalog, archive, workers=0)
    write_dicom("1.dcm", study="1.2.3.1", seed=1, PatientID="P1")
    assert embed_pending(catalog, encoder).images == 2
    assert failures(catalog) == []


def test_a_file_that_changed_without_a_trace_is_read_again(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, encoder: FakeEncoder
) -> None:
    path = write_dicom("0.dcm", seed=1)
    ingest_folder(catalog, archive, workers=0)
    before = path.stat()
    write_dicom("0.dcm", seed=2, sop="1.2.3.1.2")  # the same instance with other pixels
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert embed_pending(catalog, encoder, workers=0).failed == {"file-changed": 1}
    assert ingest_folder(catalog, archive, workers=0).updated == 1
    assert embed_pending(catalog, encoder, workers=0).images == 1
    assert failures(catalog) == []
    assert ingest_folder(catalog, archive, workers=0).unchanged == 1


class Poisoned(FakeEncoder):
    """Fails on any batch that holds a study with a lateral; gives not-a-number for texts with a 2."""

    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        if any(study.current_lateral is not None for study in studies):
            raise RuntimeError("cannot encode this")
        return super().encode_studies(studies)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        vectors = super().encode_texts(texts)
        vectors[["2" in text for text in texts]] = np.nan
        return vectors


def test_a_poisoned_study_costs_itself_and_not_its_batch(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    fill(catalog, archive, write_dicom, 5)
    summary = embed_pending(catalog, Poisoned(), batch_size=4)
    assert (summary.images, summary.reports) == (3, 4)
    assert summary.failed == {"encoder-error": 2, "bad-embedding": 1}
    assert embed_pending(catalog, Poisoned()).failed.total() == 0
    summary = embed_pending(catalog, FakeEncoder(), retry_failed=True)
    assert (summary.images, summary.reports, failures(catalog)) == (2, 1, [])


class Full(FakeEncoder):
    """A device on which two studies fit, and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        self.calls += 1
        if len(studies) > 2:
            raise MemoryError("the device is full")
        return super().encode_studies(studies)


@pytest.mark.usefixtures("from_the_first")
def test_a_batch_that_does_not_fit_is_halved(sqlite_catalog: Catalog, archive: Path, write_dicom: WriteDicom) -> None:
    fill(sqlite_catalog, archive, write_dicom, 8)
    encoder = Full()
    assert embed_pending(sqlite_catalog, encoder, batch_size=8, workers=0).images == 8
    assert encoder.calls == 7  # 8, 4, 2, 2, 4, 2, 2


class Meanwhile(FakeEncoder):
    """Does something to the archive while the first batch is encoded."""

    def __init__(self, catalog: Catalog, statement: sa.Executable) -> None:
        super().__init__()
        self.todo: list[sa.Executable] = [statement]
        self.catalog = catalog

    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        with self.catalog.write() as session:
            while self.todo:
                session.execute(self.todo.pop())
        return super().encode_studies(studies)


def test_what_changes_while_it_is_encoded_is_not_written_as_current(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    for number in range(3):  # of one patient, and so of one batch: the walk begins at any patient
        write_dicom(f"{number}.dcm", study=f"1.2.3.{number}", seed=number)
    ingest_folder(catalog, archive, workers=0)
    change = sa.update(Study).where(Study.study_instance_uid == "1.2.3.1").values(image_source="0" * 64)
    summary = embed_pending(catalog, Meanwhile(catalog, change), workers=0)
    assert summary.images == 2
    assert {row[0] for row in embeddings(catalog)} == {"1.2.3.0", "1.2.3.2"}
    assert pending_counts(catalog, FakeEncoder().fingerprint)["image"] == 1


def test_a_study_that_is_removed_while_it_is_encoded_leaves_nothing_behind(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    write_dicom("0.dcm", study="1.2.3.0")
    ingest_folder(catalog, archive, workers=0)
    encoder = Meanwhile(catalog, sa.delete(Study))
    encoder.todo.append(sa.update(Instance).values(study_id=None))
    assert embed_pending(catalog, encoder, workers=0).images == 0
    assert embeddings(catalog) == set()


@pytest.mark.usefixtures("from_the_first")
def test_a_run_that_is_told_to_stop_finishes_its_batch_and_the_next_run_does_the_rest(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, encoder: FakeEncoder
) -> None:
    fill(catalog, archive, write_dicom, 9)
    stop = threading.Event()

    class Stopped(FakeEncoder):
        def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
            stop.set()
            return super().encode_studies(studies)

    assert embed_pending(catalog, Stopped(), batch_size=2, workers=0, stop=stop).images == 2
    assert len(embeddings(catalog)) == 2
    assert embed_pending(catalog, encoder, workers=0).images == 7


def test_a_walk_that_goes_on_elsewhere_still_comes_everywhere(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, encoder: FakeEncoder
) -> None:
    fill(catalog, archive, write_dicom, 12)
    walk = Walk(catalog, "image", encoder.fingerprint, size=2)
    seen: list[int] = []
    for tasks in walk:
        seen.extend(task.study_id for task in tasks)
        if len(seen) in (2, 4, 6):
            walk.elsewhere()
    assert len(set(seen)) == 12


def test_a_batch_that_another_worker_has_done_sends_this_one_elsewhere(
    sqlite_catalog: Catalog, archive: Path, write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(sqlite_catalog, archive, write_dicom, 6)
    moves: list[Walk] = []
    monkeypatch.setattr(Walk, "elsewhere", lambda walk: moves.append(walk))

    class Late(FakeEncoder):
        """Another worker does everything while this one encodes its first batch."""

        def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
            embed_pending(sqlite_catalog, FakeEncoder(), workers=0)
            return super().encode_studies(studies)

    assert embed_pending(sqlite_catalog, Late(), batch_size=3, workers=0).images == 0
    assert moves
    assert len(embeddings(sqlite_catalog)) == 12


def test_a_batch_is_found_without_going_through_the_whole_archive(
    sqlite_catalog: Catalog, encoder: FakeEncoder, archive: Path, write_dicom: WriteDicom
) -> None:
    fill(sqlite_catalog, archive, write_dicom, 2)
    asked: list[tuple[str, object]] = []

    def record(_1: object, _2: object, statement: str, values: object, _3: object, _4: object) -> None:
        if "NOT (EXISTS" in statement and "LIMIT" in statement:
            asked.append((statement, values))

    sa.event.listen(sqlite_catalog.engine, "before_cursor_execute", record)
    for kind in ("image", "report"):
        assert list(Walk(sqlite_catalog, kind, encoder.fingerprint, size=2))
    assert len(asked) > 3
    with sqlite_catalog.engine.connect() as connection:
        for statement, values in list(asked):
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)  # type: ignore[arg-type]
            steps = [row[-1] for row in rows]
            assert any("study USING INDEX ix_study_patient_id" in step for step in steps)
            assert not any("SCAN" in step or "TEMP" in step or "ix_report_status" in step for step in steps)


class Broken(FakeEncoder):
    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        raise MemoryError("the device is full")


def test_a_broken_encoder_is_raised_and_marks_no_whole_archive_as_failed(
    sqlite_catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    fill(sqlite_catalog, archive, write_dicom, 20)
    with pytest.raises(MemoryError):
        embed_pending(sqlite_catalog, Broken(), batch_size=4)
    assert len(failures(sqlite_catalog)) < 16


def test_two_workers_at_once_give_no_duplicates_and_no_errors(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, encoder: FakeEncoder
) -> None:
    fill(catalog, archive, write_dicom, 12)
    errors: list[Exception] = []
    start = threading.Barrier(3)

    def work() -> None:
        start.wait()
        try:
            embed_pending(catalog, FakeEncoder(), batch_size=2, workers=1)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(embeddings(catalog)) == 24


def start_embedding(url: str, delay: float) -> "subprocess.Popen[str]":
    environment = {**os.environ, "ALTA_TEST_ENCODER_DELAY": str(delay), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.embed_slowly", url]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def test_killed_three_times_and_started_again_gives_the_rows_of_an_unbroken_run(
    tmp_path: Path, archive: Path, write_dicom: WriteDicom
) -> None:
    catalogs = []
    for name in ("unbroken", "killed"):
        url = f"sqlite:///{tmp_path / name}.db"
        migrate(url)
        catalogs.append(open_catalog(url))
        fill(catalogs[-1], archive, write_dicom, 24)
    unbroken, killed = catalogs
    embed_pending(unbroken, FakeEncoder(), batch_size=3)
    url = f"sqlite:///{tmp_path / 'killed'}.db"
    moments = random.Random(20240301)
    for _ in range(3):
        process = start_embedding(url, delay=0.05)
        assert process.stdout is not None
        for _ in range(moments.randint(1, 3)):  # "started" is the first line, then one after every batch
            process.stdout.readline()
        # Anywhere in the next batch: a wait that never ends but by its timeout, not a sleep for something to happen.
        deadline = time.monotonic() + moments.uniform(0, 0.08)
        while time.monotonic() < deadline:
            pass
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert 0 < len(embeddings(killed)) < len(embeddings(unbroken))
    last = start_embedding(url, delay=0)
    output, _ = last.communicate()
    assert last.returncode == 0, output
    assert embeddings(killed) == embeddings(unbroken)
    for catalog in catalogs:
        catalog.close()
