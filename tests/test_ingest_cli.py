"""``alta ingest``, ``alta receive dicom`` and ``alta pull pacs`` as one types them."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.cli.console import console
from tests.command_line import typed
from tests.conftest import WriteDicom, chest_dataset
from tests.peers import Orthanc, file_bytes, free_port

Alta = Callable[..., tuple[int, str]]


@pytest.fixture
def alta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Alta:
    monkeypatch.setenv("ALTA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ALTA_MIN_FREE_MB", "0")
    monkeypatch.delenv("ALTA_DATABASE_URL", raising=False)

    def run(*arguments: object) -> tuple[int, str]:
        code, out, err = typed(monkeypatch, capsys, *arguments)
        return code, out + err

    return run


def counts(shown: str, label: str) -> list[int]:
    lines = [line for line in shown.splitlines() if label in line]
    return [int(line.split("│")[2]) for line in lines]


def test_several_sources_each_with_its_summary(
    alta: Alta, tmp_path: Path, archive: Path, write_dicom: WriteDicom
) -> None:
    write_dicom("a.dcm", study="1.2.3.1")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as packed:
        packed.writestr("1", file_bytes(chest_dataset(study="1.2.3.2")))
        packed.writestr("2", file_bytes(chest_dataset(study="1.2.3.3")))
        packed.writestr("page.dcm", "<html>")
    (tmp_path / "reports.csv").write_text("study_instance_uid,report\n1.2.3.2,FINDINGS: Clear.\n")
    sources = (archive, tmp_path / "b.zip", "--reports", tmp_path / "reports.csv")

    code, shown = alta("ingest", *sources, "--dry-run")
    assert code == 0 and counts(shown, "accepted, new") == [1, 2] and "not-dicom" in shown
    assert not (tmp_path / "data").exists()

    code, shown = alta("ingest", *sources)
    assert code == 0 and counts(shown, "accepted, new") == [1, 2]
    code, shown = alta("ingest", *sources)
    assert counts(shown, "accepted, new") == [0, 0] and counts(shown, "unchanged") == [1, 2]
    code, shown = alta("ingest", *sources, "--dry-run")
    assert counts(shown, "accepted, new") == [0, 0] and counts(shown, "unchanged") == [1, 2]


def test_a_source_that_is_not_there_is_said_before_any_is_read(alta: Alta, archive: Path, tmp_path: Path) -> None:
    code, shown = alta("ingest", archive, tmp_path / "none.zip")
    assert code == 1 and "none.zip" in shown
    assert not (tmp_path / "data").exists()


def test_reports_come_by_themselves(alta: Alta, archive: Path, tmp_path: Path, write_dicom: WriteDicom) -> None:
    write_dicom("a.dcm", study="1.2.3.1")
    table = tmp_path / "reports.csv"
    table.write_text("study_instance_uid,text\n1.2.3.1,Clear lungs.\n1.2.3.2,No study yet.\n")
    alta("ingest", archive)
    code, shown = alta("ingest", "--reports", table, "--dry-run")
    assert code == 0 and counts(shown, "│ reports ") == [2]
    code, shown = alta("ingest", "--reports", table)
    assert code == 0
    assert counts(shown, "matched to a study") == [1] and counts(shown, "waiting for their study") == [1]


def test_nothing_to_take_in_is_said(alta: Alta) -> None:
    code, shown = alta("ingest")
    assert code == 1 and "--reports" in shown


def test_nobody_may_send_unless_named(alta: Alta) -> None:
    code, shown = alta("receive", "dicom", "--port", 0)
    assert code == 1 and "--allow AET" in shown


def test_a_pacs_that_could_not_reach_us_is_said_at_once(alta: Alta, tmp_path: Path) -> None:
    days = ("--from", "2024-03-01", "--to", "2024-03-01")
    code, shown = alta("pull", "pacs", "--host", "192.0.2.1", "--port", 104, "--called-aet", "PACS", *days)
    assert code == 1 and "--listen-host" in shown
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("way", [["--get"], []])
def test_studies_of_a_pacs_are_fetched_once_and_counted(alta: Alta, orthanc: Orthanc, way: list[str]) -> None:
    orthanc.upload(chest_dataset(study="1.2.3.1"), chest_dataset(study="1.2.3.2", StudyDate="20240302"))
    port = free_port()
    orthanc.know("ALTA", port)
    where = ("--host", "127.0.0.1", "--port", orthanc.dicom_port, "--called-aet", "ORTHANC", "--listen-port", port)
    days = ("--from", "2024-03-01", "--to", "2024-03-02", *way)
    code, shown = alta("pull", "pacs", *where, *days, "--dry-run")
    assert code == 0 and "2 would be fetched" in shown
    code, shown = alta("pull", "pacs", *where, *days)
    assert code == 0 and "New studies: 2." in shown
    code, shown = alta("pull", "pacs", *where, *days)
    assert code == 0 and "New studies: 0." in shown


def test_one_dicom_file_is_no_source_and_the_message_says_what_is(
    alta: Alta, archive: Path, write_dicom: WriteDicom
) -> None:
    code, err = alta("ingest", write_dicom("one.dcm"))
    assert code == 1 and "folder" in err


@pytest.mark.parametrize("width", [40, 80])
def test_names_of_files_are_whole_and_alone_on_their_line_at_any_width(
    tmp_path: Path, write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("ALTA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(console, "width", width)
    monkeypatch.setattr(console, "stderr", False)
    folder = f"{'a folder of a [name] that is long ' * 4}/{'and of another :smile: ' * 4}"
    slice_of = str(write_dicom(f"{folder}/slice.dcm", Modality="CT").absolute())
    odd = write_dicom(f"{folder}/slice\n\x1b[2J.dcm", Modality="CT", seed=1).absolute()
    reports = tmp_path / folder / "reports.csv"
    reports.parent.mkdir(parents=True)
    reports.write_text("study_instance_uid,report\n1.2.3.9,FINDINGS: Clear.\n")
    backup = tmp_path / folder / "alta.db"

    def lines(*arguments: object) -> list[str]:
        shown = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert shown.exit_code == 0, shown.output
        return shown.output.splitlines()

    tried = lines("ingest", tmp_path / "archive", "--dry-run")
    lines("ingest", tmp_path / "archive", "--reports", reports)
    for refused in (tried, lines("archive", "refused")):
        at = refused.index(slice_of)
        assert refused[at + 1].startswith("    wrong-modality: ")
        assert f"{odd.parent}/slice\\x0a\\x1b[2J.dcm" in refused
    waiting = lines("archive", "reports")
    (at,) = (place for place, line in enumerate(waiting) if line.startswith(str(reports)))
    assert waiting[at + 1].startswith("    unmatched (no-study-yet): No study of UID 1.2.3.9")
    assert lines("db", "backups") == ["No backup is known."]
    lines("db", "backup", backup)
    assert str(backup) in lines("db", "backups")


def test_a_setting_that_is_no_json_is_one_line(alta: Alta, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALTA_DICOMWEB_ORIGINS", "pacs=http://127.0.0.1")
    code, err = alta("archive", "refused")
    assert code == 1 and "dicomweb_origins" in err and "JSON" in err and "Traceback" not in err
