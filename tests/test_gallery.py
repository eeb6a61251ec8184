"""Searching the live generation."""

import threading
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from index import Catalog, Filters, Gallery, build_generation, embed_pending, ingest_folder, rollback
from index.embedding.removal import remove_embeddings
from index.generations.opening import open_or_restore
from index.generations.parts import OpenPart
from index.search.gallery import RETRY_SECONDS
from index.tables import Embedding, Study
from model.errors import ArchiveError, EmptyIndex, InputError, ModelMismatch
from tests.conftest import WriteDicom
from tests.fakes import FakeEncoder
from tests.test_generations import MODEL, add_embeddings, unit


@pytest.fixture
def gallery(catalog: Catalog, archive: Path, write_dicom: WriteDicom, tmp_path: Path) -> Gallery:
    """Three patients with two studies each, years 2020 to 2025."""
    lines = ["accession_number,text"]
    for number in range(6):
        write_dicom(
            f"{number}.dcm",
            study=f"1.2.3.{number}",
            seed=number,
            PatientID=f"P{number // 2}",
            StudyDate=f"202{number}0615",
            PatientSex="MFO"[number // 2],
            PatientAge=f"0{30 + 10 * number}Y",
            Modality="CR" if number % 2 else "DX",
            ViewPosition=("PA", "AP", "LL")[number % 3],
        )
        lines.append(f"A{number},FINDINGS: Finding number{number}. IMPRESSION: Impression {number}.")
    reports = tmp_path / "reports.csv"
    reports.write_text("\n".join(lines))
    ingest_folder(catalog, archive, reports, workers=0)
    embed_pending(catalog, FakeEncoder())
    build_generation(catalog, tmp_path / "generations", MODEL)
    opened = Gallery(catalog, tmp_path / "generations")
    opened.refresh(now=True)
    return opened


def found(gallery: Gallery, filters: Filters, top_k: int = 10) -> set[int]:
    """Numbers of the studies that pass the filters."""
    hits = gallery.search("report", unit(0, 1, 64)[0], top_k, filters)
    return {int(hit.study.study_instance_uid.rpartition(".")[2]) for hit in hits}


def test_a_text_finds_its_report(gallery: Gallery) -> None:
    query = FakeEncoder().encode_texts(["Finding number3"])[0]
    hits = gallery.search("report", query, 3, fingerprint=MODEL)
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert hits[0].study.accession_number == "A3"
    assert hits[0].score > hits[1].score
    assert isinstance(hits[0].score, float)
    record = hits[0].study
    assert (record.study_date, record.modality, record.views, record.sex, record.age) == (
        date(2023, 6, 15),
        "CR",
        ("PA",),
        "F",
        60.0,
    )
    assert record.report is not None
    assert (record.report.findings, record.report.impression) == ("Finding number3.", "Impression 3.")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(), {0, 1, 2, 3, 4, 5}),
        (Filters(modalities=("DX",)), {0, 2, 4}),
        (Filters(modalities=("dx", "CR")), {0, 1, 2, 3, 4, 5}),
        (Filters(views=("AP",)), {1, 4}),
        (Filters(views=("frontal",)), {0, 1, 3, 4}),
        (Filters(views=("lateral", "PA")), {0, 2, 3, 5}),
        (Filters(sexes=("M", "f")), {0, 1, 2, 3}),
        (Filters(date_from=date(2022, 6, 15)), {2, 3, 4, 5}),
        (Filters(date_from=date(2021, 1, 1), date_to=date(2022, 12, 31)), {1, 2}),
        (Filters(age_min=50, age_max=60), {2, 3}),
        (Filters(exclude_studies=("1.2.3.0", "9.9")), {1, 2, 3, 4, 5}),
        (Filters(exclude_patient_of=("1.2.3.2",)), {0, 1, 4, 5}),
        (Filters(modalities=("DX",), views=("AP",), sexes=("O",)), {4}),
        (Filters(modalities=("CT",)), set()),
    ],
)
def test_filters(gallery: Gallery, filters: Filters, expected: set[int]) -> None:
    assert found(gallery, filters) == expected


def test_ages_are_completed_years(gallery: Gallery, catalog: Catalog) -> None:
    with catalog.write() as session:
        for number, age in ((3, 69.9), (4, 70.4), (5, 71.0)):
            query = sa.update(Study).where(Study.study_instance_uid == f"1.2.3.{number}")
            session.execute(query.values(patient_age=age))
    assert found(gallery, Filters(age_min=70, age_max=70)) == {4}


def test_a_snapshot_answers_as_it_was(gallery: Gallery, catalog: Catalog) -> None:
    snapshot = gallery.snapshot
    assert snapshot is not None
    before = snapshot.search("image", unit(0, 1, 64)[0], 20)
    add_embeddings(catalog, unit(7, 3, 64), first=6)
    gallery.refresh(now=True)
    assert snapshot.search("image", unit(0, 1, 64)[0], 20) == before
    assert len(gallery.search("image", unit(0, 1, 64)[0], 20)) == len(before) + 3


def test_a_patient_can_be_left_out_by_key(gallery: Gallery, catalog: Catalog) -> None:
    assert found(gallery, Filters(exclude_patients=(catalog.patient_key("P0"),))) == {2, 3, 4, 5}


def test_filters_do_not_shorten_the_list(gallery: Gallery) -> None:
    assert len(found(gallery, Filters(modalities=("DX",)), top_k=3)) == 3


def test_the_order_is_that_of_exact_search_ties_included(catalog: Catalog, tmp_path: Path) -> None:
    vectors = np.concatenate([np.repeat(unit(1, 3), 30, axis=0), unit(2, 60)])
    add_embeddings(catalog, vectors)
    build_generation(catalog, tmp_path / "g", MODEL)
    gallery = Gallery(catalog, tmp_path / "g")
    gallery.refresh(now=True)
    for query in unit(3, 5):
        naive = sorted(range(len(vectors)), key=lambda row: (-np.sum(vectors[row].astype(float) * query), row))
        for top_k in (1, 7, 25, 40, 150):
            hits = gallery.search("image", query, top_k)
            assert [int(hit.study.study_instance_uid.rpartition(".")[2]) for hit in hits] == naive[:top_k]


def test_before_the_first_generation_there_is_nothing_to_search(catalog: Catalog, tmp_path: Path) -> None:
    gallery = Gallery(catalog, tmp_path)
    gallery.refresh(now=True)
    assert gallery.generation is None
    with pytest.raises(EmptyIndex, match="alta index build"):
        gallery.search("image", unit(1, 1)[0], 3)


def test_a_kind_without_rows_is_empty(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 3))
    build_generation(catalog, tmp_path, MODEL)
    gallery = Gallery(catalog, tmp_path)
    gallery.refresh(now=True)
    with pytest.raises(EmptyIndex):
        gallery.search("report", unit(1, 1)[0], 3)


def test_queries_of_another_model_or_width_are_refused(gallery: Gallery) -> None:
    with pytest.raises(ModelMismatch):
        gallery.search("image", unit(1, 1, 64)[0], 3, fingerprint="0" * 64)
    with pytest.raises(ModelMismatch):
        gallery.search("image", unit(1, 1, 32)[0], 3)
    with pytest.raises(InputError):
        gallery.search("image", np.full(64, np.nan), 3)
    with pytest.raises(InputError):
        gallery.search("image", unit(1, 1, 64)[0], 0)


def test_refresh_opens_a_newer_generation_and_searches_go_on_meanwhile(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 10))
    build_generation(catalog, tmp_path, MODEL)
    gallery = Gallery(catalog, tmp_path)
    gallery.refresh(now=True)
    errors: list[Exception] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            try:
                gallery.refresh(now=True)
                assert len(gallery.search("image", unit(5, 1)[0], 5)) == 5
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1, 5):
        add_embeddings(catalog, unit(number, 5), first=10 * number)
        build_generation(catalog, tmp_path, MODEL)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    gallery.refresh(now=True)
    assert gallery.generation is not None
    assert gallery.generation.image_rows == 30


def test_while_one_caller_opens_a_generation_the_others_go_on_with_the_one_before(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_embeddings(catalog, unit(1, 10))
    first = build_generation(catalog, tmp_path, MODEL)
    gallery = Gallery(catalog, tmp_path)
    gallery.refresh(now=True)
    add_embeddings(catalog, unit(2, 5), first=10)
    second = build_generation(catalog, tmp_path, MODEL)
    opening, go_on = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> OpenPart | None:
        opening.set()
        assert go_on.wait(60)
        return open_or_restore(*arguments)

    monkeypatch.setattr("index.search.gallery.open_or_restore", slow)
    monkeypatch.setattr("index.search.gallery.POLL_SECONDS", 0)
    opener = threading.Thread(target=gallery.refresh, kwargs={"now": True})
    opener.start()
    assert opening.wait(60)
    add_embeddings(catalog, unit(3, 2), first=15)
    with catalog.write() as session:
        remove_embeddings(session, Embedding.id <= 4)
    other = threading.Thread(target=gallery.refresh)
    other.start()
    other.join(20)
    waited = other.is_alive()
    assert gallery.generation == first
    meanwhile = {hit.study.study_instance_uid for hit in gallery.search("image", unit(0, 1)[0], 50)}
    go_on.set()
    opener.join()
    other.join()
    assert not waited
    assert meanwhile == {f"1.2.3.{number}" for number in range(4, 17)}  # what came and went is not waited for
    assert gallery.generation == second


def test_a_file_that_cannot_be_used_is_not_read_for_every_request(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_embeddings(catalog, unit(1, 10))
    build_generation(catalog, tmp_path, MODEL)
    path = tmp_path / "1" / "image" / "vectors.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    clock = [0.0]
    monkeypatch.setattr("index.search.gallery.monotonic", lambda: clock[0])
    gallery = Gallery(catalog, tmp_path)
    with pytest.raises(ArchiveError):
        gallery.refresh(now=True)
    path.write_bytes(whole)
    with pytest.raises(ArchiveError) as caught:
        gallery.refresh(now=True)
    assert caught.value.slug == "index-file-corrupt"
    clock[0] = RETRY_SECONDS
    gallery.refresh(now=True)
    assert gallery.generation is not None


def test_a_generation_that_cannot_be_opened_is_told_every_time_while_the_one_before_keeps_up(
    catalog: Catalog, tmp_path: Path
) -> None:
    add_embeddings(catalog, unit(1, 10))
    build_generation(catalog, tmp_path, MODEL)
    gallery = Gallery(catalog, tmp_path)
    gallery.refresh(now=True)
    add_embeddings(catalog, unit(2, 5), first=10)
    build_generation(catalog, tmp_path, MODEL)
    path = tmp_path / "2" / "image" / "vectors.npy"
    path.write_bytes(path.read_bytes()[:-7])
    add_embeddings(catalog, unit(3, 5), first=15)
    for now in (True, False, False):
        with pytest.raises(ArchiveError) as caught:
            gallery.refresh(now=now)
        assert caught.value.slug == "index-file-corrupt"
    assert gallery.generation is not None and gallery.generation.id == 1
    assert len(gallery.search("image", unit(1, 1)[0], 50)) == 20


def test_a_database_that_stops_while_a_generation_is_opened_doubles_nothing(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_embeddings(catalog, unit(1, 10))
    build_generation(catalog, tmp_path, MODEL)
    gallery = Gallery(catalog, tmp_path)
    gallery.refresh(now=True)
    add_embeddings(catalog, unit(2, 5), first=10)
    gallery.refresh(now=True)
    build_generation(catalog, tmp_path, MODEL)

    def stopped(*_: Any) -> None:
        raise ArchiveError("It has stopped.", "database-unavailable")

    with monkeypatch.context() as patch:
        patch.setattr("index.search.gallery.read_since", stopped)
        with pytest.raises(ArchiveError):
            gallery.refresh(now=True)
    rollback(catalog, tmp_path)
    gallery.refresh(now=True)
    found = [hit.study.study_instance_uid for hit in gallery.search("image", unit(0, 1)[0], 50)]
    assert len(found) == len(set(found)) == 15


def test_a_host_that_builds_nothing_clears_its_own_folder(catalog: Catalog, tmp_path: Path) -> None:
    gallery = Gallery(catalog, tmp_path / "elsewhere")
    for number in range(4):
        add_embeddings(catalog, unit(number, 3), first=3 * number)
        build_generation(catalog, tmp_path / "here", MODEL)
        gallery.refresh(now=True)
    assert sorted(path.name for path in (tmp_path / "elsewhere").glob("[0-9]*")) == ["3", "4"]
