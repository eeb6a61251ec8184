"""What was embedded or removed since the live generation was built is searched as if it had been in it."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from index import Catalog, Gallery, build_generation, open_catalog
from index.embedding.removal import remove_embeddings
from index.tables import Embedding, Study
from model.errors import EmptyIndex
from tests.separately import separately
from tests.test_generations import MODEL, add_embeddings, unit

QUERY = unit(99, 1)[0]


def opened(catalog: Catalog, folder: Path) -> Gallery:
    gallery = Gallery(catalog, folder)
    gallery.refresh(now=True)
    return gallery


def numbers(gallery: Gallery, top_k: int = 500, kind: str = "image") -> list[int]:
    """Numbers of the studies found, best first, after taking in what the database has."""
    gallery.refresh(now=True)
    hits = gallery.search(kind, QUERY, top_k)  # type: ignore[arg-type]
    return [int(hit.study.study_instance_uid.rpartition(".")[2]) for hit in hits]


def naive(catalog: Catalog, kind: str = "image") -> list[int]:
    """All studies of the database by their similarity to QUERY."""
    query = sa.select(Study.id, Study.study_instance_uid, Embedding.vector).join(Embedding)
    query = query.where(Embedding.kind == kind, Embedding.model_fingerprint == MODEL)
    with catalog.session() as session:
        rows = session.execute(query).all()
    scores = [(np.frombuffer(row.vector, "<f4").astype(float) * QUERY.astype(float)).sum() for row in rows]
    order = sorted(range(len(rows)), key=lambda place: (-scores[place], rows[place].id))
    return [int(rows[place].study_instance_uid.rpartition(".")[2]) for place in order]


def embedding_of(number: int) -> list[sa.ColumnElement[bool]]:
    study = sa.select(Study.id).where(Study.study_instance_uid == f"1.2.3.{number}").scalar_subquery()
    return [Embedding.kind == "image", Embedding.study_id == study]


def remove(catalog: Catalog, *which: int) -> None:
    with catalog.write() as session:
        for number in which:
            assert remove_embeddings(session, *embedding_of(number)) == 1


def embed_again(catalog: Catalog, number: int, seed: int) -> None:
    """As the embedding job does when a study's source has changed."""
    with catalog.write() as session:
        remove_embeddings(session, *embedding_of(number))
    add_embeddings(catalog, unit(seed, 1), first=number)


def test_a_new_study_is_found_and_a_removed_one_is_not_on_every_replica(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 20))
    build_generation(catalog, tmp_path, MODEL)
    replicas = [opened(catalog, tmp_path), opened(catalog, tmp_path / "other")]
    add_embeddings(catalog, unit(2, 5), first=20)
    remove(catalog, 3, 22)
    for gallery in replicas:
        assert numbers(gallery) == naive(catalog)
        assert set(numbers(gallery)) == {*range(25)} - {3, 22}
        assert numbers(gallery, 4) == naive(catalog)[:4]


def test_another_process_finds_what_this_one_added(catalog: Catalog, url: str, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 20))
    build_generation(catalog, tmp_path, MODEL)
    gallery = opened(catalog, tmp_path)
    assert separately(add_and_search, url, tmp_path, 20, 5) == list(range(25))
    assert numbers(gallery) == naive(catalog)
    remove(catalog, 24)
    assert separately(add_and_search, url, tmp_path, 25, 1) == [*range(24), 25]


def add_and_search(url: str, folder: Path, first: int, count: int) -> list[int]:
    catalog = open_catalog(url)
    add_embeddings(catalog, unit(first, count), first=first)
    found = numbers(opened(catalog, folder))
    catalog.close()
    return sorted(found)


def test_the_database_is_asked_twice_a_second_and_not_for_every_request(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_embeddings(catalog, unit(1, 5))
    build_generation(catalog, tmp_path, MODEL)
    clock = [0.0]
    monkeypatch.setattr("index.search.gallery.monotonic", lambda: clock[0])
    gallery = opened(catalog, tmp_path)
    statements: list[str] = []

    def asked(*event: Any) -> None:
        statements.extend([event[2]] if event[2].startswith("SELECT") else [])

    sa.event.listen(catalog.engine, "after_cursor_execute", asked)
    for clock[0] in (0.1, 0.2, 0.49):
        gallery.refresh()
    assert statements == []
    clock[0] = 0.5
    gallery.refresh()
    assert len(statements) == 1


def test_a_study_embedded_again_is_found_where_it_is_now(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 10))
    build_generation(catalog, tmp_path, MODEL)
    gallery = opened(catalog, tmp_path)
    for seed in (5, 6):  # the second time it is a row of the delta that is replaced
        embed_again(catalog, 4, seed)
        found = numbers(gallery)
        assert found == naive(catalog)
        assert len(found) == 10


def test_removed_neighbours_do_not_shorten_the_list(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 100))
    build_generation(catalog, tmp_path, MODEL)
    gallery = opened(catalog, tmp_path)
    remove(catalog, *naive(catalog)[:60])
    assert numbers(gallery, 5) == naive(catalog)[:5]
    assert len(numbers(gallery, 40)) == 40


def test_a_kind_that_only_came_later_is_searched(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 5))
    build_generation(catalog, tmp_path, MODEL)
    gallery = opened(catalog, tmp_path)
    with pytest.raises(EmptyIndex):
        gallery.search("report", QUERY, 3)
    add_embeddings(catalog, unit(2, 5), "report")
    assert numbers(gallery, kind="report") == naive(catalog, kind="report")


def test_when_everything_was_removed_nothing_is_found(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 40))
    build_generation(catalog, tmp_path, MODEL)
    gallery = opened(catalog, tmp_path)
    remove(catalog, *range(40))
    for replica in (gallery, opened(catalog, tmp_path / "other")):
        replica.refresh(now=True)
        with pytest.raises(EmptyIndex):
            replica.search("image", QUERY, 3)


def test_embeddings_of_another_model_are_no_part_of_the_live_generation(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 5))
    build_generation(catalog, tmp_path, MODEL)
    gallery = opened(catalog, tmp_path)
    with catalog.write() as session:
        for study_id in session.scalars(sa.select(Study.id)).all():
            blob = unit(7, 1, 24)[0].tobytes()
            of_new = {"study_id": study_id, "kind": "image", "model_fingerprint": "e" * 64}
            session.add(Embedding(**of_new, vector=blob, source_hash="0" * 64))
    add_embeddings(catalog, unit(2, 2), first=5)
    assert numbers(gallery) == naive(catalog)
    assert len(numbers(gallery)) == 7


def test_a_row_that_no_build_would_take_does_not_end_searches(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 5))
    build_generation(catalog, tmp_path, MODEL)
    gallery = opened(catalog, tmp_path)
    add_embeddings(catalog, unit(2, 1, 8), first=5)
    add_embeddings(catalog, unit(2, 1) * np.nan, first=6)
    add_embeddings(catalog, unit(3, 1), first=7)
    assert set(numbers(gallery)) == {0, 1, 2, 3, 4, 7}


def test_a_transaction_that_commits_late_is_not_passed_over(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 5))
    build_generation(catalog, tmp_path, MODEL)
    gallery = opened(catalog, tmp_path)
    other = threading.Thread(target=add_embeddings, args=(catalog, unit(3, 1)), kwargs={"first": 1})
    with catalog.write() as session:
        late = session.scalar(sa.select(Study).where(Study.study_instance_uid == "1.2.3.0"))
        assert late is not None
        for number in (0, 1):
            remove_embeddings(session, *embedding_of(number))
        blob = unit(2, 1)[0].tobytes()
        of_model = {"kind": "image", "model_fingerprint": MODEL}
        session.add(Embedding(study_id=late.id, vector=blob, source_hash="0" * 64, **of_model))
        session.flush()  # its row has an id that nobody sees yet
        other.start()  # a writer with a higher one must wait, or a searcher would see that and never this
        assert set(numbers(gallery)) == {0, 1, 2, 3, 4}
        assert other.is_alive()
    other.join(60)
    assert not other.is_alive()
    assert numbers(gallery) == naive(catalog)


@pytest.mark.parametrize("seed", range(3))
def test_any_history_is_searched_as_the_database_says(catalog: Catalog, tmp_path: Path, seed: int) -> None:
    """Studies come, go and are embedded again, generations are built between, some replicas look only now and then."""
    chosen = np.random.default_rng(seed)
    there: set[int] = set()
    last = 0
    galleries = [Gallery(catalog, tmp_path / name) for name in ("a", "b")]
    for step in range(20):
        what = chosen.choice(["add", "remove", "again", "build"], p=[0.4, 0.25, 0.2, 0.15])
        if what == "add" or not there:
            count = int(chosen.integers(1, 8))
            add_embeddings(catalog, unit(1000 * seed + step, count), first=last)
            there |= set(range(last, last + count))
            last += count
        elif what == "build":
            build_generation(catalog, tmp_path / "a", MODEL)
        else:
            some = chosen.choice(sorted(there), min(len(there), int(chosen.integers(1, 4))), replace=False).tolist()
            if what == "remove":
                remove(catalog, *some)
                there -= set(some)
            for number in some if what == "again" else ():
                embed_again(catalog, number, 1000 * seed + step + number)
        for gallery in galleries if step % 3 == 0 else galleries[:1]:
            gallery.refresh(now=True)
            if gallery.generation is not None:
                assert numbers(gallery) == naive(catalog)
                assert numbers(gallery, 3) == naive(catalog)[:3]
