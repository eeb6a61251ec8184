"""A zip file gives its radiographs and nothing else, whatever it holds and however it ends."""

import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from index import Catalog, IngestSummary, ReceivedStore, ZipSource, find_study
from index.intake.ingest import ingest
from index.intake.preview import DraftStore, preview
from index.tables import Instance
from model.errors import ArchiveError, InputError
from tests.conftest import chest_dataset


@pytest.fixture
def store(tmp_path: Path) -> ReceivedStore:
    return ReceivedStore(tmp_path / "received", min_free_bytes=0)


@pytest.fixture
def take_in(sqlite_catalog: Catalog, store: ReceivedStore) -> Callable[[Path], IngestSummary]:
    return lambda path: ingest(sqlite_catalog, ZipSource(path, store), workers=0)


def dicom(**arguments: object) -> bytes:
    buffer = io.BytesIO()
    chest_dataset(**arguments).save_as(buffer, enforce_file_format=True)  # type: ignore[arg-type]
    return buffer.getvalue()


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


class Pipe(io.RawIOBase):
    """A file that cannot seek, so that sizes follow the members."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return self._file.write(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def reasons(catalog: Catalog) -> dict[str, str]:
    """accepted, or the reason, by what follows # in the path; "kept" for the store's own files, "" for the zip."""
    with catalog.session() as session:
        return {
            "kept" if row.path.endswith(".dcm") and "objects" in row.path else row.path.partition("#")[2]: row.reason
            or row.status
            for row in session.scalars(sa.select(Instance))
        }


def test_the_zip_may_be_deleted_afterwards(
    tmp_path: Path, take_in: Callable[[Path], IngestSummary], sqlite_catalog: Catalog
) -> None:
    path = zipped(tmp_path / "a.zip", {"disk/x/1": dicom(study="1.2.3.1"), "disk/2.dcm": dicom(study="1.2.3.2")})
    assert (take_in(path).accepted, take_in(path).unchanged) == (2, 2)
    path.unlink()
    with sqlite_catalog.session() as session:
        assert all(Path(found).is_file() for found in session.scalars(sa.select(Instance.path)))


def test_what_is_no_radiograph_is_refused_by_name(
    tmp_path: Path, take_in: Callable[[Path], IngestSummary], sqlite_catalog: Catalog
) -> None:
    members = {
        "good": dicom(),
        "page.dcm": b"<html>",
        "photo.jpg": b"\xff\xd8\xff\xe0" + b"x" * 200,
        "table.csv": b"a,b",
        "empty": b"",
        "inner.zip": zipped(tmp_path / "inner.zip", {"a": dicom()}).read_bytes(),
        "inner.bin": zipped(tmp_path / "inner.zip", {"a": dicom()}).read_bytes(),
        "../../etc/passwd": b"root",
        "turn\x1b[2J\u202e": b"x",
        "folder/": b"",
        "stray.txt": b"Clear lungs.",
    }
    summary = take_in(zipped(tmp_path / "a.zip", members))
    assert reasons(sqlite_catalog) == {
        "kept": "accepted",
        "page.dcm": "not-dicom",
        "photo.jpg": "no-identity",
        "table.csv": "not-an-image",
        "empty": "empty-file",
        "inner.zip": "nested-archive",
        "inner.bin": "nested-archive",
        "../../etc/passwd": "not-an-image",
        "turn\\x1b[2J\\u202e": "not-an-image",
        "stray.txt": "not-a-report",
    }
    assert summary.refused.total() == 9 and summary.accepted == 1


def test_a_kept_member_that_is_refused_says_why(
    tmp_path: Path, take_in: Callable[[Path], IngestSummary], sqlite_catalog: Catalog
) -> None:
    take_in(zipped(tmp_path / "a.zip", {"ct": dicom(Modality="CT")}))
    assert reasons(sqlite_catalog) == {"kept": "wrong-modality"}


def test_texts_named_by_their_study_are_its_reports(
    tmp_path: Path, take_in: Callable[[Path], IngestSummary], sqlite_catalog: Catalog
) -> None:
    members = {"r/A1.txt": b"FINDINGS: Clear.", "b": dicom(study="1.2.3.1"), "c": dicom(study="1.2.3.2")}
    members["1.2.3.2.txt"] = b"IMPRESSION: Effusion."
    assert take_in(zipped(tmp_path / "a.zip", members)).reports_matched == 2
    assert (report := find_study(sqlite_catalog, "1.2.3.1").report) is not None and "Clear" in report.text


def test_members_that_cannot_be_unpacked_cost_only_themselves(
    tmp_path: Path, take_in: Callable[[Path], IngestSummary], sqlite_catalog: Catalog
) -> None:
    path = zipped(tmp_path / "a.zip", {"a": dicom(study="1.2.3.1"), "b": dicom(study="1.2.3.2"), "c": b"x" * 99})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link.dcm")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        broken, locked = archive.getinfo("b"), archive.getinfo("c")
    middle = broken.header_offset + 30 + broken.compress_size // 2
    data[middle : middle + 8] = bytes(8)
    entry = data.index(b"PK\1\2", locked.header_offset)  # the table of contents
    for _ in range(2):
        entry = data.index(b"PK\1\2", entry + 1)
    data[entry + 8] |= 1  # encrypted
    path.write_bytes(data)
    take_in(path)
    assert reasons(sqlite_catalog) == {
        "kept": "accepted",
        "b": "corrupt-member",
        "c": "encrypted",
        "link.dcm": "not-a-file",
    }


def test_bombs_are_refused(
    tmp_path: Path,
    take_in: Callable[[Path], IngestSummary],
    sqlite_catalog: Catalog,
    store: ReceivedStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("index.sources.zip_members.ALWAYS_ALLOWED", 2**20)
    bomb = bytes(128) + b"DICM" + bytes(2**23)
    path = zipped(tmp_path / "a.zip", {"bomb": bomb, "good": dicom()})
    take_in(path)
    assert reasons(sqlite_catalog) == {"bomb": "zip-bomb", "kept": "accepted"}
    assert sum(file.stat().st_size for file in store.folder.rglob("*") if file.is_file()) < 2**20


def test_many_small_expansions_are_a_bomb_too(
    tmp_path: Path,
    take_in: Callable[[Path], IngestSummary],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("index.sources.zip_members.ALWAYS_ALLOWED", 2**20)
    part = bytes(128) + b"DICM" + bytes(2**19)
    summary = take_in(zipped(tmp_path / "a.zip", {f"{n}": part + bytes([n]) for n in range(20)}))
    assert summary.refused["zip-bomb"] > 10


def test_a_member_over_the_limit_is_refused(
    tmp_path: Path, take_in: Callable[[Path], IngestSummary], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.sources.zip_members.MAX_FILE_BYTES", 1000)
    assert take_in(zipped(tmp_path / "a.zip", {"a": dicom()})).refused == {"too-large": 1}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_that_was_cut_short_gives_what_it_has(
    tmp_path: Path, take_in: Callable[[Path], IngestSummary], sqlite_catalog: Catalog, method: int
) -> None:
    members = {"a": dicom(study="1.2.3.1"), "b.txt": b"nothing", "c": dicom(study="1.2.3.2"), "d": dicom(seed=5)}
    path = zipped(tmp_path / "a.zip", members, method)
    with zipfile.ZipFile(path) as archive:
        middle = archive.getinfo("d").header_offset + 500
    path.write_bytes(path.read_bytes()[:middle])
    assert take_in(path).accepted == 2
    found = reasons(sqlite_catalog)
    assert found.pop("kept") == "accepted"
    assert found == {"": "truncated", "d": "truncated", "b.txt": "not-a-report"}
    assert take_in(path).unchanged == 2


def test_a_streamed_zip_that_was_cut_short_gives_what_it_has(
    tmp_path: Path, take_in: Callable[[Path], IngestSummary], sqlite_catalog: Catalog
) -> None:
    path = tmp_path / "a.zip"
    with Pipe(path) as pipe, zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[arg-type]
        for number in range(3):
            archive.writestr(f"{number}", dicom(study=f"1.2.3.{number}"))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"PK\1\2") - 100])
    assert take_in(path).accepted == 2
    assert reasons(sqlite_catalog) == {"": "truncated", "2": "truncated", "kept": "accepted"}


def test_a_cut_zip_whose_members_are_damaged(
    tmp_path: Path, take_in: Callable[[Path], IngestSummary], sqlite_catalog: Catalog
) -> None:
    path = zipped(tmp_path / "a.zip", {"a": dicom(study="1.2.3.1"), "b": dicom(study="1.2.3.2")}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[600] ^= 255
    path.write_bytes(data[: data.index(b"PK\1\2")])
    take_in(path)
    assert reasons(sqlite_catalog) == {"a": "corrupt-member", "kept": "accepted", "": "truncated"}


def test_what_is_no_zip_is_an_error(tmp_path: Path, take_in: Callable[[Path], IngestSummary]) -> None:
    (tmp_path / "a.zip").write_bytes(b"no zip at all")
    (tmp_path / "empty.zip").touch()
    for name, slug in (("a.zip", "not-a-zip"), ("empty.zip", "not-a-zip"), ("none.zip", "no-such-file")):
        with pytest.raises(InputError) as caught:
            take_in(tmp_path / name)
        assert caught.value.slug == slug


def test_a_full_disk_ends_the_run_and_loses_nothing(tmp_path: Path, sqlite_catalog: Catalog) -> None:
    path = zipped(tmp_path / "a.zip", {"a": dicom()})
    full = ReceivedStore(tmp_path / "received", min_free_bytes=2**62)
    with pytest.raises(ArchiveError) as caught:
        ingest(sqlite_catalog, ZipSource(path, full), workers=0)
    assert caught.value.slug == "storage-full"
    roomy = ReceivedStore(tmp_path / "received", min_free_bytes=0)
    assert ingest(sqlite_catalog, ZipSource(path, roomy), workers=0).accepted == 1


def test_two_zips_with_two_versions_end_the_same_however_often_they_are_read(
    tmp_path: Path, take_in: Callable[[Path], IngestSummary], sqlite_catalog: Catalog
) -> None:
    paths = [zipped(tmp_path / f"{n}.zip", {"a": dicom(sop="1.2.3", seed=n)}) for n in (1, 2)]
    assert [(done.accepted, done.updated) for done in map(take_in, paths)] == [(1, 0), (0, 1)]
    assert [(done.accepted, done.updated) for done in map(take_in, paths)] == [(0, 0), (0, 0)]
    with sqlite_catalog.session() as session:
        row = session.scalars(sa.select(Instance).where(Instance.status == "accepted")).one()
    assert Path(row.path).read_bytes() == dicom(sop="1.2.3", seed=2)


def test_a_preview_tells_the_same_and_writes_nothing(
    tmp_path: Path, take_in: Callable[[Path], IngestSummary], sqlite_catalog: Catalog, store: ReceivedStore
) -> None:
    members = {f"{n}": dicom(study=f"1.2.3.{n}") for n in range(3)} | {"again": dicom(study="1.2.3.0", PatientID="P2")}
    members |= {"ct": dicom(Modality="CT"), "page.dcm": b"<html>", "A1.txt": b"FINDINGS: Clear."}
    path = zipped(tmp_path / "a.zip", members)
    draft = DraftStore(tmp_path / "draft", store)
    told = preview(sqlite_catalog, ZipSource(path, draft), workers=0)
    assert reasons(sqlite_catalog) == {} and not store.folder.exists()
    assert list(draft.folder.rglob("*.dcm")) == []
    done = take_in(path)
    assert (told.summary.accepted, told.summary.updated, told.summary.refused) == (3, 1, done.refused)
    assert (done.accepted, done.updated) == (3, 1)
    assert told.summary.studies_new == done.studies_new == 3
    assert sorted(row.reason for row in told.refused) == sorted(done.refused.elements())
    again = preview(sqlite_catalog, ZipSource(path, draft), workers=0)
    assert (again.summary.accepted, again.summary.unchanged) == (0, 3)  # one was replaced by "again"
