"""Figures of an archive, each as exact as counting one by one, and how long they are kept."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest

from index import Catalog, embed_pending, ingest_folder
from index.figures.archive import ArchiveSize, Refused, archive_size, embedded_counts, refused_counts
from index.figures.arrivals import HOURS, count_arrivals
from index.figures.sizes import database_bytes, folder_bytes, received_bytes
from index.figures.without_frontal import count_without_frontal, studies_without_frontal
from index.jobs.lease import claim
from index.jobs.overview import overview
from index.jobs.queue import enqueue
from index.keeping.backup import back_up, list_backups
from index.tables import IMAGE, Embedding, Patient, Study
from service.observing import Metrics
from service.operations.kept import SHARE, Kept, Lane
from tests.fakes import FakeEncoder
from tests.service_samples import Film, write_archive

# What is kept, and for how long


def test_what_took_long_to_read_is_read_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("service.operations.kept.monotonic", lambda: now[0])

    def slowly() -> int:
        now[0] += 3.0
        return 7

    part = Kept("archive", slowly, fresh_s=2.0)
    assert part.is_due()
    part.read_now()
    assert (part.reading.value, part.reading.problem) == (7, None)
    now[0] += 3.0 * SHARE - 0.1
    assert not part.is_due()
    now[0] += 0.2
    assert part.is_due()


def test_a_lane_reads_each_part_once_at_a_time_and_ends() -> None:
    started, goes_on, read = Event(), Event(), []

    def slowly() -> None:
        started.set()
        assert goes_on.wait(60)
        read.append("slow")

    lane = Lane("test", [Kept("slow", slowly, 60), Kept("quick", lambda: read.append("quick"), 60)])
    lane.ask()
    assert started.wait(60) and lane.is_busy
    lane.ask()
    goes_on.set()
    lane.close(60)
    assert not lane.is_busy and read[0] == "slow" and read.count("slow") == 1
    lane.ask()
    assert not lane.is_busy


# What is asked of the archive


def test_arrivals_are_counted_as_one_by_one(catalog: Catalog) -> None:
    until = datetime(2026, 3, 1, 12, tzinfo=UTC)
    ages = sorted((7 * number % 200 + number / 100 for number in range(300)), reverse=True)  # hours
    with catalog.write() as session:
        patient = Patient(key="k")
        session.add(patient)
        session.flush()
        for number, age in enumerate(ages):
            made = until - timedelta(hours=age)
            study = Study(study_instance_uid=f"1.{number}", patient_id=patient.id, modality="DX", created_at=made)
            session.add(study)
            session.flush()
            if number % 3 == 0:
                session.add(
                    Embedding(
                        study_id=study.id,
                        kind=IMAGE,
                        model_fingerprint="m" if number % 2 else "other",
                        vector=b"",
                        source_hash="",
                        created_at=made,
                    )
                )
                session.flush()
    taken_in, embedded = count_arrivals(catalog, "m", until)

    def naive(chosen: Callable[[int], bool]) -> tuple[list[int], int]:
        those = [age for number, age in enumerate(ages) if chosen(number)]
        hours = [sum(hour - 1 < age <= hour for age in those) for hour in range(HOURS, 0, -1)]
        hours[-1] += sum(age == 0 for age in those)
        return hours, sum(age <= 7 * 24 for age in those)

    assert (list(taken_in.hours), taken_in.week) == naive(lambda number: True)
    assert (list(embedded.hours), embedded.week) == naive(lambda number: number % 3 == 0 and number % 2 == 1)
    assert count_arrivals(catalog, "unknown", until)[1].week == 0


def test_many_received_objects_are_reckoned_from_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("aa", "bb", "cc", "dd", "ee", "ff"):
        folder = tmp_path / "objects" / name
        folder.mkdir(parents=True)
        for number in range(10):
            (folder / f"{number}.dcm").write_bytes(bytes(100))
    exact = received_bytes(tmp_path)
    assert (exact.bytes, exact.estimated) == (6000, False) and folder_bytes(tmp_path) == 6000
    monkeypatch.setattr("index.figures.sizes.ENOUGH", 30)
    reckoned = received_bytes(tmp_path)
    assert (reckoned.bytes, reckoned.estimated) == (6000, True)
    assert received_bytes(tmp_path / "none").bytes == 0


def test_a_backup_made_again_is_of_the_later_time(sqlite_catalog: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "backups" / "alta.db"
    back_up(sqlite_catalog, file)
    (first,) = list_backups(sqlite_catalog)
    back_up(sqlite_catalog, file)
    (again,) = list_backups(sqlite_catalog)
    assert again.created_at > first.created_at


def test_quantiles_of_requests_are_read_from_the_histogram() -> None:
    metrics = Metrics()
    for number in range(100):
        metrics.count_request("POST", "/v1/search", 200, 0.07 if number < 90 else 0.8)
    metrics.count_request("GET", "/livez", 200, 0.001)
    metrics.count_request("POST", "/v1/search", 429, 0.001)
    found = {(each.route, each.status): each for each in metrics.answers()}
    searches = found["/v1/search", "2xx"]
    assert searches.count == 100 and metrics.turned_away == 1
    median, p95 = searches.quantile(0.5), searches.quantile(0.95)
    assert median is not None and 0.05 < median <= 0.1
    assert p95 is not None and 0.5 < p95 <= 1.0


def test_figures_are_the_same_on_each_database(catalog: Catalog, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    write_archive(source)
    (source / "slice.dcm").write_bytes(Film("1.2.3.9", 2, modality="CT").dicom())
    ingest_folder(catalog, source, source / "reports.csv", workers=0)
    encoder = FakeEncoder()
    due = embedded_counts(catalog, encoder.fingerprint)
    assert {kind: (each.due, each.embedded, each.missing) for kind, each in due.items()} == {
        "image": (4, 0, 4),
        "report": (3, 0, 3),
    }
    embed_pending(catalog, encoder)
    done = embedded_counts(catalog, encoder.fingerprint)
    assert {kind: (each.due, each.embedded, each.missing) for kind, each in done.items()} == {
        "image": (4, 4, 0),
        "report": (3, 3, 0),
    }
    assert archive_size(catalog) == ArchiveSize(4, 3, 5, 1, 3, 0, 0, 0)
    assert refused_counts(catalog) == Refused({"wrong-modality": 1}, {})
    assert database_bytes(catalog) > 0
    enqueue(catalog, "embed", {}, exclusive="embed", requested_by="test")
    held = claim(catalog, "host:1:ab", ["embed"])
    assert held is not None
    found = overview(catalog)
    assert [job.id for job in found.running] == [held.job.id] == [worker.job_id for worker in found.workers]


def test_studies_that_only_a_frontal_image_would_make_searchable(catalog: Catalog, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    write_archive(source)
    (source / "lateral.dcm").write_bytes(Film("1.2.3.7", 2, view="LL", patient="P7").dicom())
    (source / "unknown.dcm").write_bytes(Film("1.2.3.7", 3, view=None, patient="P7").dicom())
    (source / "alone.dcm").write_bytes(Film("1.2.3.8", 4, view="RL", patient="P8").dicom())
    ingest_folder(catalog, source, workers=0)
    found = studies_without_frontal(catalog, 10)
    assert {(study.study_instance_uid, study.views) for study in found} == {
        ("1.2.3.7", ("LL", "unknown")),
        ("1.2.3.8", ("RL",)),
    }
    assert count_without_frontal(catalog) == 2 and studies_without_frontal(catalog, 1) == found[:1]

    (source / "late.dcm").write_bytes(Film("1.2.3.7", 5, patient="P7").dicom())
    (source / "alone.dcm").write_bytes(b"no image any more")
    ingest_folder(catalog, source, workers=0)
    assert count_without_frontal(catalog) == 0  # the one has a frontal image now, the other no image
