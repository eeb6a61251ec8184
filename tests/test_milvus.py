"""Generations in Milvus: the same life as in files, with milvus-lite for the server."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from index import Catalog, Filters, Gallery, build_generation, rollback
from index.embedding.removal import remove_embeddings
from index.engines import LOCAL_ENGINES, Engine, Place, sample_queries
from index.engines.milvus import MilvusEngine
from index.tables import Embedding, Study
from model.errors import ArchiveError
from service.engines import engines_of
from service.settings import Settings
from tests.test_generations import MODEL, add_embeddings, unit

pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MilvusEngine]:
    engine = MilvusEngine(str(tmp_path / "milvus.db"))
    yield engine
    engine.close()


@pytest.fixture
def engines(server: MilvusEngine) -> Mapping[str, Engine]:
    return {**LOCAL_ENGINES, server.name: server}


def found(gallery: Gallery, query: np.ndarray, count: int = 3, filters: Filters | None = None) -> list[str]:
    gallery.refresh()
    snapshot = gallery.snapshot
    assert snapshot is not None
    return [hit.study.study_instance_uid for hit in snapshot.search("image", query, count, filters or Filters())]


def test_a_generation_lives_in_milvus_as_it_does_in_files(
    sqlite_catalog: Catalog, tmp_path: Path, engines: Mapping[str, Engine]
) -> None:
    folder, vectors = tmp_path / "generations", unit(1, 40)
    add_embeddings(sqlite_catalog, vectors[:30])
    first = build_generation(sqlite_catalog, folder, MODEL, engine="milvus", engines=engines)
    assert first.engine == "milvus" and first.recall == 1.0
    gallery = Gallery(sqlite_catalog, folder, engines=engines)
    assert found(gallery, vectors[7])[0] == "1.2.3.7"

    add_embeddings(sqlite_catalog, vectors[30:], first=30)  # beside the generation
    with sqlite_catalog.write() as session:
        gone = session.query(Study.id).filter_by(study_instance_uid="1.2.3.7").scalar()
        remove_embeddings(session, Embedding.study_id == gone)
    other = Gallery(sqlite_catalog, folder, engines=engines)
    assert found(other, vectors[35])[0] == "1.2.3.35"
    assert "1.2.3.7" not in found(other, vectors[7], 40)
    assert found(other, vectors[7], 40, Filters(exclude_studies=("1.2.3.35",))).count("1.2.3.35") == 0

    second = build_generation(sqlite_catalog, folder, MODEL, engine="milvus", engines=engines)
    assert second.id != first.id and second.image_rows == 39
    assert rollback(sqlite_catalog, folder, engines=engines).id == first.id
    third = Gallery(sqlite_catalog, folder, engines=engines)
    assert found(third, vectors[35])[0] == "1.2.3.35" and "1.2.3.7" not in found(third, vectors[7], 40)


def test_collections_of_removed_generations_go(
    sqlite_catalog: Catalog, tmp_path: Path, engines: Mapping[str, Engine], server: MilvusEngine
) -> None:
    for number in range(4):
        add_embeddings(sqlite_catalog, unit(number, 5), first=5 * number)
        build_generation(sqlite_catalog, tmp_path / "generations", MODEL, engine="milvus", engines=engines, keep=2)
    for generation, there in ((1, False), (2, False), (3, True), (4, True)):
        place = Place(f"generation_{generation}_image", tmp_path)
        if there:
            assert len(server.open(place)) == 5 * generation
        else:
            with pytest.raises(ArchiveError):
                server.open(place)


def test_an_unfinished_collection_is_no_index(server: MilvusEngine, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    class Killed(np.ndarray):
        """Vectors whose second part cannot be read any more."""

        def __getitem__(self, key: object) -> np.ndarray:
            if isinstance(key, slice) and key.start:
                raise Stop
            return np.asarray(super().__getitem__(key))

    vectors = unit(1, 40_000, width=128)
    ids, place = np.arange(len(vectors)), Place("generation_9_image", tmp_path)
    with pytest.raises(Stop):
        server.build(place, ids, vectors.view(Killed), sample_queries(ids, vectors, None, 8, seed=0))
    with pytest.raises(ArchiveError, match="not finished"):
        server.open(place)
    server.remove(place)


def test_archives_that_share_a_server_have_names_of_their_own(tmp_path: Path) -> None:
    uri = str(tmp_path / "shared.db")
    one, two = (MilvusEngine(uri, prefix=prefix) for prefix in ("north", "south"))
    ids, vectors, place = np.arange(5), unit(1, 5), Place("generation_1_image", tmp_path)
    one.build(place, ids, vectors, sample_queries(ids, vectors, None, 4, seed=0))
    two.build(place, ids + 50, vectors, sample_queries(ids + 50, vectors, None, 4, seed=0))
    assert sorted(one.open(place).search(vectors[0], 9)[0].tolist()) == [0, 1, 2, 3, 4]
    two.remove(place)
    assert len(one.open(place)) == 5
    one.close()
    two.close()


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    engine = MilvusEngine("http://127.0.0.1:1")
    with pytest.raises(ArchiveError) as caught:
        engine.open(Place("generation_1_image", tmp_path))
    assert caught.value.slug == "engine-unavailable" and "127.0.0.1:1" in caught.value.message


def test_milvus_is_the_engine_where_it_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(engines_of(Settings())) == {"flat", "ivf"} and Settings().engine is None
    monkeypatch.setenv("ALTA_MILVUS_URI", "http://milvus:19530")
    assert set(engines_of(Settings())) == {"flat", "ivf", "milvus"} and Settings().engine == "milvus"
