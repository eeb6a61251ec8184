"""Builds that are killed or run out of room leave the live generation answering, and nothing behind."""

import os
import random
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import Catalog, Gallery, build_generation, live_generation
from model.errors import ArchiveError
from tests.separately import separately
from tests.test_generations import MODEL, add_embeddings, parts, states, unit

ROWS = 1500


def fill(catalog: Catalog) -> np.ndarray:
    """Rows around a few centres, of both kinds."""
    centres = unit(0, 12)
    vectors = centres[np.arange(ROWS) % 12] + 0.5 * unit(1, ROWS)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    add_embeddings(catalog, vectors)
    add_embeddings(catalog, vectors[:400], "report")
    return vectors


def killed_while_building(url: str, folder: Path, after: float) -> None:
    command = [sys.executable, "-m", "tests.building", url, str(folder), MODEL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]) as builder:
        assert builder.stdout is not None and builder.stdout.readline() == b"ready\n"
        timer = threading.Timer(after, builder.kill)
        timer.start()
        builder.wait(120)
        timer.cancel()


def test_a_build_killed_at_any_moment_leaves_a_generation_that_answers(
    catalog: Catalog, url: str, tmp_path: Path
) -> None:
    vectors = fill(catalog)
    first = build_generation(catalog, tmp_path, MODEL)
    chosen = random.Random(5)
    for _ in range(int(os.environ.get("ALTA_TEST_KILLS", "5"))):
        killed_while_building(url, tmp_path, chosen.uniform(0, 2))
        live = live_generation(catalog)
        assert live is not None and live.id >= first.id
        gallery = Gallery(catalog, tmp_path)
        gallery.refresh(now=True)
        assert gallery.generation == live
        for row in (3, 777):
            assert gallery.search("image", vectors[row], 1)[0].study.study_instance_uid == f"1.2.3.{row}"
    add_embeddings(catalog, unit(7, 3), first=ROWS)
    last = build_generation(catalog, tmp_path, MODEL)
    assert {*states(catalog)} <= {"live", "retired", "removed", "failed"}
    kept = [number for number, state in enumerate(states(catalog), start=1) if state in ("live", "retired")]
    assert len(kept) <= 2 and last.id in kept
    assert parts(tmp_path) == {f"{number}/{kind}" for number in kept for kind in ("image", "report")}


def limited(url: str, folder: Path, size: int) -> tuple[str, str]:
    """Build where no file may grow beyond ``size``: what a full disk does, as far as the writer can tell."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    catalog = Catalog(url)
    try:
        build_generation(catalog, folder, MODEL)
    except ArchiveError as error:
        return error.slug, error.message
    finally:
        catalog.close()
    return "", ""


@pytest.mark.parametrize("size", [100, 20_000])  # no room for the ids, no room for the vectors
def test_a_full_disk_ends_a_build_with_one_clear_error(postgres_url: str, tmp_path: Path, size: int) -> None:
    from index import migrate

    migrate(postgres_url)  # SQLite's own file would be over the limit first
    catalog = Catalog(postgres_url)
    add_embeddings(catalog, unit(1, 10))
    first = build_generation(catalog, tmp_path, MODEL)
    before = parts(tmp_path)
    add_embeddings(catalog, unit(2, 600), first=10)
    slug, message = separately(limited, postgres_url, tmp_path, size)
    assert (slug, "free some space" in message) == ("disk-full", True)
    assert (live_generation(catalog), states(catalog), parts(tmp_path)) == (first, ["live", "failed"], before)
    assert build_generation(catalog, tmp_path, MODEL).image_rows == 610
    catalog.close()


def test_a_disk_that_fills_while_the_engine_writes_is_the_same_error(
    sqlite_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(sqlite_catalog)
    first = build_generation(sqlite_catalog, tmp_path, MODEL)
    before = parts(tmp_path)

    def full(*_: Any) -> None:
        raise RuntimeError("Error in fwrite: No space left on device")

    monkeypatch.setattr("index.engines.ivf.faiss.write_index", full)
    with pytest.raises(ArchiveError) as caught:
        build_generation(sqlite_catalog, tmp_path, MODEL, engine="ivf")
    assert caught.value.slug == "disk-full"
    assert (live_generation(sqlite_catalog), parts(tmp_path)) == (first, before)
