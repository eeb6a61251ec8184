"""The migrations and the models describe one schema, on both databases; rows survive the way up and down."""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from index import Catalog, build_generation, embed_pending, ingest_folder, live_generation, migrate, open_catalog
from index.tables import Base, Embedding, ForgottenPatient, Generation, Instance, Patient, Report, Setting, Study
from tests.conftest import WriteDicom
from tests.fakes import FakeEncoder

MADE = "2024-03-01 10:11:12.000000"
AT_0001 = (
    ("secret", "name, value", "'patient-key', :secret"),
    ("patient", "id, key, id_key, sex", "5, 'k5', NULL, 'F'"),
    (
        "study",
        "id, study_instance_uid, patient_id, accession_number, study_date, study_time, study_order, modality,"
        " patient_sex, patient_age, description, image_source, created_at",
        f"7, '1.2.3.7', 5, 'A7', '2024-03-01', '10:11:12', 1.5, 'CR', 'F', 61.0, 'Chest', 'src', '{MADE}'",
    ),
    (
        "instance",
        "id, path_key, path, size, modified_ns, sha256, status, reason, detail, study_id, sop_instance_uid, modality,"
        " view_position, view, rows, columns, instance_number, acquired, derived, created_at, updated_at",
        "11, 'p11', '/a/1.dcm', 123, 5000000000, 'sha', 'accepted', NULL, NULL, 7, '1.2.3.7.1', 'CR', 'PA', 'frontal',"
        f" 40, 48, 1, '20240301', :no, '{MADE}', '{MADE}'",
    ),
    (
        "instance",
        "id, path_key, path, status, reason, detail, sop_instance_uid, created_at, updated_at",
        f"12, 'p12', '/a/2.dcm', 'refused', 'duplicate', 'Why.', '1.2.3.7.1', '{MADE}', '{MADE}'",
    ),
    (
        "report",
        "id, identity, source, status, study_id, study_instance_uid, accession_number, patient_key, findings, text,"
        " sha256, created_at, updated_at",
        f"13, 'i13', '/r.csv#1', 'matched', 7, '1.2.3.7', 'A7', 'k5', 'Clear.', 'Clear.', 'rsha', '{MADE}', '{MADE}'",
    ),
    (
        "embedding",
        "id, study_id, kind, model_fingerprint, vector, source_hash, created_at",
        f"21, 7, 'image', '{'f' * 64}', :vector, 'src', '{MADE}'",
    ),
    (
        "embedding_failure",
        "id, study_id, kind, model_fingerprint, source_hash, reason, detail, created_at",
        f"22, 7, 'report', '{'f' * 64}', 'rsha', 'too-long', 'Why.', '{MADE}'",
    ),
    (
        "generation",
        "id, state, model_fingerprint, engine, dimension, image_rows, image_max_id, image_file, image_sha256,"
        " report_rows, report_max_id, recall, created_at, activated_at",
        f"31, 'live', '{'f' * 64}', 'faiss-flat', 64, 1, 21, 'g.faiss', 'gsha', 0, 0, 1.0, '{MADE}', '{MADE}'",
    ),
)


def tables(url: str) -> set[str]:
    catalog = Catalog(url)
    try:
        return set(sa.inspect(catalog.engine).get_table_names())
    finally:
        catalog.close()


def fill_at_0001(url: str) -> None:
    """A row in every table of the first schema, by plain SQL."""
    migrate(url, "0001")
    catalog = Catalog(url)
    values = {"secret": b"s" * 32, "vector": np.eye(1, 64, dtype="<f4").tobytes(), "no": False}
    with catalog.write() as session:
        for table, columns, row in AT_0001:
            text = sa.text(f"INSERT INTO {table} ({columns}) VALUES ({row})")
            session.execute(text, {name: value for name, value in values.items() if f":{name}" in row})
        if catalog.engine.dialect.name == "postgresql":  # the ids were given by hand
            for table in {table for table, columns, _ in AT_0001 if columns.startswith("id")}:
                session.execute(sa.text(f"SELECT setval('{table}_id_seq', 100)"))
    catalog.close()


def test_from_empty_every_table_is_created(url: str) -> None:
    migrate(url)
    assert tables(url) == {*Base.metadata.tables, "alembic_version"}


def test_the_models_are_the_migrated_schema(catalog: Catalog) -> None:
    with catalog.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrating_again_changes_nothing(catalog: Catalog, url: str, archive, write_dicom) -> None:
    write_dicom("a.dcm")
    ingest_folder(catalog, archive, workers=0)
    migrate(url)
    with catalog.session() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Study)) == 1


def test_down_and_up_again_with_rows_gives_a_working_catalog(url: str, archive, write_dicom) -> None:
    write_dicom("a.dcm")
    for _ in range(2):
        migrate(url)
        catalog = open_catalog(url)
        assert ingest_folder(catalog, archive, workers=0).accepted == 1
        assert embed_pending(catalog, FakeEncoder()).images == 1
        catalog.close()
        migrate(url, "base")
        assert tables(url) == {"alembic_version"}


def test_two_processes_may_migrate_at_once(url: str) -> None:
    import threading

    errors: list[Exception] = []

    def run() -> None:
        try:
            migrate(url)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    catalog = open_catalog(url)
    with catalog.session() as session:
        assert session.scalars(sa.select(Instance)).all() == []
    catalog.close()


def test_rows_of_the_first_schema_are_all_there_after_the_upgrade(
    url: str, archive: Path, write_dicom: WriteDicom, tmp_path: Path
) -> None:
    fill_at_0001(url)
    migrate(url)
    catalog = open_catalog(url)
    made = datetime(2024, 3, 1, 10, 11, 12, tzinfo=UTC)
    with catalog.session() as session:
        study = session.scalars(sa.select(Study)).one()
        assert (study.id, study.patient_id, study.study_date, study.created_at) == (7, 5, date(2024, 3, 1), made)
        assert (study.study_order, study.patient_age, study.image_source) == (1.5, 61.0, "src")
        accepted, refused = session.scalars(sa.select(Instance).order_by(Instance.id))
        assert (accepted.patient_key, accepted.view_source, accepted.derived) == ("k5", None, False)
        assert (accepted.modified_ns, accepted.sha256, accepted.updated_at) == (5_000_000_000, "sha", made)
        assert (refused.patient_key, refused.reason, refused.detail) == (None, "duplicate", "Why.")
        report = session.scalars(sa.select(Report)).one()
        assert (report.text, report.patient_key, report.stage, report.issued_at) == ("Clear.", "k5", None, None)
        vector = session.scalars(sa.select(Embedding.vector)).one()
        assert np.frombuffer(vector, "<f4").tolist() == np.eye(1, 64)[0].tolist()
    write_dicom("new.dcm", study="1.2.3.8", seed=8)
    assert ingest_folder(catalog, archive, workers=0).studies_new == 1
    assert embed_pending(catalog, FakeEncoder()).images == 1  # the other one has its embedding
    generation = build_generation(catalog, tmp_path / "generations", "f" * 64)
    assert (generation.image_rows, generation.id > 31) == (2, True)
    catalog.close()


def test_a_generation_of_an_older_schema_is_built_again(url: str, tmp_path: Path) -> None:
    fill_at_0001(url)
    migrate(url)
    catalog = open_catalog(url)
    assert live_generation(catalog) is None
    assert build_generation(catalog, tmp_path / "generations", "f" * 64).image_rows == 1
    catalog.close()


def test_rows_of_the_newest_schema_are_there_after_the_way_down_and_up(
    url: str, archive: Path, write_dicom: WriteDicom, tmp_path: Path
) -> None:
    migrate(url)
    catalog = open_catalog(url)
    write_dicom("a.dcm")
    write_dicom("ct.dcm", study="1.2.3.50", Modality="CT")
    reports = tmp_path / "reports.csv"
    reports.write_text("accession_number,text\nA1,Clear.\nA77,Waits.")
    ingest_folder(catalog, archive, reports, workers=0)
    embed_pending(catalog, FakeEncoder())
    with catalog.write() as session:
        waiting = session.scalars(sa.select(Report).where(Report.status == "unmatched")).one()
        waiting.status = "withdrawn"
        session.add(Setting(name="prior_within_days", value="30"))
        session.add(ForgottenPatient(key="k", patient="k"))
        key = session.scalars(sa.select(Patient.key)).one()
        vectors = set(session.scalars(sa.select(Embedding.vector)))
    catalog.close()
    migrate(url, "0001")
    assert "forgotten_patient" not in tables(url)
    migrate(url)
    catalog = open_catalog(url)
    with catalog.session() as session:
        assert session.scalars(sa.select(Report.text)).all() == ["Clear."]  # the withdrawn one had none
        rows = session.execute(sa.select(Instance.status, Instance.patient_key).order_by(Instance.status)).all()
        # Whom a refused file names was not known in between.
        assert [tuple(row) for row in rows] == [("accepted", key), ("refused", None)]
        assert set(session.scalars(sa.select(Embedding.vector))) == vectors
    assert ingest_folder(catalog, archive, reports, workers=0).unchanged == 1
    catalog.close()


def test_ids_that_tell_what_is_new_are_never_used_twice(catalog: Catalog) -> None:
    """Also in tables that a migration had to copy."""
    counted = [table for table in Base.metadata.sorted_tables if table.dialect_options["sqlite"].get("autoincrement")]
    assert {table.name for table in counted} == {"audit_entry", "embedding", "embedding_removal", "generation"}
    with catalog.write() as session:
        values = {"state": "failed", "model_fingerprint": "f", "engine": "flat", "settings": "{}", "dimension": 1}
        numbers = dict.fromkeys(("image_rows", "image_max_id", "report_rows", "report_max_id", "removal_max_id"), 0)
        ids = []
        for _ in range(2):
            row = Generation(**values, **numbers)
            session.add(row)
            session.flush()
            ids.append(row.id)
            session.delete(row)
            session.flush()
        assert ids[1] > ids[0]
        if catalog.engine.dialect.name == "sqlite":
            query = sa.text("SELECT sql FROM sqlite_master WHERE name = :name")
            for table in counted:
                assert "AUTOINCREMENT" in str(session.scalar(query, {"name": table.name}))
