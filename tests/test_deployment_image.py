"""The Dockerfile, read: no engine is needed. What it copies is there, and the product runs as it lets it run."""

import fnmatch
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from index import migrate
from service.settings import Settings
from tests.deployed import ROOT, written_files
from tests.live_service import answers, until
from tests.peers import free_port
from tests.tiny import write_tiny_checkpoint

DOCKERFILE = (ROOT / "Dockerfile").read_text()
LAST_STAGE = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


def instructions(text: str) -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.M))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def copied() -> list[str]:
    """What is copied from the repository."""
    found = [words.split() for name, words in instructions(DOCKERFILE) if name == "COPY"]
    return [source for words in found if not words[0].startswith("--from") for source in words[:-1]]


def sent() -> list[str]:
    """What .dockerignore lets through, of what the repository tracks."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"  # nothing by default
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert set(lines) == {"*", "**/__pycache__", *(f"!{name}" for name in kept)}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    if tracked == [""]:
        pytest.skip("not a git checkout")
    return [
        path for path in tracked if any(fnmatch.fnmatch(path, name) or path.startswith(f"{name}/") for name in kept)
    ]


def test_what_it_copies_is_there_and_is_sent_to_the_builder() -> None:
    paths = sent()
    for source in copied():
        assert any(fnmatch.fnmatch(path, source) or path.startswith(f"{source}/") for path in paths), source


def test_what_is_sent_is_what_is_copied() -> None:
    assert not [
        path for path in sent() if not any(fnmatch.fnmatch(path, s) or path.startswith(f"{s}/") for s in copied())
    ]


def test_both_variants_are_installed_from_a_lock_with_hashes_that_has_what_deployments_use() -> None:
    (install,) = [words for name, words in instructions(DOCKERFILE) if name == "RUN" and "--require-hashes" in words]
    assert '-r "requirements/${VARIANT}.lock"' in install and "--only-binary :all:" in install
    for variant in ("cpu", "cuda"):
        lock = (ROOT / "requirements" / f"{variant}.lock").read_text()
        assert re.search(r"^torch==\S+ \\\n +--hash=", lock, flags=re.M)
        included = [(ROOT / "requirements" / name).read_text() for name in re.findall(r"^-r (\S+)$", lock, flags=re.M)]
        assert any(re.search(r"^psycopg-binary==", text, flags=re.M) for text in included)
        assert any(re.search(r"^setuptools==", text, flags=re.M) for text in included)  # builds the product itself
    assert re.search(r"--no-deps --no-index --no-build-isolation \.", DOCKERFILE)


def test_the_last_stage_installs_nothing_and_is_nobody_in_particular() -> None:
    runs = [words for name, words in instructions(LAST_STAGE) if name == "RUN"]
    assert runs and not [words for words in runs if re.search(r"\b(apt|apt-get|pip|curl|wget)\b", words)]
    users = [words for name, words in instructions(LAST_STAGE) if name == "USER"]
    assert users == ["10001:10001"]  # a number: Kubernetes' runAsNonRoot cannot look a name up


def test_nothing_names_where_packages_come_from() -> None:
    for path in written_files():
        hosts = re.findall(r"https?://([a-z0-9.-]+\.[a-z]{2,})", path.read_text())
        assert not hosts, f"{path}: {hosts}"


def health_check() -> list[str]:
    (words,) = [words for name, words in instructions(LAST_STAGE) if name == "HEALTHCHECK"]
    return json.loads(words[words.index("CMD") + 4 :])


def test_settings_that_it_sets_exist() -> None:
    for name in re.findall(r"ALTA_([A-Z_]+)", DOCKERFILE):
        assert name.lower() in Settings.model_fields


def test_its_python_is_one_that_the_product_runs_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (version,) = re.findall(r"^ARG PYTHON=(\d+\.\d+)$", DOCKERFILE, flags=re.M)
    assert f"{version}.0" in SpecifierSet(project["requires-python"])


def test_the_package_holds_every_file_that_it_is_made_of(tmp_path: Path) -> None:
    """Pages, encoders, migrations: a wheel made of what is sent, without an index."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is absent")
    source = tmp_path / "source"
    paths = sent()
    for path in paths:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, source / path)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert {path for path in paths if path.split("/")[0] in ("model", "index", "service", "migrations")} <= held


def test_it_runs_on_a_read_only_root_file_system_as_another_user(tmp_path: Path) -> None:
    """Only the data folder and /tmp can be written to; what docker's health check calls finds it alive."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is absent")
    port = free_port()
    # What a test makes lies under /tmp, which is empty in there: other mounts come on top.
    write_tiny_checkpoint(tmp_path / "encoders")
    url = Settings(data_dir=tmp_path / "data").catalog_url
    migrate(url)
    inside = {"ALTA_DATA_DIR": str(tmp_path / "data"), "ALTA_MODEL_PATH": str(tmp_path / "encoders")}
    inside |= {"ALTA_HOST": "127.0.0.1", "ALTA_PORT": str(port), "HOME": "/tmp", "PATH": os.environ["PATH"]}
    inside |= {"PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    box = ["bwrap", "--ro-bind", "/", "/", "--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev", "--die-with-parent"]
    box += ["--ro-bind", str(ROOT), str(ROOT), "--ro-bind", str(tmp_path / "encoders"), str(tmp_path / "encoders")]
    box += ["--bind", str(tmp_path / "data"), str(tmp_path / "data"), "--chdir", str(tmp_path / "data")]
    box += ["--unshare-user", "--unshare-pid", "--uid", "10001", "--gid", "10001", "--clearenv"]
    box += [word for name, value in inside.items() for word in ("--setenv", name, value)]
    if subprocess.run([*box, "true"], capture_output=True, check=False).returncode:
        pytest.skip("bubblewrap may not make namespaces here")
    alta = [sys.executable, "-c", "from service.cli import main; main()"]
    refused = subprocess.run(
        [*box, "sh", "-c", "touch /written || touch $HOME/ok"], capture_output=True, text=True, check=True
    )
    assert "Read-only file system" in refused.stderr
    with (tmp_path / "log").open("w") as log:
        service = subprocess.Popen([*box, *alta, "serve"], stderr=log)
    try:
        until(lambda: service.poll() is not None or answers(f"http://127.0.0.1:{port}"), "the service answers")
        assert service.poll() is None, (tmp_path / "log").read_text()
        command = [sys.executable, *health_check()[1:]]
        assert subprocess.run(command, env={"ALTA_PORT": str(port)}, check=False).returncode == 0
        assert subprocess.run(command, env={"ALTA_PORT": "1"}, capture_output=True, check=False).returncode == 1
    finally:
        service.terminate()
        service.wait()
