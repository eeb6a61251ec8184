"""Generations: built beside the live one, checked, switched at once; their files can always be made again."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from index import (
    Catalog,
    Gallery,
    Reindex,
    begin_reindex,
    build_generation,
    end_reindex,
    live_generation,
    migrate,
    prune,
    rollback,
)
from index.embedding.removal import remove_embeddings
from index.engines import LOCAL_ENGINES, FlatEngine, Place, Sample
from index.generations.build import build_part
from index.generations.lifecycle import one_builder, rebuild_live
from index.generations.removal import remove_old
from index.tables import Embedding, EmbeddingFailure, Generation, Patient, Study
from model.errors import ArchiveError, EmptyIndex

MODEL = "f" * 64


def unit(seed: int, rows: int, width: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def add_embeddings(
    catalog: Catalog, vectors: np.ndarray, kind: str = "image", first: int = 0, model: str = MODEL
) -> None:
    """A study each, numbered from ``first``; studies that exist get another kind."""
    with catalog.write() as session:
        patient = session.scalar(sa.select(Patient)) or Patient(key="p")
        session.add(patient)
        for number, vector in enumerate(vectors, start=first):
            uid = f"1.2.3.{number}"
            study = session.scalar(sa.select(Study).where(Study.study_instance_uid == uid))
            if study is None:
                study = Study(study_instance_uid=uid, modality="CR", patient=patient)
                session.add(study)
                session.flush()
            blob = vector.astype("<f4").tobytes()
            session.add(
                Embedding(study_id=study.id, kind=kind, model_fingerprint=model, vector=blob, source_hash="0" * 64)
            )


def add_building_row(catalog: Catalog) -> None:
    with catalog.write() as session:
        session.add(
            Generation(
                state="building",
                model_fingerprint=MODEL,
                engine="flat",
                dimension=16,
                image_rows=3,
                image_max_id=3,
                report_rows=0,
                report_max_id=0,
            )
        )


def delete_newest_embedding(catalog: Catalog) -> None:
    with catalog.write() as session:
        session.delete(session.scalars(sa.select(Embedding).order_by(Embedding.id.desc())).all()[0])


def states(catalog: Catalog) -> list[str]:
    with catalog.session() as session:
        return list(session.scalars(sa.select(Generation.state).order_by(Generation.id)))


def parts(folder: Path) -> set[str]:
    """``1/image`` and so on; what a build leaves behind is among them."""
    return {str(path.relative_to(folder)) for path in folder.glob("*/*")}


def test_a_generation_holds_both_kinds_and_goes_live(catalog: Catalog, tmp_path: Path) -> None:
    assert live_generation(catalog) is None
    add_embeddings(catalog, unit(1, 40))
    add_embeddings(catalog, unit(2, 30), "report")
    seen: list[tuple[int, int]] = []
    info = build_generation(catalog, tmp_path / "g", MODEL, progress=lambda done, total: seen.append((done, total)))
    assert (info.image_rows, info.report_rows, info.dimension, info.recall) == (40, 30, 16, 1.0)
    assert live_generation(catalog) == info
    assert seen[-1] == (70, 70)
    assert parts(tmp_path / "g") == {"1/image", "1/report"}


def test_without_embeddings_there_is_nothing_to_build(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(EmptyIndex):
        build_generation(catalog, tmp_path, MODEL)
    assert states(catalog) == []


def test_building_again_without_a_change_does_nothing(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 5))
    first = build_generation(catalog, tmp_path, MODEL)
    assert build_generation(catalog, tmp_path, MODEL) == first
    assert states(catalog) == ["live"]


def test_a_replaced_embedding_is_a_change(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 5))
    build_generation(catalog, tmp_path, MODEL)
    with catalog.write() as session:
        last = session.scalars(sa.select(Embedding).order_by(Embedding.id.desc())).first()
        assert last is not None
        study_id = last.study_id
        session.delete(last)
        session.flush()
        blob = unit(9, 1)[0].tobytes()
        session.add(
            Embedding(study_id=study_id, kind="image", model_fingerprint=MODEL, vector=blob, source_hash="1" * 64)
        )
    assert build_generation(catalog, tmp_path, MODEL).id == 2


def test_the_last_two_generations_keep_their_parts(catalog: Catalog, tmp_path: Path) -> None:
    for number in range(4):
        add_embeddings(catalog, unit(number, 3), first=3 * number)
        build_generation(catalog, tmp_path, MODEL)
    assert states(catalog) == ["removed", "removed", "retired", "live"]
    assert parts(tmp_path) == {"3/image", "4/image"}


@pytest.mark.parametrize(("damage", "slug"), [("remove", "index-file-missing"), ("cut", "index-file-corrupt")])
def test_a_damaged_file_is_named_and_built_again(catalog: Catalog, tmp_path: Path, damage: str, slug: str) -> None:
    add_embeddings(catalog, unit(1, 5))
    first = build_generation(catalog, tmp_path, MODEL)
    path = tmp_path / "1" / "image" / "vectors.npy"
    if damage == "remove":
        path.unlink()
        delete_newest_embedding(catalog)  # with all rows there it would be made again by itself
    else:
        path.write_bytes(path.read_bytes()[:-7])
    gallery = Gallery(catalog, tmp_path)
    with pytest.raises(ArchiveError, match="alta index build") as caught:
        gallery.refresh(now=True)
    assert caught.value.slug == slug
    assert build_generation(catalog, tmp_path, MODEL).id == first.id + 1
    gallery.refresh(now=True)
    assert len(gallery.search("image", unit(1, 1)[0], 4)) == 4


def test_a_host_without_the_files_makes_them_again(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 5))
    add_embeddings(catalog, unit(2, 5), "report")
    info = build_generation(catalog, tmp_path / "here", MODEL)
    add_embeddings(catalog, unit(3, 5), first=5)  # newer rows, of no generation yet
    elsewhere = tmp_path / "elsewhere"
    gallery = Gallery(catalog, elsewhere)
    gallery.refresh(now=True)
    assert gallery.generation == info
    assert len(gallery.search("image", unit(1, 1)[0], 20)) == 10
    assert parts(elsewhere) == parts(tmp_path / "here")


def test_a_build_reads_the_rows_of_one_moment(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 5))
    other = Catalog(catalog.engine.url.render_as_string(hide_password=False))
    counted: list[str] = []

    def add_more(*event: Any) -> None:
        if "count(" in event[2] and not counted:
            counted.append(event[2])
            add_embeddings(other, unit(2, 3), first=5)

    sa.event.listen(catalog.engine, "after_cursor_execute", add_more)
    try:
        assert build_generation(catalog, tmp_path, MODEL).image_rows == 5
    finally:
        sa.event.remove(catalog.engine, "after_cursor_execute", add_more)
        other.close()
    assert counted
    assert build_generation(catalog, tmp_path, MODEL).image_rows == 8


def test_a_build_on_another_host_is_waited_for_and_not_taken_for_dead(postgres_url: str, tmp_path: Path) -> None:
    migrate(postgres_url)
    here, there = Catalog(postgres_url), Catalog(postgres_url)
    add_embeddings(here, unit(1, 3))
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    with here.one_builder():
        add_building_row(here)
        other = threading.Thread(target=build_generation, args=(there, tmp_path / "there", MODEL))
        other.start()
        deadline = time.monotonic() + 60
        with here.session() as session:
            while other.is_alive() and not session.scalar(waiting) and time.monotonic() < deadline:
                session.rollback()
        assert states(here) == ["building"]
    other.join()
    assert states(here) == ["failed", "live"]
    here.close()
    there.close()


def test_a_build_that_another_took_for_dead_does_not_go_live(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_embeddings(catalog, unit(1, 3))

    def taken_for_dead(*arguments: Any) -> Any:
        with catalog.write() as session:
            session.execute(sa.update(Generation).values(state="failed"))
        return build_part(*arguments)

    monkeypatch.setattr("index.generations.lifecycle.build_part", taken_for_dead)
    with pytest.raises(ArchiveError) as caught:
        build_generation(catalog, tmp_path, MODEL)
    assert caught.value.slug == "generation-changed"
    assert states(catalog) == ["failed"]


def test_a_build_that_fails_its_check_leaves_the_live_generation(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_embeddings(catalog, unit(1, 30))
    first = build_generation(catalog, tmp_path, MODEL)
    add_embeddings(catalog, unit(2, 30), first=30)
    build = FlatEngine.build

    def shifted(self: FlatEngine, place: Place, ids: np.ndarray, vectors: np.ndarray, sample: Sample) -> Any:
        return build(self, place, ids, np.roll(vectors, 1, axis=0), sample)  # every vector under its neighbour's id

    monkeypatch.setattr(FlatEngine, "build", shifted)
    with pytest.raises(ArchiveError) as caught:
        build_generation(catalog, tmp_path, MODEL)
    assert caught.value.slug == "build-check-failed"
    assert states(catalog) == ["live", "failed"]
    assert live_generation(catalog) == first
    assert parts(tmp_path) == {"1/image"}


def test_vectors_that_cannot_be_searched_are_refused(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 3) * 2)
    with pytest.raises(ArchiveError) as caught:
        build_generation(catalog, tmp_path, MODEL)
    assert caught.value.slug == "bad-embedding"


def test_a_build_that_died_is_cleared_away(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 3))
    add_building_row(catalog)
    (tmp_path / "1" / "image.partial").mkdir(parents=True)
    build_generation(catalog, tmp_path, MODEL)
    assert states(catalog) == ["failed", "live"]
    assert parts(tmp_path) == {"2/image"}


def test_many_equal_vectors_pass_the_check(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, np.repeat(unit(1, 2), 40, axis=0))
    assert build_generation(catalog, tmp_path, MODEL).recall == 1.0


def grown(catalog: Catalog, folder: Path, times: int, **options: Any) -> None:
    """Generations 1 to ``times``, each of three studies more than the one before."""
    for number in range(times):
        add_embeddings(catalog, unit(number, 3), first=3 * number)
        build_generation(catalog, folder, MODEL, **options)


def test_as_many_generations_are_kept_as_asked(catalog: Catalog, tmp_path: Path) -> None:
    grown(catalog, tmp_path, 4, keep=3)
    assert states(catalog) == ["removed", "retired", "retired", "live"]
    assert parts(tmp_path) == {"2/image", "3/image", "4/image"}


def test_going_back_is_one_switch_and_nothing_that_came_since_is_lost(catalog: Catalog, tmp_path: Path) -> None:
    grown(catalog, tmp_path, 3, keep=3)
    gallery = Gallery(catalog, tmp_path)
    gallery.refresh(now=True)
    before = gallery.search("image", unit(9, 1)[0], 20)
    assert rollback(catalog, tmp_path).id == 2
    assert states(catalog) == ["retired", "live", "retired"]
    gallery.refresh(now=True)
    assert gallery.generation is not None and gallery.generation.id == 2
    assert gallery.search("image", unit(9, 1)[0], 20) == before
    assert rollback(catalog, tmp_path).id == 1
    assert rollback(catalog, tmp_path, to=3).id == 3
    assert rollback(catalog, tmp_path, to=3).id == 3


def test_what_was_live_last_is_kept_not_what_was_built_last(catalog: Catalog, tmp_path: Path) -> None:
    grown(catalog, tmp_path, 3, keep=3)
    rollback(catalog, tmp_path, to=1)
    add_embeddings(catalog, unit(8, 3), first=9)
    build_generation(catalog, tmp_path, MODEL)
    assert states(catalog) == ["retired", "removed", "removed", "live"]


def test_there_must_be_something_to_go_back_to(catalog: Catalog, tmp_path: Path) -> None:
    grown(catalog, tmp_path, 3)
    for to, slug in ((1, "nothing-to-go-back-to"), (77, "unknown-generation")):
        with pytest.raises(ArchiveError) as caught:
            rollback(catalog, tmp_path, to=to)
        assert caught.value.slug == slug
    rollback(catalog, tmp_path)
    with pytest.raises(ArchiveError) as caught:
        rollback(catalog, tmp_path)
    assert caught.value.slug == "nothing-to-go-back-to"


def test_a_damaged_generation_is_not_gone_back_to(catalog: Catalog, tmp_path: Path) -> None:
    grown(catalog, tmp_path, 2)
    with (tmp_path / "1" / "image" / "vectors.npy").open("rb+") as file:
        file.seek(200)
        file.write(b"\xff\xff")
    with pytest.raises(ArchiveError) as caught:
        rollback(catalog, tmp_path)
    assert caught.value.slug == "index-file-corrupt"
    assert states(catalog) == ["retired", "live"]


def test_a_host_without_the_files_makes_them_again_without_what_was_removed_since(
    catalog: Catalog, tmp_path: Path
) -> None:
    add_embeddings(catalog, unit(1, 8))
    build_generation(catalog, tmp_path / "here", MODEL)
    with catalog.write() as session:
        remove_embeddings(session, Embedding.id.in_([2, 5]))
    gallery = Gallery(catalog, tmp_path / "elsewhere")
    gallery.refresh(now=True)
    uids = {hit.study.study_instance_uid for hit in gallery.search("image", unit(9, 1)[0], 20)}
    assert uids == {f"1.2.3.{number}" for number in (0, 2, 3, 5, 6, 7)}


def test_a_folder_of_another_database_is_not_taken_for_ones_own(
    sqlite_catalog: Catalog, postgres_url: str, tmp_path: Path
) -> None:
    migrate(postgres_url)
    other = Catalog(postgres_url)
    add_embeddings(sqlite_catalog, unit(1, 5))
    add_embeddings(other, unit(2, 5))
    build_generation(sqlite_catalog, tmp_path / "a", MODEL)
    build_generation(other, tmp_path / "b", MODEL)
    gallery = Gallery(other, tmp_path / "a")  # both have a generation 1 of five studies
    gallery.refresh(now=True)
    assert gallery.search("image", unit(2, 1)[0], 1)[0].score == pytest.approx(1)
    other.close()


def test_a_file_that_is_found_to_be_another_while_it_answers_ends_its_answers(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.generations.parts.HASHED_AT_ONCE", 0)
    add_embeddings(catalog, unit(1, 5))
    build_generation(catalog, tmp_path, MODEL)
    with (tmp_path / "1" / "image" / "vectors.npy").open("rb+") as file:
        file.seek(200)
        file.write(b"\xff\xff")
    gallery = Gallery(catalog, tmp_path)
    gallery.refresh(now=True)
    assert gallery.snapshot is not None
    part = gallery.snapshot.parts["image"]
    assert part is not None
    with pytest.raises(ArchiveError):
        part.require_whole(wait=True)
    with pytest.raises(ArchiveError) as caught:
        gallery.search("image", unit(1, 1)[0], 3)
    assert caught.value.slug == "index-file-corrupt"
    build_generation(catalog, tmp_path, MODEL)
    gallery.refresh(now=True)
    assert len(gallery.search("image", unit(1, 1)[0], 3)) == 3


def test_vectors_without_neighbours_are_searched_exactly_and_the_settings_say_so(
    sqlite_catalog: Catalog, tmp_path: Path
) -> None:
    """In many dimensions uniform vectors have no near ones: no few cells hold the nearest."""
    add_embeddings(sqlite_catalog, unit(1, 3000, 64))
    info = build_generation(sqlite_catalog, tmp_path, MODEL, engine="ivf")
    assert (info.engine, info.settings["image"]["instead_of"], info.recall) == ("flat", "ivf", 1.0)
    assert build_generation(sqlite_catalog, tmp_path, MODEL, engine="ivf") == info


def test_an_engine_that_is_not_there_is_named(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="flat, ivf"):
        build_generation(catalog, tmp_path, MODEL, engine="hnsw")


def test_an_engine_that_was_asked_for_is_built_although_no_row_changed(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, np.repeat(unit(1, 30), 10, axis=0))
    assert build_generation(catalog, tmp_path, MODEL).engine == "flat"
    assert build_generation(catalog, tmp_path, MODEL, engine="ivf").engine == "ivf"
    assert build_generation(catalog, tmp_path, MODEL).id == 2


def test_pruning_leaves_what_a_kept_generation_or_a_reindex_needs(catalog: Catalog, tmp_path: Path) -> None:
    grown(catalog, tmp_path, 2)
    with catalog.write() as session:
        study_id = session.scalars(sa.select(Study.id)).all()[0]
        for model in ("a", "b", "c"):
            of_model = {"study_id": study_id, "kind": "image", "model_fingerprint": model * 64, "source_hash": "0" * 64}
            session.add(Embedding(**of_model, vector=unit(1, 1).tobytes()))
            session.add(EmbeddingFailure(**of_model, reason="r", detail="d"))
        remove_embeddings(session, Embedding.id == 1)
    begin_reindex(catalog, Reindex("b" * 64, "/b"))
    planned = prune(catalog, tmp_path, models=["c" * 64], keep=1, dry_run=True)
    assert states(catalog) == ["retired", "live"]
    assert prune(catalog, tmp_path, models=["c" * 64], keep=1) == planned
    assert (planned.generations, planned.embeddings, planned.failures) == ([1], {"a" * 64: 1}, 1)
    assert planned.removals == 0  # the live generation still has the row that is gone
    assert (states(catalog), parts(tmp_path)) == (["removed", "live"], {"2/image"})
    end_reindex(catalog)
    build_generation(catalog, tmp_path, MODEL, keep=1)
    done = prune(catalog, tmp_path, models=["c" * 64], keep=1)
    assert (done.embeddings, done.removals) == ({"b" * 64: 1}, 1)
    with catalog.session() as session:
        models = set(session.scalars(sa.select(Embedding.model_fingerprint)))
    assert models == {MODEL, "c" * 64}


def test_pruning_lets_be_what_a_reindex_begins_to_embed_meanwhile(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "b" * 64
    grown(catalog, tmp_path, 1)
    add_embeddings(catalog, unit(2, 1), model=other)

    def begun(*arguments: Any, **options: Any) -> list[int]:
        begin_reindex(catalog, Reindex(other, "/b"))
        add_embeddings(catalog, unit(2, 1), first=1, model=other)
        return remove_old(*arguments, **options)

    monkeypatch.setattr("index.generations.pruning.remove_old", begun)
    prune(catalog, tmp_path, models=[MODEL])
    with catalog.session() as session:
        query = sa.select(sa.func.count()).where(Embedding.model_fingerprint == other)
        assert session.scalar(query) == 2


def test_what_is_made_again_is_the_generation_that_is_live_when_its_turn_has_come(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "b" * 64
    add_embeddings(catalog, unit(1, 4))
    add_embeddings(catalog, unit(2, 4), model=other)
    build_generation(catalog, tmp_path, MODEL)

    @contextmanager
    def after_a_switch(*arguments: Any) -> Iterator[None]:
        monkeypatch.undo()
        build_generation(catalog, tmp_path, other)
        with one_builder(*arguments):
            yield

    monkeypatch.setattr("index.generations.lifecycle.one_builder", after_a_switch)
    rebuild_live(catalog, tmp_path)
    live = live_generation(catalog)
    assert live is not None and live.model_fingerprint == other
    assert states(catalog) == ["removed", "live"]


class _Server(FlatEngine):
    """An engine whose indexes lie where no folder of the archive is."""

    name = "server"  # type: ignore[misc]
    local = False  # type: ignore[misc]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _at(self, place: Place) -> Place:
        return Place(place.name, self.folder / place.name)

    def build(self, place: Place, ids: np.ndarray, vectors: np.ndarray, sample: Sample) -> Any:
        return super().build(self._at(place), ids, vectors, sample)

    def open(self, place: Place) -> Any:
        return super().open(self._at(place))

    def remove(self, place: Place) -> None:
        super().remove(self._at(place))

    def held(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*"))


def test_what_a_server_holds_is_not_taken_for_removed_where_it_is_not_configured(
    catalog: Catalog, tmp_path: Path
) -> None:
    server = _Server(tmp_path / "server")
    engines = {**LOCAL_ENGINES, server.name: server}
    folder = tmp_path / "generations"
    add_embeddings(catalog, unit(1, 4))
    build_generation(catalog, folder, MODEL, engine=server.name, engines=engines)
    add_embeddings(catalog, unit(2, 4), first=4)
    build_generation(catalog, folder, MODEL, keep=1)
    assert states(catalog) == ["retired", "live"] and server.held() == ["generation_1_image"]
    assert prune(catalog, folder, models=[MODEL], keep=1).generations == []
    assert prune(catalog, folder, models=[MODEL], keep=1, engines=engines).generations == [1]
    assert states(catalog) == ["removed", "live"] and server.held() == []


def test_a_build_that_died_is_cleared_away_where_its_server_is_configured(catalog: Catalog, tmp_path: Path) -> None:
    server = _Server(tmp_path / "server")
    engines = {**LOCAL_ENGINES, server.name: server}
    folder = tmp_path / "generations"
    add_building_row(catalog)
    with catalog.write() as session:
        session.execute(sa.update(Generation).values(engine=server.name))
    (tmp_path / "server" / "generation_1_image").mkdir(parents=True)
    add_embeddings(catalog, unit(1, 4))
    build_generation(catalog, folder, MODEL)
    assert states(catalog) == ["building", "live"]
    add_embeddings(catalog, unit(2, 4), first=4)
    build_generation(catalog, folder, MODEL, engines=engines)
    assert states(catalog) == ["failed", "retired", "live"] and server.held() == []


def test_an_index_is_removed_before_it_is_said_to_be(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_embeddings(catalog, unit(1, 4))
    build_generation(catalog, tmp_path, MODEL)
    add_embeddings(catalog, unit(2, 4), first=4)

    def down(*_: object) -> None:
        raise ArchiveError("The server does not answer.", "engine-unavailable")

    with monkeypatch.context() as patch:
        patch.setattr("index.generations.removal.remove_parts", down)
        with pytest.raises(ArchiveError):
            build_generation(catalog, tmp_path, MODEL, keep=1)
    assert states(catalog) == ["retired", "live"]  # the next one removes it
    prune(catalog, tmp_path, models=[MODEL], keep=1)
    assert states(catalog) == ["removed", "live"]


def test_where_the_encoders_lay_is_kept_from_generation_to_generation(catalog: Catalog, tmp_path: Path) -> None:
    add_embeddings(catalog, unit(1, 3))
    build_generation(catalog, tmp_path, MODEL, model_path="/encoders")
    add_embeddings(catalog, unit(2, 3), first=3)
    assert build_generation(catalog, tmp_path, MODEL).model_path == "/encoders"
    add_embeddings(catalog, unit(3, 3), first=6)
    assert build_generation(catalog, tmp_path, MODEL, model_path="/moved").model_path == "/moved"
