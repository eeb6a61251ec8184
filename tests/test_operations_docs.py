"""docs/operations.md names commands that exist, and those of backing up and restoring do what it says."""

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import WriteDicom
from tests.documented import read_page
from tests.test_cli import Alta, alta
from tests.tiny import write_tiny_checkpoint

__all__ = ["alta"]

PAGE = read_page("operations.md")


def section(title: str) -> list[str]:
    return PAGE.section(title)


def test_the_page_has_commands() -> None:
    assert len(PAGE.blocks) >= 6 and len(PAGE.commands) >= 25


@pytest.mark.parametrize("line", PAGE.commands)
def test_every_command_and_option_exists(line: str) -> None:
    PAGE.require_command(line)


@pytest.fixture
def filled(alta: Alta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_dicom: WriteDicom) -> Alta:
    """Two studies of two patients, embedded and searchable, in the folder that the page calls data."""
    write_tiny_checkpoint(tmp_path / "encoders")
    monkeypatch.setenv("ALTA_DATA_DIR", "data")
    for number in range(2):
        write_dicom(f"{number}.dcm", study=f"1.2.3.{number}", seed=number, PatientID=f"471{number}")
    (tmp_path / "reports.csv").write_text("accession_number,text\nA0,Effusion.\nA1,Clear.")
    for command in (("ingest", "archive", "--reports", "reports.csv"), ("embed",), ("index", "build")):
        code, _, err = alta(*command)
        assert code == 0, err
    return alta


def run(alta: Alta, monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> str:
    """The lines as typed; rsync and pip are others' business. Returns what the last one printed."""
    out = ""
    for line in lines:
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            monkeypatch.setenv(name, value)
        elif line.startswith("alta "):
            code, out, err = alta(*shlex.split(line)[1:])
            assert code == 0, f"{line}: {err}"
    return out


def test_backup_and_restore_as_the_page_says(filled: Alta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(filled, monkeypatch, section("Backup"))
    (tmp_path / "restored" / "received" / "objects").mkdir(parents=True)
    out = run(filled, monkeypatch, section("Restore"))
    assert "is whole" in out
    assert "2 studies, 2 reports" in filled("index", "status")[1]
    code, _, err = filled("db", "restore", "backups/alta.db")
    assert code == 1 and err.startswith("alta: ") and "nothing is written over" in err


def test_upgrading_as_the_page_says(filled: Alta, monkeypatch: pytest.MonkeyPatch) -> None:
    run(filled, monkeypatch, section("Upgrade"))


def test_moving_to_postgresql_as_the_page_says(
    filled: Alta, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    lines = [re.sub(r"postgresql://\S+", postgres_url, line) for line in section("PostgreSQL")]
    out = run(filled, monkeypatch, lines)
    assert "2 studies, 2 reports" in out
    code, out, err = filled("db", "copy", "--to", postgres_url)
    assert code == 1 and "not" not in out and postgres_url.rpartition("/")[2].partition("?")[0] in err


def test_the_limit_of_priors_as_the_page_says(filled: Alta, monkeypatch: pytest.MonkeyPatch) -> None:
    run(filled, monkeypatch, section("How old a prior may be"))
    assert "at most 1825 days old" in filled("archive", "priors")[1]
    assert filled("archive", "priors", "--unlimited")[0] == 0
    assert "of any age" in filled("archive", "priors")[1]
    assert filled("archive", "priors", "--unlimited", "--within", "3")[0] == 1


def test_forgetting_as_the_page_says(filled: Alta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled("db", "backup", "backups/alta.db")
    code, out, err = filled("archive", "forget", "--patient", "4711", "--dry-run")
    assert code == 0 and "To be removed" in out, err
    assert "1.dcm" in out
    code, out, err = filled("archive", "forget", "--patient", "4711", "--yes")
    assert code == 0 and "Nothing is left" in out and "was found" not in out, err
    assert "Nothing of this patient was found" in filled("archive", "forget", "--patient", "4712", "--dry-run")[1]
    assert "patient-forgotten" in filled("audit", "list")[1]
    assert "1 studies, 1 reports" in filled("index", "status")[1]
    assert "forgotten-patient" in filled("ingest", "archive")[1]
    assert filled("archive", "remember", "--patient", "4711")[0] == 0
    assert filled("archive", "remember", "--patient", "4711")[0] == 1
    assert "forgotten-patient" not in filled("ingest", "archive")[1]
    (tmp_path / "backups" / "alta.db").unlink()
    code, out, _ = filled("archive", "forget", "--patient", "4711", "--yes")
    assert code == 1 and "--gone" in out
    assert filled("db", "backups", "--gone", "backups/alta.db")[0] == 0
    assert filled("archive", "forget", "--patient", "4711", "--yes")[0] == 0
    assert filled("archive", "forget", "--patient", " ", "--yes")[0] == 1


def test_nobody_is_forgotten_without_a_yes(filled: Alta, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    assert filled("archive", "forget", "--patient", "4711")[0] == 1
    assert "2 studies, 2 reports" in filled("index", "status")[1]
