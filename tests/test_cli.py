"""``alta`` from files to a searchable generation, as one types it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import typed
from tests.conftest import WriteDicom
from tests.tiny import write_tiny_checkpoint

Alta = Callable[..., tuple[int, str, str]]

TINY_RUN = """
name = "tiny"
[data]
studies = 6
validation_studies = 4
[optim]
trainable = "all"
batch = 4
steps = 2
[model]
absent_slots = "ignored"
[model.image]
size = 32
patch = 8
width = 16
depth = 1
heads = 2
decoder_width = 8
decoder_depth = 1
decoder_heads = 2
[model.text]
vocabulary = 200
width = 16
depth = 1
heads = 2
intermediate = 16
positions = 64
context_length = 64
[transform]
resize = 32
crop = 32
"""


@pytest.fixture
def alta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Alta:
    """``alta("index", "status")`` gives exit code, standard output and standard error."""
    monkeypatch.setenv("ALTA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ALTA_MODEL_PATH", str(tmp_path / "encoders"))
    monkeypatch.delenv("ALTA_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        return typed(monkeypatch, capsys, *arguments)

    return run


def test_help_lists_the_commands(alta: Alta) -> None:
    code, out, _ = alta("--help")
    assert code == 0
    for command in ("demo", "ingest", "embed", "index", "archive", "serve", "train", "evaluate", "simulate", "db"):
        assert command in out


@pytest.mark.parametrize(
    ("group", "commands"),
    [("index", ["build", "status"]), ("archive", ["refused"]), ("evaluate", ["simulated"]), ("db", ["upgrade"])],
)
def test_groups_list_theirs(alta: Alta, group: str, commands: list[str]) -> None:
    _, out, _ = alta(group, "--help")
    assert all(command in out for command in commands)


def test_help_does_not_load_torch() -> None:
    code = "import sys, service.cli; sys.exit(bool({'torch', 'transformers', 'timm'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_files_become_a_searchable_generation(alta: Alta, tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path / "encoders", "ignored")
    code, out, _ = alta("simulate", tmp_path / "sim", "--studies", 4, "--size", 64)
    assert code == 0 and "4 studies" in out
    (tmp_path / "sim" / "dicom" / "broken.dcm").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "sim" / "dicom" / "page.html").write_text("<html>")
    files = len(list((tmp_path / "sim" / "dicom").rglob("*.dcm"))) - 1
    ingest = ("ingest", tmp_path / "sim" / "dicom", "--reports", tmp_path / "sim" / "reports.csv")

    code, out, _ = alta(*ingest)
    assert code == 0 and "New studies: 4." in out
    assert row(out, "accepted, new") == files and row(out, "reports matched to a study") == 4

    code, out, _ = alta(*ingest)
    assert code == 0 and "New studies: 0." in out
    assert (row(out, "accepted, new"), row(out, "unchanged since last time")) == (0, files)

    assert "No generation is live" in alta("index", "status")[1]
    assert "Embedded 4 studies and 4 reports." in alta("embed", "--batch-size", 2)[1]
    assert "Embedded 0 studies and 0 reports." in alta("embed")[1]
    code, out, _ = alta("index", "build")
    assert code == 0 and "4 studies, 4 reports" in out and "is live" in out
    code, out, _ = alta("index", "status")
    assert code == 0 and "4 studies, 4 reports" in out and "Not embedded: 0 (" in out and "others" not in out

    code, out, _ = alta("archive", "refused")
    assert code == 0 and "broken.dcm" in out and "no-transfer-syntax" in out
    assert "broken.dcm" not in alta("archive", "refused", "--reason", "too-many-pixels")[1]

    write_tiny_checkpoint(tmp_path / "encoders", "ignored", seed=1)
    out = alta("index", "status")[1]
    assert "The configured encoders are others" in out and "Not embedded: 4 (" in out


def test_studies_without_a_frontal_image_are_counted_and_listed(
    alta: Alta, tmp_path: Path, write_dicom: WriteDicom
) -> None:
    write_tiny_checkpoint(tmp_path / "encoders", "ignored")
    for study in ("1.2.3.1", "1.2.3.2", "1.2.3.3"):
        view = "PA" if study == "1.2.3.1" else "LL"
        write_dicom(f"{study}.dcm", study=study, ViewPosition=view, AccessionNumber="A7\x1b[2J")
    assert "New studies: 3." in alta("ingest", tmp_path / "archive")[1]
    told = "Without a frontal image, so not found by image: 2 studies. Which: alta archive without-frontal"
    out = alta("embed", "--workers", 0)[1]
    assert "Embedded 1 studies" in out and told in out and told in alta("index", "status")[1]
    code, out, _ = alta("archive", "without-frontal")
    assert code == 0 and "In all: 2" in out
    assert [line.split(" ")[0] for line in out.splitlines()[:2]] == ["1.2.3.2", "1.2.3.3"]
    assert r"accession_number=A7\x1b[2J" in out and "views=LL" in out
    assert "1 of 2 are shown; all of them: --limit 2" in alta("archive", "without-frontal", "--limit", 1)[1]


def row(table: str, label: str) -> int:
    """The count beside a label."""
    (line,) = (line for line in table.splitlines() if label in line)
    return int(line.replace("│", " ").split()[-1])


def test_a_database_is_created_by_name(alta: Alta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALTA_DATABASE_URL", f"sqlite:///{tmp_path / 'other.db'}")
    code, out, _ = alta("db", "upgrade")
    assert code == 0 and "up to date" in out and (tmp_path / "other.db").exists()


def one_line_of_error(result: tuple[int, str, str]) -> str:
    code, _, err = result
    assert code == 1 and "Traceback" not in err
    (line,) = err.strip().splitlines()
    assert line.startswith("alta: ")
    return line


def test_a_bad_training_configuration_is_one_line(alta: Alta, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('name = "x"\nspeed = 3\n')
    line = one_line_of_error(alta("train", tmp_path / "run.toml", "--output", tmp_path / "out"))
    assert "unknown speed" in line and not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_training_run_that_is_stopped_says_how_it_goes_on(
    number: signal.Signals, alta: Alta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.training.train", lambda *_: os.kill(os.getpid(), number))
    (tmp_path / "run.toml").write_text(TINY_RUN)
    before = signal.getsignal(signal.SIGTERM)
    at_terminal = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C
    try:
        line = one_line_of_error(alta("train", tmp_path / "run.toml", "--output", tmp_path / "out"))
    finally:
        signal.signal(signal.SIGINT, at_terminal)
    assert "Stopped. With --resume the run goes on from its last validation" in line
    assert signal.getsignal(signal.SIGTERM) is before


def test_encoders_that_are_absent_are_one_line(alta: Alta) -> None:
    assert alta("db", "upgrade")[0] == 0
    for command in (("embed",), ("index", "build"), ("index", "status")):
        assert "expected a folder written by `alta train`" in one_line_of_error(alta(*command))


def test_a_source_that_is_absent_is_one_line(alta: Alta, tmp_path: Path) -> None:
    assert "absent" in one_line_of_error(alta("ingest", tmp_path / "absent"))


def test_on_other_addresses_nothing_is_served_until_somebody_can_authenticate(
    alta: Alta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ALTA_MODEL_PATH")
    monkeypatch.setenv("ALTA_HOST", "0.0.0.0")
    monkeypatch.setattr("service.serving.Server.run_until_told", lambda server: None)
    assert "alta keys create" in one_line_of_error(alta("serve"))
    assert alta("keys", "create", "viewer", "--scope", "search")[0] == 0
    assert alta("serve")[0] == 0
    monkeypatch.setenv("ALTA_AUTHENTICATION", "off")
    assert "loopback only" in one_line_of_error(alta("serve"))


def test_an_unknown_option_is_a_usage_error(alta: Alta) -> None:
    code, _, err = alta("embed", "--faster")
    assert code == 2 and "--faster" in err


def test_training_writes_encoders_that_embed(alta: Alta, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(TINY_RUN)
    code, out, _ = alta(
        "train", tmp_path / "run.toml", "--output", tmp_path / "encoders", "--cache", tmp_path / "cache", "--workers", 1
    )
    assert code == 0 and re.search(r"encoders: step 2 of 2, the best of 1 validation by recall_at_10: loss ", out)
    assert alta("db", "upgrade")[0] == 0
    assert "Embedded 0 studies and 0 reports." in alta("embed")[1]
