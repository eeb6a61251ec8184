"""``alta pull dicomweb`` as one types it."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command_line import typed
from tests.conftest import chest_dataset
from tests.tiny_dicomweb import Answer, TinyDicomWeb, running

Alta = Callable[..., tuple[int, str]]


@pytest.fixture
def pacs(monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyDicomWeb]:
    with running(TinyDicomWeb([chest_dataset(study=f"1.2.3.{n}", seed=n) for n in range(1, 4)])) as server:
        monkeypatch.setenv("ALTA_DICOMWEB_ORIGINS", json.dumps({"pacs": server.url}))
        monkeypatch.setenv("ALTA_DICOMWEB_CREDENTIALS", json.dumps({"pacs": "Bearer secret-token"}))
        yield server


@pytest.fixture
def alta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Alta:
    monkeypatch.setenv("ALTA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ALTA_MIN_FREE_MB", "0")
    monkeypatch.delenv("ALTA_DATABASE_URL", raising=False)

    def run(*arguments: str) -> tuple[int, str]:
        code, out, err = typed(monkeypatch, capsys, "pull", "dicomweb", *arguments)
        return code, out + err

    return run


DAYS = ("--from", "2024-03-01", "--to", "2024-03-01")


def test_studies_are_fetched_once_and_counted(alta: Alta, pacs: TinyDicomWeb) -> None:
    code, shown = alta("pacs", *DAYS, "--dry-run")
    assert code == 0 and "3 would be fetched" in shown and pacs.retrieved() == []
    code, shown = alta("pacs", *DAYS)
    assert code == 0 and "New studies: 3." in shown
    code, shown = alta(pacs.url + "/", *DAYS, "--modality", "CR")
    assert code == 0 and "New studies: 0." in shown and len(pacs.retrieved()) == 3
    assert pacs.authorized == {"Bearer secret-token"}


def test_what_did_not_come_is_said_and_gives_another_exit_code(alta: Alta, pacs: TinyDicomWeb) -> None:
    pacs.instead = lambda path, number: Answer(404) if path.endswith("/1.2.3.2.3") else None
    code, shown = alta("pacs", *DAYS)
    assert code == 1 and "refused: gone" in shown and "Run it again" in shown
    assert "secret-token" not in shown


def test_only_configured_servers_are_asked(alta: Alta, pacs: TinyDicomWeb) -> None:
    for wanted in ("other", "http://127.0.0.1:1/dicom-web", pacs.url + "/../elsewhere"):
        code, shown = alta(wanted, *DAYS)
        assert code == 1 and f"Configured: pacs ({pacs.url})" in shown
    assert pacs.asked == []


def test_a_run_that_is_killed_goes_on_where_it_was(alta: Alta, pacs: TinyDicomWeb) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def hang(path: str, number: int) -> None:
        if path.endswith("/1.2.3.3.4"):
            asked.set()
            go_on.wait(60)

    pacs.instead = hang
    program = [sys.executable, "-c", "from service.cli import main; main()"]
    process = subprocess.Popen([*program, "pull", "dicomweb", "pacs", *DAYS], stdout=subprocess.DEVNULL)
    try:
        assert asked.wait(60)
    finally:
        process.kill()
        process.wait()
        go_on.set()
    pacs.instead = lambda path, number: None
    before = pacs.retrieved()
    code, shown = alta("pacs", *DAYS)
    assert code == 0 and "kept by an earlier run: 2 files" in shown and "New studies: 1." in shown
    assert before == ["1.2.3.1.2", "1.2.3.2.3", "1.2.3.3.4"] and pacs.retrieved() == [*before, "1.2.3.3.4"]
    code, shown = alta("pacs", *DAYS, "--dry-run")
    assert "3 such studies with 3 instances; 0 would be fetched" in shown


@pytest.mark.parametrize(
    ("origins", "credentials", "said"),
    [
        ({"pacs": "ftp://host/"}, {}, "pacs: expected http(s)://HOST"),
        ({"pacs": "https://user:secret-word@host/"}, {}, "credentials apart"),
        ({"pacs": "https://host/"}, {"pasc": "user:secret-word"}, "['pasc'], which dicomweb_origins has not"),
    ],
)
def test_wrong_settings_are_said_without_the_secret(
    alta: Alta, monkeypatch: pytest.MonkeyPatch, origins: dict[str, str], credentials: dict[str, str], said: str
) -> None:
    monkeypatch.setenv("ALTA_DICOMWEB_ORIGINS", json.dumps(origins))
    monkeypatch.setenv("ALTA_DICOMWEB_CREDENTIALS", json.dumps(credentials))
    code, shown = alta("pacs", *DAYS)
    assert code == 1 and said in shown and "secret-word" not in shown
