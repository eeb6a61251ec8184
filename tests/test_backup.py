"""A backup is the whole catalog at one moment; restored or moved, it answers as before, and nothing is written over."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from index import Catalog, Gallery, build_generation, embed_pending, ingest_folder, migrate, open_catalog
from index.keeping.backup import back_up, copy_catalog, drop_backup, list_backups, restore_backup
from index.keeping.backup_file import sqlite_url
from index.keeping.copying import table_counts
from index.tables import Base, Embedding, Generation, Study
from model.errors import ArchiveError
from tests.conftest import WriteDicom, fresh_database
from tests.fakes import FakeEncoder

STUDIES = 6
Rows = dict[str, list[tuple[object, ...]]]


@pytest.fixture(params=["sqlite", "postgres"])
def target_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of another empty database, on each in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'other' / 'alta.db'}"
    return str(request.getfixturevalue("other_postgres_url"))


@pytest.fixture
def other_postgres_url(postgres_server: str) -> Iterator[str]:
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture
def filled(catalog: Catalog, archive: Path, write_dicom: WriteDicom, tmp_path: Path) -> Catalog:
    """Studies, reports, refusals, a waiting report, embeddings, a removal, a live generation."""
    lines = ["accession_number,text"]
    for number in range(STUDIES):
        about = {"PatientID": f"P{number // 2}", "StudyDate": f"202{number}0101", "StudyTime": "101112.5"}
        write_dicom(f"{number}.dcm", study=f"1.2.3.{number}", seed=number, **about)
        lines.append(f"A{number},Ground glass number{number} — ütf.")
    lines.append("A99,Waits for its study.")
    write_dicom("ct.dcm", study="1.2.3.50", Modality="CT")
    reports = tmp_path / "reports.csv"
    reports.write_text("\n".join(lines))
    ingest_folder(catalog, archive, reports, workers=0)
    encoder = FakeEncoder()
    embed_pending(catalog, encoder)
    write_dicom("0.dcm", study="1.2.3.0", seed=70, PatientID="P0", StudyDate="20200101")
    ingest_folder(catalog, archive, workers=0)
    embed_pending(catalog, encoder)
    build_generation(catalog, tmp_path / "generations", encoder.fingerprint)
    return catalog


def rows(catalog: Catalog, without: tuple[str, ...] = ("backup",)) -> Rows:
    with catalog.session() as session:
        return {
            table.name: [tuple(row) for row in session.execute(sa.select(table).order_by(*table.primary_key.columns))]
            for table in Base.metadata.sorted_tables
            if table.name not in without
        }


def answers(catalog: Catalog, folder: Path) -> list[tuple[int, float, str]]:
    gallery = Gallery(catalog, folder)
    gallery.refresh()
    found = []
    for kind in ("image", "report"):
        hits = gallery.search(kind, np.linspace(0.1, 1, FakeEncoder().dimension), 4)  # type: ignore[arg-type]
        found += [(hit.rank, hit.score, hit.study.study_instance_uid) for hit in hits]
    return found


def opened(url: str | sa.URL, act: Callable[[Catalog], object]) -> object:
    catalog = open_catalog(url)
    try:
        return act(catalog)
    finally:
        catalog.close()


def test_a_restored_archive_has_the_same_rows_and_answers_the_same(
    filled: Catalog, target_url: str, tmp_path: Path
) -> None:
    before, expected = rows(filled), answers(filled, tmp_path / "generations")
    copied = back_up(filled, tmp_path / "backups" / "alta.db")
    assert copied.studies == STUDIES and copied.rows == sum(map(len, rows(filled, ()).values()))
    restore_backup(target_url, tmp_path / "backups" / "alta.db")

    def check(restored: Catalog) -> None:
        assert rows(restored) == before
        assert restored.patient_key("P1") == filled.patient_key("P1")
        # Elsewhere there are no index files: they are built from the rows, without an encoder.
        build_generation(restored, tmp_path / "elsewhere", FakeEncoder().fingerprint)
        assert answers(restored, tmp_path / "elsewhere") == expected

    opened(target_url, check)


def test_a_moved_archive_goes_on_where_it_was(
    filled: Catalog, target_url: str, tmp_path: Path, archive: Path, write_dicom: WriteDicom
) -> None:
    before, expected = rows(filled, ()), answers(filled, tmp_path / "generations")
    copy_catalog(filled, target_url)
    write_dicom("new.dcm", study="1.2.3.60", seed=60, PatientID="P0", StudyDate="20190101")

    def check(moved: Catalog) -> None:
        assert rows(moved, ()) == before
        assert answers(moved, tmp_path / "generations") == expected  # the same index files serve
        assert ingest_folder(moved, archive, workers=0).studies_new == 1
        assert embed_pending(moved, FakeEncoder()).images == 2  # the new one, and the study whose prior it is

    opened(target_url, check)


def test_ids_are_not_given_again_after_a_move(filled: Catalog, target_url: str, tmp_path: Path) -> None:
    with filled.write() as session:
        newest = session.scalar(sa.select(sa.func.max(Embedding.id))) or 0
        session.execute(sa.delete(Embedding).where(Embedding.id == newest))
        generation = session.scalar(sa.select(sa.func.max(Generation.id))) or 0
        session.execute(sa.delete(Generation))
    copy_catalog(filled, target_url)
    embed = FakeEncoder()

    def check(moved: Catalog) -> None:
        embed_pending(moved, embed)
        with moved.session() as session:
            assert (session.scalar(sa.select(sa.func.max(Embedding.id))) or 0) > newest
        assert build_generation(moved, tmp_path / "elsewhere", embed.fingerprint).id > generation
        with moved.write() as session:  # every table takes a new row
            patient = session.scalars(sa.select(Study.patient_id)).first()
            session.add(Study(study_instance_uid="1.2.9", patient_id=patient or 0, modality="CR"))

    opened(target_url, check)


@pytest.mark.parametrize("act", ["restore", "copy"])
def test_nothing_is_written_over(filled: Catalog, target_url: str, tmp_path: Path, act: str) -> None:
    copy_catalog(filled, target_url)
    back_up(filled, tmp_path / "alta-backup.db")
    before = opened(target_url, rows)
    acts = {
        "restore": lambda: restore_backup(target_url, tmp_path / "alta-backup.db"),
        "copy": lambda: copy_catalog(filled, target_url),
    }
    with pytest.raises(ArchiveError) as caught:
        acts[act]()
    assert caught.value.slug == "not-empty"
    assert opened(target_url, rows) == before


class Stopped(Exception):
    pass


def stop(done: int, total: int) -> None:
    raise Stopped


def test_a_restore_that_stops_leaves_the_target_empty(filled: Catalog, target_url: str, tmp_path: Path) -> None:
    back_up(filled, tmp_path / "alta-backup.db")
    with pytest.raises(Stopped):
        restore_backup(target_url, tmp_path / "alta-backup.db", progress=stop)
    counts = opened(target_url, lambda catalog: sum(len(found) for found in rows(catalog, ("secret",)).values()))
    assert counts == 0
    restore_backup(target_url, tmp_path / "alta-backup.db")
    assert opened(target_url, rows) == rows(filled)


def test_a_backup_that_stops_leaves_the_older_one(filled: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "alta-backup.db"
    back_up(filled, file)
    older = file.read_bytes()
    with pytest.raises(Stopped):
        back_up(filled, file, progress=stop)
    assert file.read_bytes() == older
    assert sorted(path.name for path in tmp_path.glob("alta-backup*")) == ["alta-backup.db"]
    assert [info.path for info in list_backups(filled)] == [file]


def test_a_first_backup_that_stops_is_not_on_the_list(filled: Catalog, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        back_up(filled, tmp_path / "alta-backup.db", progress=stop)
    assert list_backups(filled) == []


KILL = """
import os, signal, sys
from pathlib import Path
from index import open_catalog
from index.keeping.backup import back_up
back_up(open_catalog(sys.argv[1]), Path(sys.argv[2]), progress=lambda done, total: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_backup_that_is_killed_leaves_the_older_one_and_the_next_clears_up(
    filled: Catalog, url: str, tmp_path: Path
) -> None:
    file = tmp_path / "alta-backup.db"
    back_up(filled, file)
    older = file.read_bytes()
    root = Path(__file__).parents[1]
    killed = subprocess.run([sys.executable, "-c", KILL, url, str(file)], cwd=root, env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert file.read_bytes() == older and len(list(tmp_path.glob("alta-backup*partial*"))) > 0
    back_up(filled, file)
    assert sorted(path.name for path in tmp_path.glob("alta-backup*")) == ["alta-backup.db"]


HALF_WRITTEN = """
import os, signal, sys
from pathlib import Path
from index.keeping.backup_file import open_for_change
with open_for_change(Path(sys.argv[1])) as connection:
    connection.exec_driver_sql("PRAGMA cache_size = 1")
    connection.exec_driver_sql("UPDATE report SET text = 'half written'")
    for number in range(50):
        connection.exec_driver_sql("INSERT INTO setting VALUES (?, ?)", (str(number), "x" * 4000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_half_written(file: Path) -> None:
    """As a process leaves a backup that is killed while it takes a patient out of it."""
    root = Path(__file__).parents[1]
    killed = subprocess.run([sys.executable, "-c", HALF_WRITTEN, str(file)], cwd=root, env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert b"half written" in file.read_bytes() and file.with_name(f"{file.name}-journal").exists()


def test_a_half_written_backup_is_as_before_when_the_next_one_stops(filled: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "alta-backup.db"
    back_up(filled, file)
    leave_half_written(file)
    with pytest.raises(Stopped):
        back_up(filled, file, progress=stop)
    connection = sqlite3.connect(file)  # which undoes it
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("SELECT count(*) FROM report WHERE text = 'half written'").fetchone() == (0,)
    connection.close()


def test_what_was_half_written_to_a_backup_is_not_applied_to_the_next_one(filled: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "alta-backup.db"
    back_up(filled, file)
    leave_half_written(file)
    back_up(filled, file)
    assert sorted(path.name for path in tmp_path.glob("alta-backup*")) == ["alta-backup.db"]
    url = f"sqlite:///{tmp_path / 'restored.db'}"
    restore_backup(url, file)
    assert opened(url, rows) == rows(filled)


def test_a_backup_is_one_whole_file_of_its_owner(filled: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "a b?%2f#" / "alta.db"
    back_up(filled, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["alta.db"]
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()
    url = f"sqlite:///{tmp_path / 'restored.db'}"
    assert restore_backup(url, file).studies == STUDIES


def test_others_may_write_while_a_backup_is_made(filled: Catalog, url: str, tmp_path: Path) -> None:
    other = open_catalog(url)
    wrote: list[bool] = []

    def write_once(done: int, total: int) -> None:
        if not wrote:
            wrote.append(True)
            with other.write() as session:
                patient = session.scalars(sa.select(Study.patient_id)).first()
                session.add(Study(study_instance_uid="1.2.9", patient_id=patient or 0, modality="CR"))

    assert back_up(filled, tmp_path / "alta-backup.db", progress=write_once).studies == STUDIES
    other.close()
    assert back_up(filled, tmp_path / "alta-backup.db").studies == STUDIES + 1


def test_a_move_during_which_the_archive_changed_is_an_error(filled: Catalog, url: str, target_url: str) -> None:
    other = open_catalog(url)

    def write(done: int, total: int) -> None:
        if done == total:
            with other.write() as session:
                patient = session.scalars(sa.select(Study.patient_id)).first()
                session.add(Study(study_instance_uid="1.2.9", patient_id=patient or 0, modality="CR"))

    with pytest.raises(ArchiveError) as caught:
        copy_catalog(filled, target_url, progress=write)
    other.close()
    assert caught.value.slug == "source-changed"


def test_another_file_of_the_name_is_not_replaced(filled: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "thesis.txt"
    file.write_text("Thesis")
    with pytest.raises(ArchiveError) as caught:
        back_up(filled, file)
    assert caught.value.slug == "not-a-backup" and file.read_text() == "Thesis"


def test_a_backup_to_where_nothing_can_be_written_is_a_clear_error(filled: Catalog, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError) as caught:
        back_up(filled, tmp_path / "file" / "alta.db")
    assert caught.value.slug == "backup-failed"
    assert list_backups(filled) == []


@pytest.mark.parametrize("damage", ["absent", "empty", "text", "truncated", "flipped", "value", "newer", "other"])
def test_a_damaged_backup_is_refused_and_nothing_written(filled: Catalog, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "alta-backup.db"
    back_up(filled, file)
    data = file.read_bytes()
    if damage == "absent":
        file.unlink()
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "text":
        file.write_text("no database" * 1000)
    elif damage == "truncated":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":  # the b-tree page that holds the schema
        file.write_bytes(data[:100] + bytes(64) + data[164:])
    elif damage == "value":  # readable, but the index of the column says otherwise
        file.write_bytes(data.replace(b"1.2.3.4", b"1.2.3.9", 1))
    else:
        connection = sqlite3.connect(file)
        newer = "UPDATE alembic_version SET version_num = '9999'"
        connection.execute(newer if damage == "newer" else "DROP TABLE alembic_version")
        connection.commit()
        connection.close()
    target = tmp_path / "other.db"
    with pytest.raises(ArchiveError) as caught:
        restore_backup(f"sqlite:///{target}", file)
    assert caught.value.slug == ("no-such-backup" if damage == "absent" else "bad-backup")
    assert not target.exists()


def test_a_backup_of_an_older_schema_is_brought_up_on_a_copy(filled: Catalog, target_url: str, tmp_path: Path) -> None:
    file = tmp_path / "alta-backup.db"
    back_up(filled, file)
    migrate(sqlite_url(file), "0001")
    older = file.read_bytes()
    scratch = tmp_path / "not there yet"
    assert restore_backup(target_url, file, scratch=scratch).studies == STUDIES
    assert file.read_bytes() == older
    assert not list(scratch.iterdir())

    def check(restored: Catalog) -> None:
        with restored.session() as session:
            assert session.scalars(sa.select(Study.study_date).order_by(Study.id)).first() == date(2020, 1, 1)

    opened(target_url, check)


def test_a_backup_stays_on_the_list_until_its_file_is_gone(filled: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "alta-backup.db"
    back_up(filled, file)
    with pytest.raises(ArchiveError) as caught:
        drop_backup(filled, file)
    assert caught.value.slug == "backup-there"
    file.unlink()
    assert [info.reachable for info in list_backups(filled)] == [False]
    assert drop_backup(filled, file) and not drop_backup(filled, file)
    assert list_backups(filled) == []


def test_what_was_restored_from_is_on_the_list(filled: Catalog, target_url: str, tmp_path: Path) -> None:
    back_up(filled, tmp_path / "alta-backup.db")
    moved = (tmp_path / "alta-backup.db").rename(tmp_path / "elsewhere.db")
    restore_backup(target_url, moved)
    paths = opened(target_url, lambda catalog: {info.path for info in list_backups(catalog)})
    assert paths == {tmp_path / "alta-backup.db", moved}


def test_a_value_that_the_other_database_cannot_hold_names_its_table(
    sqlite_catalog: Catalog, postgres_url: str, archive: Path, write_dicom: WriteDicom
) -> None:
    write_dicom("a.dcm")
    ingest_folder(sqlite_catalog, archive, workers=0)
    with sqlite_catalog.write() as session:
        session.execute(sa.update(Study).values(modality="X" * 200))  # SQLite does not mind
    with pytest.raises(ArchiveError) as caught:
        copy_catalog(sqlite_catalog, postgres_url)
    assert caught.value.slug == "bad-row" and "study" in caught.value.message
    counts = opened(postgres_url, lambda catalog: table_counts(catalog.engine.connect()))
    assert counts["study"] == 0  # type: ignore[index]
