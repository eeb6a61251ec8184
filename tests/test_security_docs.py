"""docs/security.md names what exists, and its commands do what it says."""

import re
import shlex
from pathlib import Path

import pytest

from index.access.keys import parse_key
from index.tables import Base
from service.access import gate, rates
from service.access.audit_writer import WAIT_SECONDS
from service.access.authentication import KEY_SECONDS
from service.body_limits import JSON_BYTES, REPORT_BYTES
from service.http_protocol import HEAD_SECONDS
from service.problems import PROBLEMS
from service.settings import Settings
from tests.documented import read_page
from tests.test_cli import Alta, alta

__all__ = ["alta"]

PAGE = read_page("security.md")


@pytest.mark.parametrize("line", PAGE.commands)
def test_every_command_and_option_exists(line: str) -> None:
    PAGE.require_command(line)


def test_every_setting_that_it_names_exists() -> None:
    named = {name.removeprefix("ALTA_").lower() for name in re.findall(r"ALTA_[A-Z_]+", PAGE.text)}
    assert len(named) > 12
    assert named <= set(Settings.model_fields)


def test_every_table_is_accounted_for() -> None:
    named = set(re.findall(r"`([a-z_]+)`", PAGE.text))
    assert {table.name for table in Base.metadata.sorted_tables} <= named


def test_the_tests_that_it_points_to_exist() -> None:
    for name in re.findall(r"`(?:tests/)?(test_[a-z_*]+\.py)`", PAGE.text):
        assert list(Path(__file__).parent.glob(name)), name


def test_the_numbers_that_it_gives_are_those_of_the_code() -> None:
    assert f"{rates.FAILURES_PER_MINUTE} failures a minute" in PAGE.text
    assert f"complete within {HEAD_SECONDS:.0f} s" in PAGE.text
    assert f"After {WAIT_SECONDS:.0f} s without a commit" in PAGE.text and "audit-unavailable" in PROBLEMS
    assert KEY_SECONDS == 2 and "within two seconds" in PAGE.text
    assert (REPORT_BYTES, JSON_BYTES) == (16 * 2**20, 2**20)


def test_the_open_paths_are_those_that_the_api_page_names() -> None:
    text = read_page("api.md").text
    for path in {*gate.PUBLIC, "/problems/…"} - {"/"}:
        assert f"`{path}`" in text


def test_keys_and_the_audit_as_the_page_says(alta: Alta, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALTA_DATA_DIR", "data")
    create, listing, revoke = PAGE.section("API keys")
    code, out, err = alta(*shlex.split(create)[1:])
    assert code == 0, err
    identifier, _ = parse_key(out.split()[-1])
    assert identifier in alta(*shlex.split(listing)[1:])[1]
    assert alta(*shlex.split(revoke)[1:-1], identifier)[0] == 0
    for line in PAGE.section("The audit"):
        code, out, err = alta(*shlex.split(line)[1:])
        assert code == 0, f"{line}: {err}"
    assert "Whole: 2 entries" in out
