"""The audit: entries are added, never changed, and a chain of digests shows what was done to them nevertheless."""

import hashlib
import json
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from index import Catalog
from index.access.audit import ORIGIN, Event, canonical, list_entries, record_events, study_key, verify_audit
from index.catalog import ACCESS_LOCK
from index.tables import AuditEntry
from tests.test_cli import Alta, alta

__all__ = ["alta"]

TABLE = AuditEntry.__table__


def add(catalog: Catalog, *events: Event) -> None:
    record_events(catalog, events)


@pytest.fixture
def written(catalog: Catalog) -> Catalog:
    """Five entries, in two transactions."""
    asked = study_key(catalog, "1.2.3")
    add(catalog, *(Event(f"key:{n}", "image_to_text", asked, "10.0.0.1", 200, 10, f"r{n}") for n in range(3)))
    add(catalog, Event("cli:root", "key-created abc"), Event("key:1", "study", study_key(catalog, "1.2.4"), None, 404))
    return catalog


def tamper(catalog: Catalog, statement: sa.Executable | str) -> None:
    """As the owner of the database can, who takes the triggers away."""
    with catalog.write(ACCESS_LOCK) as session:
        if catalog.engine.dialect.name == "postgresql":
            session.execute(sa.text("ALTER TABLE audit_entry DISABLE TRIGGER audit_append_only"))
        else:
            for verb in ("update", "delete"):
                session.execute(sa.text(f"DROP TRIGGER audit_no_{verb}"))
        session.execute(sa.text(statement) if isinstance(statement, str) else statement)


def test_a_chain_that_nobody_touched_is_whole(written: Catalog) -> None:
    found = verify_audit(written)
    entries = list(list_entries(written))
    assert found.whole and found.entries == 5 and found.head == entries[-1]["digest"]
    assert [entry["id"] for entry in entries] == [1, 2, 3, 4, 5] and entries[0]["previous"] == ORIGIN


def test_an_empty_audit_is_whole(catalog: Catalog) -> None:
    assert verify_audit(catalog, ORIGIN).whole and verify_audit(catalog).head == ORIGIN
    assert not verify_audit(catalog, 64 * "a").whole


@pytest.mark.parametrize("verb", ["UPDATE audit_entry SET results = 0", "DELETE FROM audit_entry"])
def test_the_database_refuses_changes(written: Catalog, verb: str) -> None:
    with pytest.raises(sa.exc.DatabaseError, match="append-only"), written.engine.begin() as connection:
        connection.execute(sa.text(verb))
    assert verify_audit(written).entries == 5


@pytest.mark.parametrize("row", ["3, 'another'", "9, digest"])
def test_sqlite_refuses_to_replace_an_entry(written: Catalog, row: str) -> None:
    if written.engine.dialect.name != "sqlite":
        pytest.skip("REPLACE is SQLite's")
    copied = f"{row}, previous, at, 'key:9', action FROM audit_entry WHERE id = 3"
    statement = f"REPLACE INTO audit_entry (id, digest, previous, at, caller, action) SELECT {copied}"
    with pytest.raises(sa.exc.DatabaseError, match="append-only"), written.engine.begin() as connection:
        connection.execute(sa.text(statement))


@pytest.mark.parametrize(
    ("statement", "broken_at"),
    [
        *((f"UPDATE audit_entry SET {change} WHERE id = 3", 3) for change in (
            "caller = 'key:9'", "action = 'study'", "study_key = NULL", "address = '10.0.0.2'", "status = 404",
            "results = 0", "request_id = 'other'", "at = '2020-01-01 00:00:00'",
        )),
        ("DELETE FROM audit_entry WHERE id = 2", 3),
        ("DELETE FROM audit_entry WHERE id = 1", 2),
        ("UPDATE audit_entry SET id = 9 WHERE id = 5", 9),
    ],
)  # fmt: skip
def test_the_first_entry_that_was_touched_is_named(written: Catalog, statement: str, broken_at: int) -> None:
    tamper(written, statement)
    assert verify_audit(written).broken_at == broken_at


def test_an_entry_that_was_put_in_with_a_digest_of_its_own_breaks_the_next(written: Catalog) -> None:
    forged = next(entry for entry in list_entries(written) if entry["id"] == 3) | {"caller": "key:9"}
    digest = hashlib.sha256(canonical(forged)).hexdigest()
    tamper(written, sa.update(TABLE).where(TABLE.c.id == 3).values(caller="key:9", digest=digest))
    assert verify_audit(written).broken_at == 4


def test_only_a_digest_that_was_noted_shows_that_the_end_was_taken_away(written: Catalog) -> None:
    noted = verify_audit(written).head
    add(written, Event("key:2", "study"))
    assert verify_audit(written, noted).whole
    tamper(written, "DELETE FROM audit_entry WHERE id >= 5")
    assert verify_audit(written).whole  # the chain alone cannot know
    found = verify_audit(written, noted)
    assert not found.whole and found.anchor_found is False and found.broken_at is None


def test_the_canonical_form_is_the_documented_one() -> None:
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    row = {"previous": ORIGIN, "id": 1, "at": at, "caller": "oidc:Zoë", "action": "study", "study_key": None}
    row |= {"address": None, "status": 200, "results": None, "request_id": "r"}
    expected = f'["{ORIGIN}",1,"2026-01-31T12:00:00.000000Z","oidc:Zo\\u00eb","study",null,null,200,null,"r"]'
    assert canonical(row) == expected.encode()


def test_entries_are_found_by_study_caller_action_and_time(written: Catalog) -> None:
    assert [entry["id"] for entry in list_entries(written, study="1.2.3")] == [1, 2, 3]
    assert [entry["id"] for entry in list_entries(written, caller="key:1")] == [2, 5]
    assert [entry["id"] for entry in list_entries(written, action="study")] == [5]
    assert [entry["id"] for entry in list_entries(written, last=2)] == [4, 5]
    assert list(list_entries(written, since=datetime(2999, 1, 1, tzinfo=UTC))) == []


def test_a_study_is_kept_as_a_pseudonym_of_its_own(written: Catalog) -> None:
    key = study_key(written, "1.2.3")
    assert len(key) == 64 and key != written.patient_key("1.2.3")
    assert "1.2.3" not in str([*list_entries(written)])


def test_the_command_line_lists_and_verifies(alta: Alta) -> None:
    alta("db", "upgrade")
    alta("keys", "create", "a", "--scope", "search")
    code, out, _ = alta("audit", "verify")
    head = out.split()[-1]
    assert code == 0 and "Whole: 1 entries" in out
    assert alta("audit", "verify", "--expect", head)[0] == 0
    code, out, _ = alta("audit", "verify", "--expect", 64 * "0")
    assert code == 0  # before the first entry there was nothing to change
    code, out, _ = alta("audit", "verify", "--expect", 64 * "a")
    assert code == 1 and "NOT" in out
    assert "key-created" in alta("audit", "list")[1]
    (line,) = alta("audit", "list", "--json")[1].splitlines()
    assert json.loads(line)["digest"] == head
