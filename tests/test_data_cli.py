"""``alta data prepare`` as one types it: what it refuses, and what it says."""

from pathlib import Path

import pytest

from tests.test_cli import Alta, alta, one_line_of_error  # noqa: F401
from tests.test_study_table_prepare import own_table
from tests.test_study_tables import write_csv


def test_a_table_that_is_there_is_replaced_only_when_asked(alta: Alta, tmp_path: Path) -> None:  # noqa: F811
    command = ("data", "prepare", "csv", own_table(tmp_path / "own"), "--output", "out")
    assert alta(*command)[0] == 0
    before = Path("out/studies.csv").read_bytes()
    line = one_line_of_error(alta(*command, "--seed", 5))
    assert "out/studies.csv is there already" in line and "--overwrite" in line
    assert Path("out/studies.csv").read_bytes() == before
    assert alta(*command, "--seed", 5, "--dry-run")[0] == 0
    assert alta(*command, "--seed", 5, "--overwrite")[0] == 0
    assert Path("out/studies.csv").read_bytes() != before


def test_an_archive_that_is_not_there_is_not_created(
    alta: Alta,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "data").mkdir()
    command = ("data", "prepare", "archive", "--output", "out", "--dry-run")
    line = one_line_of_error(alta(*command))
    assert "Is it the right one? ALTA_DATA_DIR (data/demo" in line and "alta db upgrade" in line
    assert not list((tmp_path / "data").iterdir())
    monkeypatch.setenv("ALTA_DATA_DIR", str(tmp_path / "misspelt"))
    assert "misspelt/alta.db" in (line := one_line_of_error(alta(*command))) and "ALTA_DATA_DIR" in line
    assert alta("db", "upgrade")[0] == 0
    line = one_line_of_error(alta("data", "prepare", "archive", "--output", "out"))
    assert "no study with a report and a frontal image" in line and "skipped.jsonl" not in line
    assert not Path("out").exists()


def test_a_manifest_says_which_column_it_took_for_what(alta: Alta, tmp_path: Path) -> None:  # noqa: F811
    own_table(tmp_path / "own", 2)
    rows = [
        {"Patient": f"p{n}", "Path": f"{n}.png", "View": "PA", "Date": 20200101, "text": "Clear.", "extra": 1}
        for n in range(2)
    ]
    table = write_csv(tmp_path / "own" / "m.csv", rows)
    code, out, err = alta("data", "prepare", "manifest", table, "--output", "out", "--dry-run")
    assert code == 0, err
    taken = "patient_id from Patient, image_path from Path, view from View, study_date from Date, text."
    assert f"Columns: {taken}" in out
