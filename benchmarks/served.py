"""``alta serve`` as a process of its own on a small simulated archive, for benchmarks."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from index import build_generation, embed_pending, ingest_folder, migrate, open_catalog
from model.encoder import StudyEncoder
from model.simulation import write_cohort

__all__ = ["Server", "fill_archive", "free_port", "process_running", "serving"]

READY_SECONDS = 180.0


class Server:
    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port

    @property
    def memory_mb(self) -> float:
        """Proportional set size of the server and the processes it started."""
        total = 0
        for pid in (self.process.pid, *_descendants(self.process.pid)):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total / 1024

    @property
    def processor_s(self) -> tuple[float, float]:
        """Processor time so far: of the server itself, of the processes it started."""
        return _processor_s(self.process.pid), sum(map(_processor_s, _descendants(self.process.pid)))


def fill_archive(folder: Path, encoder: StudyEncoder, model: Path, studies: int) -> None:
    """Simulated studies, embedded and indexed with ``encoder``, whose folder is ``model``."""
    url = f"sqlite:///{folder / 'alta.db'}"
    write_cohort(5, studies, folder / "archive")
    migrate(url)
    catalog = open_catalog(url)
    ingest_folder(catalog, folder / "archive" / "dicom", folder / "archive" / "reports.csv")
    embed_pending(catalog, encoder)
    build_generation(catalog, folder / "generations", encoder.fingerprint, model_path=str(model))
    catalog.close()


@contextmanager
def serving(folder: Path, model: Path, settings: Mapping[str, str]) -> Iterator[Server]:
    """settings: of the environment, beside folder, model and port. The log is in ``folder / "serve.log"``."""
    port = free_port()
    own = {"ALTA_DATA_DIR": str(folder), "ALTA_MODEL_PATH": str(model), "ALTA_PORT": str(port)}
    command = [sys.executable, "-c", "from service.cli import main; main()", "serve"]
    with process_running(command, port, "/readyz", folder / "serve.log", own | dict(settings)) as process:
        yield Server(process, port)


@contextmanager
def process_running(
    command: Sequence[str], port: int, ready: str, log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A server process from the moment its path ``ready`` answers 200."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + READY_SECONDS
        while not _answers(f"http://127.0.0.1:{port}{ready}"):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server did not come up: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _descendants(pid: int) -> list[int]:
    children = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += [int(child) for child in (task / "children").read_text().split()]
    return children + [below for child in children for below in _descendants(child)]


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
