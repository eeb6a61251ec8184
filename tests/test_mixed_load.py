"""Ten minutes of everything at once: nothing that was acknowledged is lost, and no answer is wrong.

`python -m pytest -m slow tests/test_mixed_load.py`; ALTA_TEST_MINUTES gives another length.
"""

import contextlib
import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
import torch

from index import Catalog, open_catalog
from index.tables import Job
from model.alta_encoder import load_encoder
from model.checkpoint import load_checkpoint, save_checkpoint
from model.simulation import SimulatedStudy, simulate_patient, write_dicom
from service.settings import DEMO_ENCODERS
from tests.conftest import postgres_folder
from tests.mixed_load import Arrival, Load
from tests.mixed_load_verdict import Moments, judge_failures, judge_jobs, judge_searches, judge_writes
from tests.restarting_postgres import Server

SECONDS = 60 * float(os.environ.get("ALTA_TEST_MINUTES", "10"))
BASE_STUDIES = 60
FILM_SIZE = 256  # px: the load is what is tested, not the decoders
ALTA = (sys.executable, "-c", "from service.cli import main; main()")


class Installation:
    """`alta serve` and workers, as an administrator runs them, on one PostgreSQL database."""

    def __init__(self, folder: Path, url: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.address = f"http://127.0.0.1:{self.port}"
        self._folder, self.url = folder, url
        self._environment = os.environ | {
            "ALTA_DATA_DIR": str(folder / "data"),
            "ALTA_DATABASE_URL": url,
            "ALTA_PORT": str(self.port),
            "ALTA_RECEIVE": "1",
            "ALTA_MIN_FREE_MB": "0",
            "ALTA_DTYPE": "float32",  # what the answers are judged by
            "OMP_NUM_THREADS": "1",
        }
        self.running: list[subprocess.Popen[bytes]] = []

    def run(self, *arguments: str) -> str:
        """A command to its end. Returns what it printed."""
        command = (*ALTA, *arguments)
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *arguments: str, encoders: Path = DEMO_ENCODERS) -> subprocess.Popen[bytes]:
        environment = self._environment | {"ALTA_MODEL_PATH": str(encoders)}
        with (self._folder / f"{len(self.running)}-{arguments[0]}.log").open("wb") as log:
            process = subprocess.Popen((*ALTA, *arguments), env=environment, stdout=log, stderr=log)
        self.running.append(process)
        return process

    def wait_until_ready(self) -> None:
        deadline = time.time() + 120
        while time.time() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.address}/readyz", timeout=30).status_code == 200:
                    return
            time.sleep(0.5)
        raise AssertionError("the service did not become ready:\n" + self.logs())

    def logs(self) -> str:
        return "\n".join(f"{path.name}\n{path.read_text()[-4000:]}" for path in sorted(self._folder.glob("*.log")))

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.terminate()
        for process in self.running:
            process.wait(60)


@pytest.fixture
def server() -> Iterator[Server]:
    with postgres_folder() as folder:
        started = Server(folder)
        yield started
        started.cleanup()


@pytest.fixture
def installation(tmp_path: Path, server: Server) -> Iterator[Installation]:
    installed = Installation(tmp_path, server.database())
    yield installed
    installed.close()


@pytest.mark.slow
def test_ten_minutes_of_everything_at_once(tmp_path: Path, server: Server, installation: Installation) -> None:
    first = _studies(1, BASE_STUDIES)
    for study in first:
        write_dicom(study, tmp_path / "archive", FILM_SIZE)
    _write_reports(tmp_path / "reports.csv", first)
    installation.run("ingest", str(tmp_path / "archive"), "--reports", str(tmp_path / "reports.csv"))
    installation.run("embed")
    installation.run("index", "build")
    coming = [_arrival(study, tmp_path / "coming") for study in _studies(2, int(SECONDS / 2))]

    paths = (DEMO_ENCODERS, _other_encoders(tmp_path / "encoders"))
    encoders = {encoder.fingerprint: encoder for encoder in (load_encoder(path, "cpu", "float32") for path in paths)}
    service = installation.start("serve")
    installation.wait_until_ready()
    load = Load(installation.address, [study.study_instance_uid for study in first], coming)
    load.start()
    try:
        moments = _disturb(server, installation, load, paths[1], list(encoders)[1])
    finally:
        load.stop()
    assert service.poll() is None, installation.logs()
    assert load.broken == []
    catalog = open_catalog(installation.url)
    try:
        _wait_for_jobs(catalog)
        with httpx.Client(base_url=installation.address, timeout=60) as client:
            load.post_job(client, "embed")  # what came last
        _wait_for_jobs(catalog)
        judge_writes(catalog, load)
        judge_jobs(catalog, load)
        judged = judge_searches(catalog, load, encoders)
    finally:
        catalog.close()
    judge_failures(load, moments)
    installation.run("audit", "verify")
    removed = sum(ended < float("inf") for ended in load.removed.values())
    print(
        f"\n{len(load.searches)} searches ({judged} places compared), {len(load.sent)} studies and {len(load.reported)}"
        f" reports taken in, {removed} removed, {len(load.jobs)} jobs;"
        f" failures {dict(Counter((failure.what, failure.status) for failure in load.failures))}"
    )


def _disturb(server: Server, installation: Installation, load: Load, other: Path, expected: str) -> Moments:
    """A worker is killed while it works, the archive moves to other encoders, the database restarts."""
    begun = time.time()
    doomed = installation.start("worker")
    _sleep_until(begun + 0.15 * SECONDS)
    installation.start("worker")
    catalog = open_catalog(installation.url)
    try:
        _wait_for(lambda: _works(catalog, doomed), "the first worker never had a job")
        doomed.send_signal(signal.SIGKILL)
        doomed.wait()
        killed = time.time()
        _sleep_until(begun + 0.35 * SECONDS)
        # The other encoders' worker embeds the archive anew and switches; from then on it embeds what comes.
        old = installation.running[-1]
        installation.start("worker", encoders=other)
        with httpx.Client(base_url=installation.address, timeout=60) as client:
            assert load.post_job(client, "reindex") is not None, load.failures[-1]
        old.terminate()
        old.wait(60)
        _wait_for(lambda: any(s.fingerprint == expected for s in load.searches[-20:]), "the reindex never switched")
        switched = time.time()
    finally:
        catalog.close()
    _sleep_until(begun + 0.7 * SECONDS)
    stopped = time.time()
    server.stop("immediate")  # as a crash
    time.sleep(3)
    server.start()
    restarted = time.time()
    _sleep_until(begun + SECONDS)
    return Moments(killed, switched, stopped, restarted)


def _studies(seed: int, count: int) -> list[SimulatedStudy]:
    """One study a patient: a prior that comes late would change what was embedded before."""
    return [simulate_patient(seed, number).studies[0] for number in range(count)]


def _arrival(study: SimulatedStudy, folder: Path) -> Arrival:
    return Arrival(study.study_instance_uid, tuple(write_dicom(study, folder, FILM_SIZE)), study.report.findings)


def _write_reports(path: Path, studies: list[SimulatedStudy]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("study_instance_uid", "findings"))
        writer.writerows((study.study_instance_uid, study.report.findings) for study in studies)


def _other_encoders(folder: Path) -> Path:
    """The demo encoders, a little changed: other vectors, another fingerprint."""
    checkpoint = load_checkpoint(DEMO_ENCODERS)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in checkpoint.model.image_encoder.projection_head.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    save_checkpoint(
        folder, checkpoint.model, checkpoint.tokenizer.vocabulary, checkpoint.transform, checkpoint.provenance
    )
    return folder


def _wait_for_jobs(catalog: Catalog) -> None:
    def ended() -> bool:
        with catalog.session() as session:
            waiting = sa.select(sa.func.count()).where(Job.state.in_(("queued", "running")))
            return not session.scalar(waiting)

    _wait_for(ended, "jobs never ended")


def _works(catalog: Catalog, worker: subprocess.Popen[bytes]) -> bool:
    with catalog.session() as session:
        names = session.scalars(sa.select(Job.worker).where(Job.state == "running"))
        return any(str(worker.pid) in (name or "") for name in names)


def _wait_for(happened: Callable[[], bool], otherwise: str, seconds: float = 300) -> None:
    deadline = time.time() + seconds
    while not happened():
        assert time.time() < deadline, otherwise
        time.sleep(0.02)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))
