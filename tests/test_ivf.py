"""The engine of large archives keeps its promise of recall, at any depth, and says how."""

from pathlib import Path

import numpy as np
import pytest

from index.engines import IvfEngine, IvfIndex, Place, RecallTooLow, exact_floor, recall_of, sample_queries
from index.engines.ivf import _filled
from model.errors import ArchiveError

ROWS, WIDTH = 20_000, 64
IDS = np.arange(ROWS) * 2 + 1


def clustered(seed: int, rows: int) -> np.ndarray:
    """(rows, WIDTH) around 200 centres; a vector's cosine with one of its own centre is about 0.6."""
    chosen = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((200, WIDTH))
    vectors = centres[chosen.integers(0, 200, rows)] + 0.8 * chosen.standard_normal((rows, WIDTH))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, IvfIndex, dict[str, int | None]]:
    place = Place("generation_1_image", tmp_path_factory.mktemp("ivf") / "image")
    vectors = clustered(1, ROWS)
    sample = sample_queries(IDS, vectors, clustered(2, 500), 256, seed=0)
    settings = IvfEngine().build(place, IDS, vectors, sample)
    return place, IvfEngine().open(place), settings["probes"]


def test_ten_a_hundred_and_a_thousand_are_found_as_exact_search_finds_them(built) -> None:
    _, index, probes = built
    vectors = clustered(1, ROWS)
    asked = sample_queries(IDS, vectors, clustered(3, 500), 200, seed=9)  # not what the engine was set by
    assert probes["10"] <= 64
    for depth in (10, 25, 100, 500, 1000, 3000):
        part = asked if depth <= 100 else asked.every(8)
        assert recall_of(index, part, exact_floor(vectors, part, depth), depth) >= 0.99


def test_scores_are_those_of_exact_search(built) -> None:
    _, index, _ = built
    for query in clustered(4, 20):
        ids, scores = index.search(query, 10)
        exact = dict(zip(*(values.tolist() for values in index.exact.search(query, 50)), strict=True))
        assert [exact.get(identity) for identity in ids.tolist()] == scores.tolist()


def test_a_row_stored_under_another_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clustered(1, 2000)
    monkeypatch.setattr("index.engines.ivf._filled", lambda given, fill=_filled: fill(np.roll(given, 1, axis=0)))
    with pytest.raises(ArchiveError) as caught:
        IvfEngine().build(
            Place("x", tmp_path / "x"), IDS[:2000], vectors, sample_queries(IDS[:2000], vectors, None, 64, seed=0)
        )
    assert caught.value.slug == "build-check-failed"


def test_vectors_without_neighbours_are_not_for_it(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((5000, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with pytest.raises(RecallTooLow):
        IvfEngine().build(
            Place("x", tmp_path / "x"), IDS[:5000], vectors, sample_queries(IDS[:5000], vectors, None, 128, seed=0)
        )


def test_a_damaged_file_is_named(built, tmp_path: Path) -> None:
    place, _, _ = built
    for name in ("ivf.faiss", "ivf.json", "ids.npy"):
        copy = Place("copy", tmp_path / name.replace(".", "-"))
        copy.folder.mkdir()
        for path in place.folder.iterdir():
            (copy.folder / path.name).write_bytes(path.read_bytes()[: 40 if path.name == name else None])
        with pytest.raises(ArchiveError) as caught:
            IvfEngine().open(copy)
        assert caught.value.slug == "index-file-corrupt"
        (copy.folder / name).unlink()
        with pytest.raises(ArchiveError) as caught:
            IvfEngine().open(copy)
        assert caught.value.slug == "index-file-missing"
