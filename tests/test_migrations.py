"""The migrations and the models describe one schema, on both databases."""

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from index import Catalog, embed_pending, ingest_folder, migrate, open_catalog
from index.tables import Base, Instance, Study
from tests.fakes import FakeEncoder


def tables(url: str) -> set[str]:
    catalog = Catalog(url)
    try:
        return set(sa.inspect(catalog.engine).get_table_names())
    finally:
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
