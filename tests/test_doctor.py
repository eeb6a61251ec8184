"""``alta doctor`` on a whole installation: what it says of a good one, of a broken one, and that it writes nothing."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from index import migrate, open_catalog
from model.errors import InputError
from service.doctor import examination, examine
from service.doctor.finding import Finding
from service.doctor.installation import Installation
from service.settings import Settings
from tests.service_samples import write_archive
from tests.test_cli import Alta
from tests.test_cli import alta as alta  # the fixture
from tests.tiny import write_tiny_checkpoint

SECRET = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"


@pytest.fixture
def installed(alta: Alta, tmp_path: Path) -> Path:
    """Four studies that are embedded and can be found; the data folder."""
    write_tiny_checkpoint(tmp_path / "encoders", "ignored")
    (tmp_path / "source").mkdir()
    write_archive(tmp_path / "source")
    (tmp_path / "data").mkdir(mode=0o700)
    for command in (("ingest", "source", "--reports", "source/reports.csv"), ("embed",), ("index", "build")):
        code, _, err = alta(*command)
        assert code == 0, err
    return tmp_path / "data"


def found(environ: Mapping[str, str] | None = None) -> dict[str, list[Finding]]:
    """Findings of this installation by what was looked at."""
    findings: dict[str, list[Finding]] = {}
    for finding in examine(os.environ if environ is None else environ):
        findings.setdefault(finding.check, []).append(finding)
    return findings


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Leave the other checks out."""
    monkeypatch.setattr(examination, "CHECKS", [pair for pair in examination.CHECKS if pair[0] in names])


def everything_in(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_good_installation_has_no_failure_and_is_left_as_it_was(alta: Alta, installed: Path, tmp_path: Path) -> None:
    before = everything_in(tmp_path)
    code, out, err = alta("doctor")
    assert (code, err) == (0, "")
    assert everything_in(tmp_path) == before
    for line in (
        "4 studies, 5 images; 0 files refused",
        "generation 1 is whole: 4 images, 3 reports, engine flat; recall@10 1.000",
        "those of ALTA_MODEL_PATH",
        "all 15 transfer syntaxes are decoded",
        "tiny (",
        "trained on nothing, licence none",
        "an image and a text, 8 numbers each",
        "SQLite at",
        "everything",
    ):
        assert line in out
    assert out.splitlines()[-1] == "0 failures, 1 warning."  # no calibration
    assert "warn  calibration" in out and "alta evaluate calibrate" in out


def test_while_the_service_has_the_database_open_nothing_is_changed_either(
    alta: Alta, installed: Path, tmp_path: Path
) -> None:
    catalog = open_catalog(f"sqlite:///{installed / 'alta.db'}")
    with catalog.session() as session:
        session.connection().exec_driver_sql("SELECT count(*) FROM study").all()
        before = {name: kept for name, kept in everything_in(tmp_path).items() if not name.endswith("-shm")}
        assert any(name.endswith("-wal") for name in before)
        assert alta("doctor")[0] == 0
        after = {name: kept for name, kept in everything_in(tmp_path).items() if not name.endswith("-shm")}
    assert after == before
    catalog.close()


def test_as_json_it_is_one_object(alta: Alta, installed: Path) -> None:
    code, out, _ = alta("doctor", "--json")
    report = json.loads(out)
    assert not [row for row in report["findings"] if row["state"] == "fail"]
    assert (code, report["state"], report["failures"], report["warnings"]) == (0, "warn", 0, 1)
    assert all(set(row) == {"check", "state", "saw", "remedy"} for row in report["findings"])
    assert all(bool(row["remedy"]) == (row["state"] != "ok") for row in report["findings"])


def test_with_nothing_there_every_line_says_what_to_do_and_nothing_is_made(alta: Alta, tmp_path: Path) -> None:
    code, out, _ = alta("doctor")
    assert code == 1
    assert list(tmp_path.iterdir()) == []
    assert "FAIL  data folder" in out and "FAIL  database" in out and "FAIL  encoders" in out and "FAIL  index" in out
    assert "alta db upgrade" in out and "ALTA_MODEL_PATH names their folder" in out
    assert "all 15 transfer syntaxes are decoded" in out  # what needs none of these is looked at all the same


def test_wrong_settings_are_said_with_what_needs_none_of_them(
    alta: Alta, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    only(monkeypatch, "settings", "database")
    monkeypatch.setenv("ALTA_PORT", "tcp://10.0.0.1:8000")
    monkeypatch.setenv("ALTA_WEBHOOK_ORIGINS", '["https://his.example"]')
    code, out, _ = alta("doctor")
    assert code == 1
    assert "FAIL  settings            ALTA_PORT: " in out and "FAIL  database" not in out
    monkeypatch.delenv("ALTA_PORT")
    assert "webhook_origins needs webhook_secret" in alta("doctor")[1]
    monkeypatch.setenv("ALTA_WEBHOOK_ORIGINS", "https://his.example")
    assert "written as JSON" in alta("doctor")[1]


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(
    alta: Alta, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(installation: Installation) -> object:
        raise ZeroDivisionError("as never before")

    checks = [("device", broken), *(pair for pair in examination.CHECKS if pair[0] == "data folder")]
    monkeypatch.setattr(examination, "CHECKS", checks)
    findings = found()
    assert findings["device"][0].saw == "ZeroDivisionError: as never before"
    assert findings["data folder"][0].state == "fail"


def test_no_secret_is_shown(alta: Alta, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALTA_WEBHOOK_ORIGINS", '["http://his.example"]')
    monkeypatch.setenv("ALTA_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("ALTA_DICOMWEB_ORIGINS", '{"pacs": "http://pacs.example/dicom-web"}')
    monkeypatch.setenv("ALTA_DICOMWEB_CREDENTIALS", '{"pacs": "alta:hunter22"}')
    monkeypatch.setenv("ALTA_DATABASE_URL", "postgresql://alta:sesame99@127.0.0.1:1/alta")

    def tells(installation: Installation) -> object:
        settings = installation.settings
        raise ValueError(f"{settings.database_url} {SECRET} {settings.dicomweb_credentials['pacs'].get_secret_value()}")

    monkeypatch.setattr(examination, "CHECKS", [*examination.CHECKS, ("telltale", tells)])
    code, out, err = alta("doctor")
    assert code == 1 and "postgresql+psycopg://alta:***@127.0.0.1:1/alta" in out.replace(
        "postgresql://", "postgresql+psycopg://"
    )
    assert not any(secret in out + err for secret in (SECRET, "hunter22", "sesame99"))
    assert "warn  access              webhooks to http://his.example travel in plain text" in out
    assert "the credentials of the DICOMweb server pacs travel in plain text" in out


@pytest.mark.parametrize("name", ["alta_databse_url", "ALTA_DATABSE_URL"])
def test_a_misspelt_setting_is_said_by_every_command_and_stops_the_service(
    alta: Alta, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    migrate(f"sqlite:///{tmp_path / 'data' / 'alta.db'}")
    only(monkeypatch, "settings")
    monkeypatch.setenv(name, "postgresql://somewhere/else")
    said = "ALTA_DATABSE_URL is no setting. Did you mean ALTA_DATABASE_URL?"
    code, _, err = alta("archive", "refused")
    assert (code, err.splitlines()) == (0, [f"alta: {said}"])
    code, _, err = alta("serve")
    assert code == 1 and f"Refusing to serve: {said}" in err
    (finding,) = found()["settings"]
    assert (finding.state, finding.saw) == ("fail", said)


def test_a_name_that_resembles_none_is_warned_of_and_names_of_others_are_left_alone(
    alta: Alta, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    migrate(f"sqlite:///{tmp_path / 'data' / 'alta.db'}")
    only(monkeypatch, "settings")
    for name in ("ALTA_TEST_SEED", "ALTA_SERVICE_HOST", "ALTA_PORT_8000_TCP_ADDR"):
        monkeypatch.setenv(name, "1")
    assert alta("archive", "refused")[2] == ""
    monkeypatch.setenv("ALTA_FROBNICATE", "1")
    assert (
        alta("archive", "refused")[2]
        == "alta: ALTA_FROBNICATE is no setting of this release (docs/api.md lists them).\n"
    )
    (finding,) = found()["settings"]
    assert finding.state == "warn"


@pytest.mark.parametrize("name", ["ALTA_DB_URL", "ALTA_DB_URI", "ALTA_DATABASE", "ALTA_DATABASE_URI"])
def test_another_name_of_the_database_stops_the_service(name: str) -> None:
    """It would serve a new, empty one in a file."""
    from service.unknown_settings import refuse_misspelt, unknown_settings

    assert unknown_settings({name: "postgresql://db/alta"}) == {name: "ALTA_DATABASE_URL"}
    with pytest.raises(InputError, match="Did you mean ALTA_DATABASE_URL"):
        refuse_misspelt({name: "postgresql://db/alta"})


def test_the_settings_of_this_release_are_all_known() -> None:
    from service.unknown_settings import unknown_settings

    assert unknown_settings({f"ALTA_{name.upper()}": "" for name in Settings.model_fields}) == {}
