"""API keys: made once, kept as a hash, usable until they expire or are revoked."""

import hashlib
import sqlite3
from datetime import date, timedelta
from pathlib import Path

import pytest

from index import Catalog
from index.access.audit import list_entries
from index.access.keys import (
    create_key,
    find_key,
    has_keys,
    list_keys,
    parse_key,
    revoke_key,
    secret_matches,
)
from index.access.usage import add_usage, usage_on
from index.catalog import ACCESS_LOCK
from index.tables.base import now
from model.errors import ArchiveError, InputError
from tests.command_line import typed
from tests.test_cli import Alta, alta

__all__ = ["alta"]


def test_a_key_is_known_by_its_id_and_only_its_secrets_hash_is_kept(catalog: Catalog) -> None:
    text, record = create_key(catalog, "PACS", ["write", "search"], "cli:root", requests_per_minute=7)
    identifier, secret = parse_key(text)
    found = find_key(catalog, identifier)
    assert found == record and found.requests_per_minute == 7 and found.scopes == {"search", "write"}
    assert found.secret_sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert secret_matches(found, secret) and not secret_matches(found, secret[:-1] + "-")
    assert len(secret) == 43  # 256 bits in base64url


def test_two_keys_have_nothing_in_common(catalog: Catalog) -> None:
    one, other = (parse_key(create_key(catalog, "same", ["search"], "cli:root")[0]) for _ in range(2))
    assert one[0] != other[0] and one[1] != other[1]


@pytest.mark.parametrize("text", ["", "alta_", "alta_abc_def", "Alta_000000000000_" + 43 * "a", "alta_0" + 43 * "a"])
def test_what_has_not_the_form_of_a_key_is_none(text: str) -> None:
    assert parse_key(text) is None


def test_a_key_ends_when_it_expires_or_is_revoked(catalog: Catalog) -> None:
    _, brief = create_key(catalog, "brief", ["search"], "cli:root", expires_at=now() + timedelta(hours=1))
    assert brief.usable_at(now()) and not brief.usable_at(now() + timedelta(hours=2))
    revoked = revoke_key(catalog, brief.id, "cli:root")
    assert not revoked.usable_at(now())
    assert revoke_key(catalog, brief.id, "cli:root").revoked_at == revoked.revoked_at
    assert has_keys(catalog) and not has_keys(catalog, usable=True)
    assert [record.id for record in list_keys(catalog)] == [brief.id]


def test_making_and_revoking_a_key_is_in_the_audit(catalog: Catalog) -> None:
    _, record = create_key(catalog, "PACS", ["search"], "cli:ada")
    revoke_key(catalog, record.id, "cli:bob")
    revoke_key(catalog, record.id, "cli:bob")
    assert [(entry["caller"], entry["action"]) for entry in list_entries(catalog)] == [
        ("cli:ada", f"key-created {record.id}"),
        ("cli:bob", f"key-revoked {record.id}"),
    ]


@pytest.mark.parametrize(("name", "scopes"), [("x", []), ("x", ["root"]), (" ", ["search"]), (129 * "x", ["search"])])
def test_a_key_without_a_name_or_a_known_scope_is_not_made(catalog: Catalog, name: str, scopes: list[str]) -> None:
    with pytest.raises(InputError) as error:
        create_key(catalog, name, scopes, "cli:root")
    assert error.value.slug == "bad-key" and not has_keys(catalog)


def test_revoking_a_key_that_is_not_there_says_so(catalog: Catalog) -> None:
    with pytest.raises(ArchiveError, match="alta keys list"):
        revoke_key(catalog, "000000000000", "cli:root")


def test_the_command_line_shows_a_key_once(alta: Alta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALTA_DATA_DIR", str(tmp_path / "new"))
    code, out, err = alta("keys", "create", "PACS [1]", "--scope", "search", "--expires", "90d", "--per-day", "100")
    assert code == 0, err
    text = out.split()[-1]
    identifier, secret = parse_key(text)
    listed = alta("keys", "list")[1]
    assert "PACS [1]" in listed and identifier in listed and "usable" in listed and secret not in listed
    with sqlite3.connect(tmp_path / "new" / "alta.db") as database:
        assert secret not in "\n".join(database.iterdump())
    database.close()
    assert alta("keys", "revoke", identifier)[0] == 0
    assert "revoked" in alta("keys", "list")[1]


def test_the_command_line_refuses_what_is_no_duration_or_scope(
    alta: Alta, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (("--scope", "search", "--expires", "soon"), ("--scope", "everything")):
        code, _, err = typed(monkeypatch, capsys, "keys", "create", "x", *arguments)
        assert code == 1 and "Expected" in err


def test_usage_adds_up_by_caller_and_day(catalog: Catalog) -> None:
    today, before = date(2026, 1, 2), date(2026, 1, 1)
    with catalog.write(ACCESS_LOCK) as session:
        assert add_usage(session, {("a", today): 2, ("b", today): 1, ("a", before): 5})["a", today] == 2
    with catalog.write(ACCESS_LOCK) as session:
        assert add_usage(session, {("a", today): 3}) == {("a", today): 5}
    assert usage_on(catalog, today) == {"a": 5, "b": 1}
    assert usage_on(catalog, before, ["a", "c"]) == {"a": 5}
