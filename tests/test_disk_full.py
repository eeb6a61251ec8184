"""A disk without room: one clear error, what was live still answers, and the same command ends well once there is room.

Each test has a small file system of its own, which only root may mount.
"""

import contextlib
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from index import Catalog, Gallery, build_generation, embed_pending, ingest_folder, migrate, open_catalog
from index.intake.ingest import ingest_received
from index.intake.received import ReceivedStore
from index.tables import Embedding, Generation, Instance, Study
from model.checkpoint import read_fingerprint
from model.errors import ArchiveError
from tests.command_line import typed
from tests.conftest import WriteDicom
from tests.fakes import FakeEncoder
from tests.tiny import write_tiny_checkpoint

MIB = 2**20
Alta = Callable[..., tuple[int, str]]


class Disk:
    """A file system of a few MiB, with a file that fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, leave: int = 0) -> None:
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        if leave:
            os.truncate(self._ballast, self._ballast.stat().st_size - leave)

    def make_room(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={8 * MIB}", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"no small file system can be mounted: {mount.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def encoder(tmp_path: Path) -> FakeEncoder:
    """Makes the embeddings of the encoders that the command line is configured with."""
    return FakeEncoder(fingerprint=read_fingerprint(write_tiny_checkpoint(tmp_path / "encoders")))


@pytest.fixture
def alta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Alta:
    """``alta("index", "build")`` gives exit code and standard error."""
    monkeypatch.setenv("ALTA_MODEL_PATH", str(tmp_path / "encoders"))
    monkeypatch.chdir(tmp_path)
    opened: list[Catalog] = []

    def opening(url: str) -> Catalog:
        opened.append(open_catalog(url))
        return opened[-1]

    monkeypatch.setattr("index.open_catalog", opening)

    def run(*arguments: object) -> tuple[int, str]:
        code, _, err = typed(monkeypatch, capsys, *arguments)
        for catalog in opened:  # the end of a process does that
            catalog.close()
        return code, err

    return run


def studies(write_dicom: WriteDicom, first: int, count: int) -> None:
    for number in range(first, first + count):
        write_dicom(f"{number}.dcm", study=f"1.2.{number}", seed=number, PatientID=f"P{number}")


def count(catalog: Catalog, column: object) -> int:
    with catalog.session() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(column)) or 0  # type: ignore[arg-type]


def make_live(catalog: Catalog, encoder: FakeEncoder, archive: Path, generations: Path) -> Gallery:
    ingest_folder(catalog, archive, workers=0)
    embed_pending(catalog, encoder, workers=0)
    build_generation(catalog, generations, encoder.fingerprint)
    gallery = Gallery(catalog, generations)
    gallery.refresh()
    return gallery


def found(gallery: Gallery, encoder: FakeEncoder) -> int:
    return len(gallery.search("image", np.ones(encoder.dimension), 1000))


def assert_one_line(outcome: tuple[int, str]) -> None:
    code, error = outcome
    assert code == 1
    lines = error.strip().splitlines()
    assert len(lines) == 1, error
    assert lines[0].startswith("alta: ")
    assert "full" in lines[0]


def test_a_database_without_room(
    disk: Disk,
    archive: Path,
    write_dicom: WriteDicom,
    encoder: FakeEncoder,
    alta: Alta,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALTA_DATA_DIR", str(disk.folder))
    monkeypatch.delenv("ALTA_DATABASE_URL", raising=False)
    url = f"sqlite:///{disk.folder / 'alta.db'}"
    migrate(url)
    catalog = open_catalog(url)
    studies(write_dicom, 0, 5)
    gallery = make_live(catalog, encoder, archive, disk.folder / "generations")
    studies(write_dicom, 5, 200)

    disk.fill(leave=100_000)
    assert_one_line(alta("ingest", archive))
    assert found(gallery, encoder) == 5
    some = count(catalog, Instance)
    assert some < 205
    disk.make_room()
    assert alta("ingest", archive)[0] == 0
    assert count(catalog, Instance) == count(catalog, Study) == 205

    disk.fill(leave=20_000)
    with pytest.raises(ArchiveError, match="full") as caught:
        embed_pending(catalog, encoder, batch_size=64, workers=0)
    assert caught.value.slug == "database-unavailable"
    assert found(gallery, encoder) >= 5
    disk.make_room()
    embed_pending(catalog, encoder, workers=0)
    with catalog.session() as session:
        assert session.scalar(sa.text("PRAGMA integrity_check")) == "ok"
        per_study = Counter(session.scalars(sa.select(Embedding.study_id).where(Embedding.kind == "image")))
    assert len(per_study) == per_study.total() == 205
    catalog.close()


def test_an_index_without_room(
    disk: Disk,
    catalog: Catalog,
    url: str,
    archive: Path,
    write_dicom: WriteDicom,
    encoder: FakeEncoder,
    alta: Alta,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALTA_DATA_DIR", str(disk.folder))
    monkeypatch.setenv("ALTA_DATABASE_URL", url)
    generations = disk.folder / "generations"
    studies(write_dicom, 0, 5)
    gallery = make_live(catalog, encoder, archive, generations)
    studies(write_dicom, 5, 60)
    ingest_folder(catalog, archive, workers=0)
    embed_pending(catalog, encoder, workers=0)

    for leave in (0, 4096, 12_288):
        disk.fill(leave)
        assert_one_line(alta("index", "build"))
        with catalog.session() as session:
            states = Counter(session.scalars(sa.select(Generation.state)))
        assert states["live"] == 1
        assert states["building"] == 0
        gallery.refresh()
        assert found(gallery, encoder) >= 5
        disk.make_room()
    kept = {path.relative_to(generations).parts[0] for path in generations.rglob("*") if not path.name.startswith(".")}
    assert len(kept) == 1, kept
    assert alta("index", "build") == (0, "")
    shutil.rmtree(archive)
    fresh = Gallery(catalog, generations)
    fresh.refresh()
    assert found(fresh, encoder) == 65


def test_a_store_without_room(disk: Disk, catalog: Catalog, archive: Path, write_dicom: WriteDicom) -> None:
    studies(write_dicom, 0, 6)
    files = [path.read_bytes() for path in sorted(archive.iterdir())]
    store = ReceivedStore(disk.folder / "received", min_free_bytes=0)
    store.keep(files[0])
    disk.fill(leave=3 * 4096)  # for one more and half of another
    kept = 1
    refused: ArchiveError | None = None
    for data in files[1:]:
        try:
            store.keep(data)
            kept += 1
        except ArchiveError as error:
            refused = error
    assert refused is not None
    assert refused.slug == "storage-full"
    assert "No space left" in refused.message
    assert not list(disk.folder.rglob("*.partial"))
    ingest_received(catalog, store, workers=0)
    assert count(catalog, Instance) == kept  # what was acknowledged is there
    disk.make_room()
    for data in files:  # a sender sends again what was not acknowledged, and perhaps what was
        store.keep(data)
    ingest_received(catalog, store, workers=0)
    assert count(catalog, Instance) == count(catalog, Study) == 6
    assert store.waiting() == []
    assert list((store.folder / "waiting").iterdir()) == []
