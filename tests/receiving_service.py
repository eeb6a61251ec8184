"""Fixtures of a service that takes studies and reports in, on an archive of its own; test files import them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from index import Catalog, migrate, open_catalog
from service.settings import Settings
from tests.service_samples import serve, settings_for

__all__ = ["client", "opened", "settings"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = settings_for(tmp_path, receive=True, min_free_mb=0)
    migrate(found.catalog_url)
    return found


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with serve(settings) as running:
        yield running


@pytest.fixture
def opened(settings: Settings) -> Iterator[Catalog]:
    """The service's catalog, from outside."""
    catalog = open_catalog(settings.catalog_url)
    yield catalog
    catalog.close()
