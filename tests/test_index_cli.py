"""``alta index`` as one types it: build, go back, move to another model, clear away."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import index
from index import Catalog, open_catalog
from model.checkpoint import read_fingerprint
from tests.service_samples import write_archive
from tests.test_cli import Alta
from tests.test_cli import alta as alta  # the fixture
from tests.test_generations import add_embeddings, states, unit
from tests.tiny import write_tiny_checkpoint


@pytest.fixture
def archive(alta: Alta, tmp_path: Path) -> Iterator[Catalog]:
    """Four studies, embedded with the configured encoders, in generation 1."""
    write_tiny_checkpoint(tmp_path / "encoders", "ignored")
    (tmp_path / "source").mkdir()
    write_archive(tmp_path / "source")
    for command in (("ingest", "source", "--reports", "source/reports.csv"), ("embed",), ("index", "build")):
        code, _, err = alta(*command)
        assert code == 0, err
    catalog = open_catalog(f"sqlite:///{tmp_path / 'data' / 'alta.db'}")
    yield catalog
    catalog.close()


def add(catalog: Catalog, tmp_path: Path, count: int, first: int) -> None:
    """Studies that come later, as rows."""
    model = read_fingerprint(tmp_path / "encoders")
    live = index.live_generation(catalog)
    assert live is not None
    add_embeddings(catalog, unit(first, count, live.dimension), first=first, model=model)


def test_the_status_tells_what_is_searched_beside_the_generation(alta: Alta, archive: Catalog, tmp_path: Path) -> None:
    out = alta("index", "status")[1]
    assert "4 studies, 3 reports, engine flat, recall@10 against exact search 1.000" in out
    assert "Searched beside it: 0 (image), 0 (report)" in out
    add(archive, tmp_path, 3, 50)
    assert "Searched beside it: 3 (image), 0 (report)" in alta("index", "status")[1]
    assert "It holds all there is." not in alta("index", "build")[1]
    assert "It holds all there is." in alta("index", "build")[1]


def test_an_engine_can_be_asked_for_and_an_unknown_one_is_an_error(
    alta: Alta, archive: Catalog, tmp_path: Path
) -> None:
    assert "engine ivf" in alta("index", "build", "--engine", "ivf")[1]
    code, _, err = alta("index", "build", "--engine", "hnsw")
    assert code == 1 and "flat" in err and "ivf" in err


def test_going_back_and_forth(alta: Alta, archive: Catalog, tmp_path: Path) -> None:
    add(archive, tmp_path, 3, 50)
    alta("index", "build")
    code, out, _ = alta("index", "rollback")
    assert code == 0 and "Generation 1 is live" in out and "3 (image)" in out
    assert "Undo: alta index rollback --to 2" in out
    assert states(archive) == ["live", "retired"]
    assert "Generation 2 is live" in alta("index", "rollback", "--to", 2)[1]
    out = alta("index", "list")[1]
    assert re.findall(r"(\d+) +│ (live|retired)", out) == [("2", "live"), ("1", "retired")]
    code, _, err = alta("index", "rollback", "--to", 9)
    assert code == 1 and "alta index list" in err


def test_files_can_be_compared_with_their_hashes(alta: Alta, archive: Catalog, tmp_path: Path) -> None:
    assert alta("index", "verify")[:2] == (0, "Generation 1 (live) is whole.\n")
    with (tmp_path / "data" / "generations" / "1" / "image" / "vectors.npy").open("rb+") as file:
        file.seek(150)
        file.write(b"\xff\xff\xff")
    code, out, _ = alta("index", "verify")
    assert code == 1 and "vectors.npy" in out and "alta index build" in out


def test_a_reindex_is_stopped_gone_on_with_and_undone(
    alta: Alta, archive: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_checkpoint(tmp_path / "new", "ignored", seed=1)
    embed = index.embed_pending

    def stopped(catalog: Catalog, encoder: Any, **options: Any) -> Any:
        """As when someone stops it once the images are done."""

        def stop(*_: Any) -> Any:
            raise KeyboardInterrupt

        encoder.encode_texts = stop
        return embed(catalog, encoder, **options)

    with monkeypatch.context() as patched:
        patched.setattr(index, "embed_pending", stopped)
        alta("index", "reindex", "--model", "new")
    out = alta("index", "status")[1]
    assert "Generation 1:" in out and "is under way; not embedded with it: 0 (image), 3 (report)" in out
    assert "embeddings of model" not in alta("index", "prune")[1]

    code, out, _ = alta("index", "reindex", "--model", "new")
    assert code == 0 and "Embedded 0 studies and 3 reports." in out and "Generation 2 is live" in out
    assert "Undo: alta index rollback --to 1" in out
    assert "under way" not in alta("index", "status")[1]
    assert index.live_generation(archive).model_path == str(tmp_path / "new")  # type: ignore[union-attr]

    monkeypatch.setenv("ALTA_MODEL_PATH", str(tmp_path / "new"))
    out = alta("index", "rollback")[1]
    assert "Generation 1 is live" in out and str(tmp_path / "encoders") in out
    alta("index", "rollback", "--to", 2)
    out = alta("index", "prune", "--keep", 1, "--dry-run")[1]
    assert "Would remove" in out and "generations: 1" in out and ": 7" in out
    assert ": 7" in alta("index", "prune", "--keep", 1)[1]
    assert states(archive) == ["removed", "live"]


def test_a_build_does_not_go_over_to_other_encoders(
    alta: Alta, archive: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    write_tiny_checkpoint(other, "encoded")
    monkeypatch.setenv("ALTA_MODEL_PATH", str(other))
    assert "other encoders" in alta("embed")[1]
    code, _, err = alta("index", "build")
    assert code == 1 and "alta index reindex --model" in err and str(tmp_path / "encoders") in err
    assert states(archive) == ["live"]
