"""What every vector engine promises, each driven through the same cases."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from index.engines import Engine, FlatEngine, IvfEngine, Place, VectorIndex, sample_queries
from index.engines.milvus import MilvusEngine
from model.errors import ArchiveError
from tests.separately import separately

ENGINES = {"flat": FlatEngine, "ivf": IvfEngine}


@pytest.fixture(params=[*sorted(ENGINES), MilvusEngine.name])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param in ENGINES:
        yield ENGINES[request.param]()
        return
    pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
    engine = MilvusEngine(str(tmp_path / "milvus.db"))
    yield engine
    engine.close()


@pytest.fixture
def place(engine: Engine, tmp_path: Path) -> Iterator[Place]:
    place = Place("generation_1_image", tmp_path / "1" / "image")
    yield place
    engine.remove(place)


def unit(seed: int, rows: int, width: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def built(engine: Engine, place: Place, ids: np.ndarray, vectors: np.ndarray) -> VectorIndex:
    build(engine, place, ids, vectors)
    return engine.open(place)


def build(engine: Engine, place: Place, ids: np.ndarray, vectors: np.ndarray) -> None:
    engine.build(place, ids, vectors, sample_queries(ids, vectors, None, 64, seed=0))


def naive(query: np.ndarray, ids: np.ndarray, vectors: np.ndarray, count: int) -> tuple[list[int], list[float]]:
    scores = (vectors.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    order = sorted(range(len(ids)), key=lambda row: (-scores[row], ids[row]))[:count]
    return [int(ids[row]) for row in order], [min(1.0, float(scores[row])) for row in order]


def with_twins() -> tuple[np.ndarray, np.ndarray]:
    """200 rows of which many are equal bit for bit, under ids with gaps."""
    return np.arange(200) * 7 + 3, np.concatenate([unit(1, 100), np.repeat(unit(2, 4), 25, axis=0)])


def test_the_order_is_that_of_exact_search_ties_by_id(engine: Engine, place: Place) -> None:
    ids, vectors = with_twins()
    index = built(engine, place, ids, vectors)
    assert (len(index), index.dimension) == (200, 16)
    for query in np.concatenate([unit(3, 3), vectors[[5, 110, 199]]]):
        for count in (1, 7, 25, 40, 200):
            found, scores = index.search(query, count)
            expected, exact = naive(query, ids, vectors, count)
            assert found.tolist() == expected
            assert scores.tolist() == exact
            assert (found.dtype, scores.dtype) == (np.int64, np.float64)


def test_asking_for_more_than_there_are_gives_all_and_for_none_nothing(engine: Engine, place: Place) -> None:
    index = built(engine, place, np.arange(5), unit(1, 5))
    assert sorted(index.search(unit(2, 1)[0], 50)[0].tolist()) == [0, 1, 2, 3, 4]
    assert index.search(unit(2, 1)[0], 0)[0].tolist() == []


def test_a_single_row_is_an_index(engine: Engine, place: Place) -> None:
    index = built(engine, place, np.array([9]), unit(1, 1))
    assert index.search(unit(1, 1)[0], 3)[0].tolist() == [9]


def test_a_search_among_ids_is_exact_and_passes_over_unknown_ones(engine: Engine, place: Place) -> None:
    ids, vectors = with_twins()
    index = built(engine, place, ids, vectors)
    for step in (1, 3, 13, 150):
        some = np.arange(0, 200, step)
        for query in (unit(4, 1)[0], vectors[120]):
            found, scores = index.search(query, 9, np.append(ids[some], [0, 1, 99_999]))
            assert (found.tolist(), scores.tolist()) == naive(query, ids[some], vectors[some], 9)
    assert index.search(unit(4, 1)[0], 9, np.array([0, 1]))[0].tolist() == []
    assert index.search(unit(4, 1)[0], 9, np.empty(0, np.int64))[0].tolist() == []


def test_vectors_come_back_bit_for_bit_in_the_order_asked(engine: Engine, place: Place) -> None:
    ids, vectors = with_twins()
    index = built(engine, place, ids, vectors)
    asked = np.array([150, 3, 77])
    np.testing.assert_array_equal(index.vectors(ids[asked]), vectors[asked])
    assert index.vectors(np.empty(0, np.int64)).shape == (0, 16)
    with pytest.raises(KeyError):
        index.vectors(np.array([3, 4]))


def test_an_index_built_by_another_process_is_opened(engine: Engine, place: Place) -> None:
    ids, vectors = with_twins()
    separately(build, engine, place, ids, vectors)
    query = unit(5, 1)[0]
    found, scores = engine.open(place).search(query, 12)
    assert (found.tolist(), scores.tolist()) == naive(query, ids, vectors, 12)


def test_building_again_replaces_what_was_there(engine: Engine, place: Place) -> None:
    built(engine, place, np.arange(30), unit(1, 30))
    index = built(engine, place, np.arange(100, 110), unit(2, 10))
    assert sorted(index.search(unit(3, 1)[0], 50)[0].tolist()) == list(range(100, 110))


def test_a_removed_index_is_missing_and_can_be_removed_again(engine: Engine, place: Place) -> None:
    built(engine, place, np.arange(5), unit(1, 5))
    engine.remove(place)
    with pytest.raises(ArchiveError) as caught:
        engine.open(place)
    assert caught.value.slug == "index-file-missing"
    engine.remove(place)


def test_places_do_not_touch_each_other(engine: Engine, place: Place, tmp_path: Path) -> None:
    other = Place("generation_1_report", tmp_path / "1" / "report")
    index = built(engine, place, np.arange(5), unit(1, 5))
    try:
        built(engine, other, np.arange(50, 60), unit(2, 10))
        assert sorted(index.search(unit(3, 1)[0], 50)[0].tolist()) == [0, 1, 2, 3, 4]
    finally:
        engine.remove(other)
    assert sorted(engine.open(place).search(unit(3, 1)[0], 50)[0].tolist()) == [0, 1, 2, 3, 4]
