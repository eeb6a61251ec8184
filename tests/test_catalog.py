"""The catalog on SQLite and PostgreSQL."""

import contextlib
import os
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from index import Catalog, migrate, open_catalog
from index.tables import ACCEPTED, Instance, Patient, Report, Study
from model.errors import ArchiveError


def test_a_write_is_committed_at_the_end_and_rolled_back_on_an_error(catalog: Catalog) -> None:
    with catalog.write() as session:
        session.add(Patient(key="a"))
    with contextlib.suppress(RuntimeError), catalog.write() as session:
        session.add(Patient(key="b"))
        session.flush()
        raise RuntimeError("stop")
    with catalog.session() as session:
        assert session.scalars(sa.select(Patient.key)).all() == ["a"]


def test_writers_take_turns(catalog: Catalog) -> None:
    with catalog.write() as session:
        session.add(Patient(key="0"))

    def add_one() -> None:
        for _ in range(10):
            with catalog.write() as session:
                patient = session.scalars(sa.select(Patient)).one()
                patient.key = str(int(patient.key) + 1)

    threads = [threading.Thread(target=add_one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with catalog.session() as session:
        assert session.scalars(sa.select(Patient.key)).all() == ["30"]


def test_two_accepted_files_of_one_sop_instance_cannot_exist(catalog: Catalog) -> None:
    rows = [Instance(path_key=path, path=path, status=ACCEPTED, sop_instance_uid="1.2") for path in "ab"]
    with pytest.raises(sa.exc.IntegrityError), catalog.write() as session:
        session.add_all(rows)


def test_foreign_keys_are_enforced(catalog: Catalog) -> None:
    with pytest.raises(sa.exc.IntegrityError), catalog.write() as session:
        session.add(Study(study_instance_uid="1.2", modality="CR", patient_id=77))


def test_patient_keys_are_stable_within_a_catalog_and_differ_between_catalogs(catalog: Catalog, tmp_path: Path) -> None:
    key = catalog.patient_key("P1", "HOSPITAL")
    assert len(key) == 64
    assert open_catalog_again(catalog).patient_key("P1", "HOSPITAL") == key
    assert catalog.patient_key("P1") != key
    other = f"sqlite:///{tmp_path / 'other.db'}"
    migrate(other)
    opened = open_catalog(other)
    assert opened.patient_key("P1", "HOSPITAL") != key
    opened.close()


def open_catalog_again(catalog: Catalog) -> Catalog:
    again = Catalog(catalog.engine.url.render_as_string(hide_password=False))
    again.patient_key("")
    again.close()
    return again


def test_a_catalog_without_its_schema_is_named_with_the_remedy(url: str) -> None:
    with pytest.raises(ArchiveError, match="alta db upgrade") as caught:
        open_catalog(url)
    assert caught.value.slug == "schema-outdated"


def test_an_unreachable_database_is_reported_without_its_password() -> None:
    with pytest.raises(ArchiveError) as caught:
        open_catalog("postgresql://alta:hunter2@127.0.0.1:1/alta")
    assert caught.value.slug == "database-unavailable"
    assert "hunter2" not in caught.value.message


def test_a_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "alta.db"
    path.write_text("not a database, but long enough to be read as one " * 20)
    with pytest.raises(ArchiveError) as caught:
        open_catalog(f"sqlite:///{path}")
    assert caught.value.slug == "database-unavailable"


def test_sqlite_runs_in_wal_mode(sqlite_catalog: Catalog) -> None:
    with sqlite_catalog.session() as session:
        assert session.scalar(sa.text("PRAGMA journal_mode")) == "wal"


def test_an_error_of_the_database_does_not_repeat_what_was_to_be_written(catalog: Catalog) -> None:
    report = {"identity": "i", "source": "s", "status": "matched", "study_id": 99, "text": "Opacity.", "sha256": "h"}
    with catalog.session() as session, pytest.raises(sa.exc.DBAPIError) as raised:
        session.execute(sa.insert(Report), [report])
    assert "Opacity" not in str(raised.value)


def test_waiting_in_vain_for_a_connection_is_an_error_of_the_archive(catalog: Catalog, url: str) -> None:
    """And not a defect: the same can be done again."""
    few = Catalog(url)
    few.engine = sa.create_engine(catalog.engine.url, pool_size=1, max_overflow=0, pool_timeout=0)
    with few.engine.connect(), pytest.raises(ArchiveError) as caught, few.session() as session:
        session.execute(sa.select(1))
    few.close()
    assert caught.value.slug == "database-unavailable" and "in use" in caught.value.message


def test_connections_to_a_file_are_kept_for_the_next_requests(sqlite_catalog: Catalog) -> None:
    """However many threads read at once."""
    made: list[object] = []
    sa.event.listen(sqlite_catalog.engine, "connect", lambda connection, _record: made.append(connection))
    all_read = threading.Barrier(40)

    def read() -> None:
        with sqlite_catalog.session() as session:
            session.execute(sa.select(Patient.key))
            all_read.wait(60)

    counts = []
    for _ in range(2):
        threads = [threading.Thread(target=read) for _ in range(all_read.parties)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts.append(len(made))
    assert counts[0] >= all_read.parties - 1 and counts[1] == counts[0]  # one is from when the catalog was opened


def test_a_new_catalog_is_for_its_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        migrate(f"sqlite:///{tmp_path}/data/alta.db")
        with contextlib.closing(open_catalog(f"sqlite:///{tmp_path}/data/alta.db")) as catalog, catalog.write():
            files = [tmp_path / "data", *(tmp_path / "data").iterdir()]
            assert len(files) > 2  # its WAL is one of them
            assert [oct(file.stat().st_mode & 0o077) for file in files] == ["0o0"] * len(files)
    finally:
        os.umask(before)
