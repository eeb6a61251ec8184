"""From the release before to this one and back, with an archive that its own code made (``tests/data/upgrade``)."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from index import Catalog, Gallery, build_generation, live_generation, migrate, open_catalog
from index.catalog import create_schema
from index.looking import holds_older_rows, look_at, read_revisions
from model.errors import ArchiveError
from tests.fakes import FakeEncoder
from tests.test_cli import Alta
from tests.test_cli import alta as alta  # the fixture
from tests.tiny import write_tiny_checkpoint

MADE = Path(__file__).parent / "data" / "upgrade"
BEFORE = "0002"
ANSWERS: list[dict[str, Any]] = json.loads((MADE / "answers.json").read_text())
TOLERANCE = 1e-5  # of a cosine: rounded to six digits


def load_previous(file: Path) -> Path:
    """A SQLite archive as the release before left it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((MADE / f"{BEFORE}.sql").read_text())
    return file


def fill_previous(url: str, scratch: Path) -> None:
    """The same rows in a database of either kind, whose schema the release before had made."""
    migrate(url, BEFORE)
    source = sa.create_engine(f"sqlite:///{load_previous(scratch / 'previous.db')}")
    catalog = Catalog(url)
    there, here = sa.MetaData(), sa.MetaData()
    with source.connect() as rows, catalog.write() as session:
        there.reflect(rows)
        here.reflect(session.connection())
        for table in here.sorted_tables:
            found = [dict(row) for row in rows.execute(sa.select(there.tables[table.name])).mappings()]
            for row in found:
                row.update({name: at.replace(tzinfo=UTC) for name, at in row.items() if isinstance(at, datetime)})
            if found and table.name != "alembic_version":
                session.execute(table.insert(), found)
                if catalog.engine.dialect.name == "postgresql" and "id" in table.c:
                    session.execute(sa.text(f"SELECT setval('{table.name}_id_seq', 1000)"))
    source.dispose()
    catalog.close()


def require_same_answers(catalog: Catalog, folder: Path) -> None:
    """Every search finds what it found before, in the same order."""
    gallery = Gallery(catalog, folder)
    gallery.refresh(now=True)
    for asked in ANSWERS:
        vector = np.random.default_rng(asked["seed"]).standard_normal(FakeEncoder().dimension).astype("<f4")
        hits = gallery.search(asked["kind"], vector, 5)
        assert [hit.study.study_instance_uid for hit in hits] == [uid for uid, _ in asked["hits"]]
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in asked["hits"]], abs=TOLERANCE)


def revision(file: Path) -> str | None:
    with look_at(f"sqlite:///{file}") as catalog:
        return read_revisions(catalog).found


@pytest.fixture
def previous(tmp_path: Path) -> Iterator[Path]:
    """The database of the release before, in the data folder that ``alta`` has."""
    write_tiny_checkpoint(tmp_path / "encoders", "ignored")
    return load_previous(tmp_path / "data" / "alta.db")


def test_searches_answer_the_same_after_the_upgrade_and_after_the_next_build(url: str, tmp_path: Path) -> None:
    fill_previous(url, tmp_path)
    migrate(url)
    catalog = open_catalog(url)
    assert live_generation(catalog) is not None
    require_same_answers(catalog, tmp_path / "generations")  # whose files are made again from the rows
    assert build_generation(catalog, tmp_path / "generations", FakeEncoder().fingerprint).id > 1
    require_same_answers(catalog, tmp_path / "generations")
    catalog.close()


@pytest.mark.parametrize(
    "command", [("serve",), ("ingest", "."), ("keys", "create", "viewer", "--scope", "search"), ("index", "status")]
)
def test_no_other_command_brings_an_older_schema_up(alta: Alta, previous: Path, command: tuple[str, ...]) -> None:
    code, _, err = alta(*command)
    assert code == 1
    assert f"has schema {BEFORE}, expected" in err
    assert "back it up with the release that made it, then run `alta db upgrade`" in err
    assert revision(previous) == BEFORE


def test_an_upgrade_wants_a_backup_and_is_then_one_command(alta: Alta, previous: Path, tmp_path: Path) -> None:
    code, _, err = alta("db", "upgrade")
    assert code == 1 and "alta db backup FILE" in err and revision(previous) == BEFORE
    assert "FAIL  schema" in alta("doctor")[1]
    code, out, err = alta("db", "upgrade", "--backed-up")
    assert (code, err) == (0, "") and "is up to date" in out
    assert "FAIL  schema" not in alta("doctor")[1]
    assert alta("db", "upgrade")[0] == 0  # there is nothing older any more
    with closing(open_catalog(f"sqlite:///{previous}")) as catalog:
        require_same_answers(catalog, tmp_path / "data" / "generations")


def test_an_older_schema_without_studies_needs_no_backup(alta: Alta, tmp_path: Path) -> None:
    migrate(f"sqlite:///{tmp_path / 'data' / 'alta.db'}", BEFORE)
    assert alta("db", "upgrade")[0] == 0


def test_what_was_backed_up_before_is_left_as_it_was_for_the_release_before(
    alta: Alta, previous: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way back: a backup is a SQLite file of that release's schema, which it restores. This one can as well."""
    backup = load_previous(tmp_path / "backups" / "before.db")
    content = backup.read_bytes()
    assert alta("db", "upgrade", "--backed-up")[0] == 0
    monkeypatch.setenv("ALTA_DATA_DIR", str(tmp_path / "restored"))
    assert alta("db", "restore", backup)[0] == 0
    assert (backup.read_bytes(), revision(backup)) == (content, BEFORE)
    with closing(open_catalog(f"sqlite:///{tmp_path / 'restored' / 'alta.db'}")) as catalog:
        require_same_answers(catalog, tmp_path / "restored" / "generations")


def test_a_schema_of_a_newer_release_is_neither_used_nor_changed(sqlite_url: str) -> None:
    """What a release says that was rolled back to, or that is started once more beside the new one."""
    migrate(sqlite_url)
    catalog = Catalog(sqlite_url)
    with catalog.write() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    catalog.close()
    create_schema(sqlite_url)
    with pytest.raises(ArchiveError, match="a newer release made it") as caught:
        open_catalog(sqlite_url)
    assert caught.value.slug == "schema-outdated"
    with pytest.raises(ArchiveError, match=r"schema 9999, expected \d+: a newer release made it") as caught:
        migrate(sqlite_url)
    assert caught.value.slug == "schema-outdated"


@pytest.mark.parametrize(
    ("before", "table", "columns", "values"),
    [
        ("0002", "forgotten_patient", "key, patient, created_at", "'1', '2', '2026-01-01'"),
        ("0003", "api_key", "id, name, secret_sha256, scopes, created_at", "'1', 'a', '0', 'search', '2026-01-01'"),
    ],
)
def test_what_is_no_study_can_be_lost_too(sqlite_url: str, before: str, table: str, columns: str, values: str) -> None:
    migrate(sqlite_url, before)
    assert holds_older_rows(sqlite_url) == ""
    catalog = Catalog(sqlite_url)
    with catalog.write() as session:
        session.execute(sa.text(f"INSERT INTO {table} ({columns}) VALUES ({values})"))
    catalog.close()
    assert holds_older_rows(sqlite_url) == before
