"""The embedding job on a Ray cluster: complete, no row twice, whatever becomes of a node."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from index import Catalog, embed_pending, migrate, open_catalog
from index.embedding.pending import pending_patients
from index.embedding.ray_job import embed_on_ray
from model.errors import ArchiveError
from tests.conftest import WriteDicom
from tests.fakes import FakeEncoder
from tests.test_embed import ROOT, embeddings, fill


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Ray's sockets need a short path."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        yield Path(folder)


def on_cluster(url: str, temporary: Path, *arguments: str, delay: float = 0) -> dict[str, Any]:
    pytest.importorskip("ray", reason="the extra `ray` is absent")
    environment = {
        **os.environ,
        "ALTA_TEST_ENCODER_DELAY": str(delay),
        "RAY_TMPDIR": str(temporary),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.ray_cluster", url, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def expected(tmp_path: Path, archive: Path, write_dicom: WriteDicom, studies: int) -> set[tuple[str, str, str, bytes]]:
    """What one process makes of the archive."""
    url = f"sqlite:///{tmp_path / 'alone'}.db"
    migrate(url)
    alone = open_catalog(url)
    fill(alone, archive, write_dicom, studies)
    embed_pending(alone, FakeEncoder(), workers=0)
    rows = embeddings(alone)
    alone.close()
    return rows


@pytest.mark.slow
def test_two_nodes_make_the_rows_of_one_process(
    sqlite_catalog: Catalog, sqlite_url: str, tmp_path: Path, archive: Path, write_dicom: WriteDicom, temporary: Path
) -> None:
    fill(sqlite_catalog, archive, write_dicom, 12)
    made = on_cluster(sqlite_url, temporary)
    assert (made["images"], made["reports"], made["failed"]) == (12, 12, 0)
    assert embeddings(sqlite_catalog) == expected(tmp_path, archive, write_dicom, 12)


def test_a_node_that_dies_midway_costs_no_row_and_doubles_none(
    sqlite_catalog: Catalog, sqlite_url: str, tmp_path: Path, archive: Path, write_dicom: WriteDicom, temporary: Path
) -> None:
    fill(sqlite_catalog, archive, write_dicom, 40)
    made = on_cluster(sqlite_url, temporary, "kill", delay=0.2)
    assert made["nodes"][:2] == [2, 2] and made["nodes"][-1] == 1  # it went on after the death
    assert embeddings(sqlite_catalog) == expected(tmp_path, archive, write_dicom, 40)


def test_ranges_cover_every_patient_with_work_once(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, encoder: FakeEncoder
) -> None:
    from index.embedding.pending import EVERYTHING, pending_counts
    from index.embedding.ray_job import _parts

    fill(catalog, archive, write_dicom, 14)
    whole = pending_counts(catalog, encoder.fingerprint, EVERYTHING)
    for size in (1, 3, 8, 1000):
        parts = list(_parts(catalog, encoder.fingerprint, size))
        counts = [pending_counts(catalog, encoder.fingerprint, part) for part in parts]
        assert sum(count["image"] for count in counts) == whole["image"]
        assert sum(count["report"] for count in counts) == whole["report"]
        assert all(sum(count.values()) > 0 for count in counts)
        assert len(parts) == 1 or max(sum(count.values()) for count in counts) <= max(size, 4)
    for part in parts:
        embed_pending(catalog, encoder, part=part, workers=0)
    assert pending_patients(catalog, encoder.fingerprint) == []


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "localhost:port"])
def test_a_cluster_that_is_not_there_is_one_clear_error(sqlite_url: str, address: str) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is absent")
    with pytest.raises(ArchiveError, match="There is no Ray cluster at") as caught:
        embed_on_ray(address, sqlite_url, FakeEncoder, "f" * 64)
    assert caught.value.slug == "ray-unavailable"


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, sqlite_url: str) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ArchiveError, match=r"alta-retrieval\[ray\]") as caught:
        embed_on_ray("auto", sqlite_url, FakeEncoder, "f" * 64)
    assert caught.value.slug == "ray-unavailable"
