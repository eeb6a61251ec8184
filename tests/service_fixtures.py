"""A small archive and the service running on it; the test_service_* files load this module as a pytest plugin."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from index import build_generation, embed_pending, ingest_folder, migrate, open_catalog
from service.settings import Settings
from tests.fakes import FakeEncoder
from tests.service_samples import serve, settings_for, take_in, write_archive


@pytest.fixture(scope="session")
def archive_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data folder of an archive of four studies, embedded with the fake encoder and indexed."""
    source, data = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("data")
    write_archive(source)
    settings = settings_for(data)
    migrate(settings.catalog_url)
    catalog = open_catalog(settings.catalog_url)
    ingest_folder(catalog, source, source / "reports.csv")
    embed_pending(catalog, FakeEncoder())
    build_generation(catalog, settings.generations_dir, FakeEncoder().fingerprint)
    catalog.close()
    return data


@pytest.fixture(scope="session")
def client(archive_folder: Path) -> Iterator[TestClient]:
    """The service on the shared archive; tests only read."""
    with serve(settings_for(archive_folder)) as running:
        yield running


@pytest.fixture
def own_archive(tmp_path: Path) -> Settings:
    """The same archive for one test alone, to be changed; its files lie in ``tmp_path / "source"``."""
    source = tmp_path / "source"
    source.mkdir()
    write_archive(source)
    settings = settings_for(tmp_path / "data")
    migrate(settings.catalog_url)
    take_in(settings, source)
    catalog = open_catalog(settings.catalog_url)
    build_generation(catalog, settings.generations_dir, FakeEncoder().fingerprint)
    catalog.close()
    return settings


@pytest.fixture
def empty_client(tmp_path: Path) -> Iterator[TestClient]:
    """The service on an archive with nothing in it."""
    settings = settings_for(tmp_path)
    migrate(settings.catalog_url)
    with serve(settings) as running:
        yield running
