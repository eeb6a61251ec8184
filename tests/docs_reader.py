"""A reader who types what the documentation says, page by page, beside a small archive of simulated patients.

Each page begins with a copy of that archive, in ``data`` where the reader stands, and its service. What names a place
of the reader's own stands for something here: ``SUBSTITUTES``, and the files that ``lay_out`` writes.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pydicom
from PIL import Image

from model.image import read_radiograph
from model.simulation import simulate_studies, write_cohort, write_dicom
from tests.documented import ROOT, Block
from tests.live_service import until
from tests.peers import free_port
from tests.report_samples import Sample, fhir, hl7
from tests.tiny import write_tiny_checkpoint
from tests.warm_alta import write_program

__all__ = ["SUBSTITUTES", "Home", "Reader", "make_home", "reader_of", "substituted"]

STUDIES = 24
PATIENCE = 180  # seconds for a block, on a busy host
STAYS = re.compile(
    r"^((?:[A-Z_]+=\S+ )?)(alta (?:serve|receive \w+|embed --watch|worker(?! --kind \w+ --once)))\b", re.M
)
PREAMBLE = """
stays() {  # a program that a reader leaves running in another terminal, until the end of the page
    if [ "$2" = serve ] && [ -s "$STATE/serving" ]; then
        kill "$(cat "$STATE/serving")"
        while kill -0 "$(cat "$STATE/serving")" 2>/dev/null; do sleep 0.05; done
    fi
    local said; said=$(mktemp "$STATE/said.XXXXXX")
    "$@" >"$said" 2>&1 &
    local process=$!
    echo "$process" >>"$STATE/running"
    if [ "$2" = serve ]; then echo "$process" >"$STATE/serving"; fi
    until case "$2" in
        serve) command curl -sf "$SERVICE/livez" >/dev/null ;;
        *) grep -qE "Listening|Waiting|Embedding" "$said" ;;
    esac; do
        kill -0 "$process" || { cat "$said" >&2; return 1; }
        sleep 0.1
    done
}
curl() {
    command curl --silent --show-error --fail-with-body --write-out '%{stderr}%{http_code} of %{url_effective}\\n' "$@"
}
"""


@dataclass(frozen=True)
class Home:
    """What every reader begins with: the archive, embedded and indexed, and its files."""

    folder: Path
    programs: Path
    studies: list[str]  # StudyInstanceUIDs; the first has a lateral view


@dataclass
class Reader:
    folder: Path  # where they stand
    state: Path
    url: str
    environment: dict[str, str]
    studies: list[str]
    dicom_port: int
    hl7_port: int

    def job(self) -> str:
        """The id of a job that was asked for."""
        asked = httpx.post(f"{self.url}/v1/jobs", json={"kind": "verify"})
        return str(asked.raise_for_status().json()["id"])

    def cursor(self) -> str:
        found = httpx.post(f"{self.url}/v1/search", data={"text": "Effusion.", "top_k": "2"}, timeout=60)
        return str(found.raise_for_status().json()["next_cursor"])

    def run(self, block: Block) -> None:
        """Type it as it stands. AssertionError with all it said, unless every command succeeds, each curl with 2xx."""
        suffix, command = {"sh": (".sh", ["bash", "-euo", "pipefail"]), "python": (".py", [sys.executable])}[
            block.language
        ]
        text = substituted(block.text, self)
        script = self.state / f"block{suffix}"
        script.write_text(text if block.language == "python" else PREAMBLE + STAYS.sub(r"\1stays \2", text))
        with open(self.state / "output", "wb") as output:  # a pipe would stay open as long as what stays
            process = subprocess.Popen(
                [*command, str(script)],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                process.communicate(b"y\n" * 9, timeout=PATIENCE)  # who is asked says yes
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        said = (self.state / "output").read_text(errors="replace")
        said += "".join(path.read_text(errors="replace") for path in self.state.glob("said.*"))
        assert process.returncode == 0, f"{block} ended with {process.returncode}:\n{text}\n{said[-4000:]}"
        statuses = re.findall(r"^(\d{3}) of ", said, flags=re.M)
        assert all(status.startswith("2") for status in statuses), f"{block}:\n{text}\n{said[-4000:]}"
        assert "Traceback" not in said, f"{block}:\n{said[-4000:]}"

    def begin(self, page: str) -> None:
        """The service, and what the page takes for granted."""
        self.run(Block(f"before {page}", 0, "sh", "alta serve\n" + BEFORE.get(page, ""), ""))

    def leave(self) -> None:
        """End what stays, and wait for it."""
        running = self.state / "running"
        processes = [int(line) for line in running.read_text().split()] if running.exists() else []
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        for process in processes:
            until(lambda process=process: not _runs(process), "a program ends on SIGTERM")


# What stands in the documentation, and what it is here. Each has to be met somewhere.
SUBSTITUTES: Mapping[str, Callable[[Reader], str]] = {
    r"http://(?:localhost|127\.0\.0\.1):8000": lambda reader: reader.url,
    r"(?<![\d.])1\.2\.3(?![\d.])": lambda reader: reader.studies[1],
    r"(?<![\d.])1\.2\.4(?![\d.])": lambda reader: reader.studies[0],
    r"(?<![\d.])1\.2\.840\.1(?![\d.])": lambda reader: reader.studies[2],
    r"/path/to/dicom": lambda reader: str((reader.folder / "archive").resolve() / "dicom"),
    r"9f2c0d5e4b7a4d0c8f1e2a3b4c5d6e7f": lambda reader: reader.job(),
    r'"cursor": "…"': lambda reader: json.dumps({"cursor": reader.cursor()})[1:-1],
    r'api_key="\.\.\."': lambda reader: "api_key=None",
    # The key that is shown is the one that the next line sends.
    r"^(alta keys create .*?)( +#.*)?$(?=\n.*\$ALTA_KEY)": lambda reader: (
        r"ALTA_KEY=$(\1 | grep -oE 'alta_\S+' | tail -n 1)"
    ),
    r"alta receive dicom": lambda reader: f"alta receive dicom --port {reader.dicom_port}",
    r"\b11112\b": lambda reader: str(reader.dicom_port),
    r"alta receive hl7": lambda reader: f"alta receive hl7 --port {reader.hl7_port}",
    r"--port 2575": lambda reader: f"--port {reader.hl7_port}",
    r"--host 0\.0\.0\.0": lambda reader: "--host 127.0.0.1",
}


# What a page takes for granted.
BEFORE = {
    "clients/python/README.md": "alta worker\n",
    "docs/training.md": """alta data prepare archive --output table
python3 -c 'p = "table/studies.csv"; head, *rows = open(p).readlines(); open(p, "w").writelines([head, *rows * 9])'
""",
}


def substituted(text: str, reader: Reader) -> str:
    for pattern, substitute in SUBSTITUTES.items():
        if re.search(pattern, text, flags=re.M):
            here = substitute(reader)
            text = re.sub(
                pattern,
                lambda found, here=here: here.replace(r"\1", found[1] if found.lastindex else ""),
                text,
                flags=re.M,
            )
    return text


@contextmanager
def make_home(folder: Path) -> Iterator[Home]:
    """Made once: the archive of the pages, as `alta` itself makes it."""
    programs = folder / "programs"
    programs.mkdir()
    _link_programs(programs)
    write_cohort(7, STUDIES, folder / "archive", size=256)
    _identify_one(folder / "archive" / "dicom")
    studies = _studies(folder / "archive" / "dicom")
    stands = folder / "stands"
    stands.mkdir()
    lay_out(stands, folder / "archive")
    environment = _environment(stands, programs)
    address = folder / "alta.socket"
    warm = subprocess.Popen(
        [sys.executable, "-m", "tests.warm_alta", str(address)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
    )
    try:
        assert warm.stdout is not None and warm.stdout.readline() == b"ready\n"
        write_program(programs / "alta", address)
        for command in (f"ingest {folder / 'archive' / 'dicom'} --reports reports.csv", "embed", "index build"):
            subprocess.run(
                [programs / "alta", *command.split()], cwd=stands, env=environment, check=True, capture_output=True
            )
        yield Home(folder, programs, studies)
    finally:
        warm.kill()
        warm.communicate()


@contextmanager
def reader_of(home: Home, folder: Path, page: str) -> Iterator[Reader]:
    """A reader at the beginning of a page, with a service."""
    state = folder / "state"
    state.mkdir(parents=True)
    stands = folder / "stands"
    shutil.copytree(home.folder / "stands", stands)
    (stands / "archive").symlink_to(home.folder / "archive")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**_environment(stands, home.programs), "ALTA_PORT": str(port), "STATE": str(state), "SERVICE": url}
    reader = Reader(stands, state, url, environment, home.studies, free_port(), free_port())
    try:
        reader.begin(page)
        yield reader
    finally:
        reader.leave()


def lay_out(folder: Path, archive: Path) -> None:
    """The reader's own files, and programs that others than us install."""
    study, prior = next(pair for pair in simulate_studies(8, 2000) if pair[0].has_lateral and pair[1] is not None)
    frontal, lateral = write_dicom(study, folder / "new", size=256)
    assert prior is not None
    before = write_dicom(prior, folder / "new", size=256)[0]
    for name, path in {"pa": frontal, "lateral": lateral, "film": frontal, "now": frontal, "before": before}.items():
        shutil.copy(path, folder / f"{name}.dcm")
    for name in ("a", "b"):
        shutil.copy(before, folder / f"{name}.dcm")
    Image.fromarray((read_radiograph(frontal).pixels * 255).astype("uint8")).save(folder / "film.png")
    shutil.copy(archive / "reports.csv", folder)
    sample = Sample()
    (folder / "report.json").write_bytes(fhir(sample))
    (folder / "report.hl7").write_bytes(hl7(sample))
    write_tiny_checkpoint(folder / "encoders" / "new")
    write_tiny_checkpoint(folder / "runs" / "adapted")
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").touch()  # `alta` is found already


def _identify_one(archive: Path) -> None:
    """The patient whom the pages forget."""
    path = sorted(archive.rglob("*.dcm"))[-1]
    for file in path.parent.glob("*.dcm"):
        dataset = pydicom.dcmread(file)
        dataset.PatientID, dataset.IssuerOfPatientID = "4711", "NORTH"
        dataset.save_as(file)


def _studies(archive: Path) -> list[str]:
    views: dict[str, set[str]] = {}
    for path in sorted(archive.rglob("*.dcm")):
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        views.setdefault(str(dataset.StudyInstanceUID), set()).add(str(dataset.get("ViewPosition", "")))
    return sorted(views, key=lambda study: -len(views[study]))


def _link_programs(programs: Path) -> None:
    """Python and what its packages install. Not those named as dcmtk's programs are."""
    for name, call in {
        "python3": f'exec {sys.executable} "$@"',
        "mllp_send": f'exec {sys.executable} -m hl7.client "$@"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{call}\n")
        (programs / name).chmod(0o755)


def _environment(folder: Path, programs: Path) -> dict[str, str]:
    return {
        "PATH": f"{programs}:/usr/bin:/bin",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        "ALTA_RECEIVE": "1",
        "ALTA_MIN_FREE_MB": "0",
        "ALTA_DECODE_WORKERS": "0",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'clients' / 'python'}",
    }


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
