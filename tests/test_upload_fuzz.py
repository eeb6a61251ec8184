"""Whatever is uploaded, the answer is a success or a problem of the client's, and the service lives on, no larger.

ALTA_TEST_SEED gives other uploads than the usual ones. Those that break the promise are kept; the failure says where.
"""

import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx
import psutil
import pytest

from service.problems import PROBLEMS
from tests.conftest import SHARED_DATA
from tests.fuzz_bases import pictures, real_files, simulated_files
from tests.fuzz_uploads import UploadCase, make_upload
from tests.live_service import process

pytest_plugins = ["tests.service_fixtures"]

SEED = int(os.environ.get("ALTA_TEST_SEED", "0"))
CLIENTS = 4
CLIENT_LEFT = 499  # no client of ours does
# A leak of a few kilobytes an upload would be tens of MiB over the thousands that are sent. What the allocator keeps
# for uploads of some MiB side by side comes and goes by about half of this.
GROWTH = 64 * 2**20
# A decoder is replaced once it has grown by a quarter of its limit of 2 GiB (``index.decoder_pool``).
DECODER = (512 + 400) * 2**20
LARGEST = 2_000_000  # bytes of a real file


@dataclass
class Sizes:
    """Memory in bytes, seen every so many uploads. service: resident. decoders: of the largest."""

    service: list[int] = field(default_factory=list)
    decoders: list[int] = field(default_factory=list)

    def look(self, pid: int) -> None:
        service = psutil.Process(pid)
        self.service.append(service.memory_info().rss)
        others = []
        for child in service.children(recursive=True):
            try:
                others.append(child.memory_info().rss)
            except psutil.NoSuchProcess:  # replaced in this moment
                continue
        self.decoders.append(max(others, default=0))

    def growth(self) -> int:
        """Of the service, from the second quarter, when everything has been used once, to the last."""
        quarter = len(self.service) // 4
        return int(median(self.service[-quarter:]) - median(self.service[quarter : 2 * quarter]))


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    simulated = simulated_files(tmp_path_factory.mktemp("simulated"))
    return {**simulated, **pictures(), **real_files(SHARED_DATA / "dicom", LARGEST)}


@pytest.fixture
def service(archive_folder: Path, tmp_path: Path) -> Iterator[tuple[int, str]]:
    """Process and URL of a service with real decoders, which takes things in, on a copy of the archive."""
    shutil.copytree(archive_folder, tmp_path / "data")
    environment = {
        **os.environ,
        "ALTA_DATA_DIR": str(tmp_path / "data"),
        "ALTA_DECODE_WORKERS": "2",
        "ALTA_RECEIVE": "1",
        "ALTA_MIN_FREE_MB": "0",
        "ALTA_REQUEST_TIMEOUT_S": "600",  # that the host is busy is no failure
        "ALTA_LOG_LEVEL": "error",
    }
    with process("tests.serve_slowly", tmp_path, environment=environment) as (started, url):
        yield started.pid, url
        assert started.poll() is None


def upload(bases: Mapping[str, bytes], service: tuple[int, str], count: int, looks: int) -> tuple[Counter[str], Sizes]:
    """(how many ended how, memory). Fails on the uploads that break the promise."""
    pid, url = service
    outcomes: Counter[str] = Counter()
    broken: list[str] = []
    sizes = Sizes()

    def send(number: int) -> tuple[int, UploadCase, httpx.Response | httpx.TransportError]:
        case = make_upload(bases, SEED, number)
        try:
            return number, case, case.send(client)
        except httpx.TransportError as error:
            return number, case, error

    with httpx.Client(base_url=url, timeout=300) as client, ThreadPoolExecutor(CLIENTS) as threads:
        each = count // looks
        for first in range(0, count, each):
            for number, case, answer in threads.map(send, range(first, min(first + each, count))):
                ending = _ending(answer)
                outcomes[ending] += 1
                if not _kept(answer):
                    broken.append(f"{_keep(case, number)}: {case.path}, {', '.join(case.done)}: {ending}")
            sizes.look(pid)
        assert broken == [], f"seed {SEED}"
        ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ok")
    assert max(sizes.decoders) < DECODER
    assert sizes.growth() < GROWTH
    return outcomes, sizes


def _kept(answer: httpx.Response | httpx.TransportError) -> bool:
    if isinstance(answer, httpx.TransportError):
        return False
    if answer.is_success or answer.headers["content-type"] == "application/dicom+json":
        return answer.status_code < 500
    if answer.status_code == CLIENT_LEFT:
        return False
    return answer.is_client_error and answer.json()["type"].rpartition("/")[2] in PROBLEMS


def _ending(answer: httpx.Response | httpx.TransportError) -> str:
    if isinstance(answer, httpx.TransportError):
        return type(answer).__name__
    kind = answer.headers.get("content-type", "")
    name = answer.json()["type"].rpartition("/")[2] if kind == "application/problem+json" else ""
    return f"{answer.status_code} {name}".strip()


def _keep(case: UploadCase, number: int) -> Path:
    kept = Path(tempfile.gettempdir()) / "alta-fuzz"
    kept.mkdir(exist_ok=True)
    path = kept / f"upload-{SEED}-{number}"
    path.write_bytes(case.body)
    return path


def test_broken_uploads_are_answered_and_the_service_lives_on(
    bases: dict[str, bytes], service: tuple[int, str]
) -> None:
    outcomes, _ = upload(bases, service, 200, looks=20)
    assert outcomes.total() == 200
    assert outcomes["200"] > 20  # some are read all the same
    assert len(outcomes) > 8  # and the others are refused for many reasons


@pytest.mark.slow
def test_ten_thousand_broken_uploads_are_answered_and_memory_stays(
    bases: dict[str, bytes], service: tuple[int, str], capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.perf_counter()
    outcomes, sizes = upload(bases, service, 10_000, looks=100)
    with capsys.disabled():
        print(f"\n10000 broken uploads of seed {SEED}, {time.perf_counter() - started:.0f} s")
        print(f"service {[size // 2**20 for size in sizes.service[::10]]} MiB, growth {sizes.growth() / 2**20:.1f} MiB")
        print(f"largest decoder {[size // 2**20 for size in sizes.decoders[::10]]} MiB")
        print(", ".join(f"{ending} {count}" for ending, count in outcomes.most_common()))
