"""Real servers and tools that others use: an Orthanc of its own for each test process, and dcmtk's programs.

``tests.conftest`` loads the fixtures; a test that asks for one that is not installed is skipped and says why.
"""

import io
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset

__all__ = ["Dcmtk", "Orthanc", "dcmtk", "file_bytes", "free_port", "orthanc", "orthanc_process"]

LOOPBACK = "127.0.0.1"
START_SECONDS = 60  # of which a quiet machine needs one
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")

Dcmtk = Callable[..., "subprocess.CompletedProcess[str]"]


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc, which answers C-ECHO, C-STORE, C-FIND, C-MOVE and C-GET from anybody, and DICOMweb."""

    http: httpx.Client  # its REST interface; closed by the fixture
    url: str
    dicom_port: int
    ae_title: str = "ORTHANC"
    host: str = LOOPBACK

    @property
    def dicomweb_url(self) -> str:
        return f"{self.url}/dicom-web"

    def upload(self, *objects: Dataset | bytes | Path) -> list[str]:
        """Store objects: datasets with file meta information, files, or their bytes. Their ids inside Orthanc."""
        return [self.call("POST", "/instances", content=file_bytes(item))["ID"] for item in objects]

    def sop_instance_uids(self) -> set[str]:
        """What it holds."""
        instances = self.call("GET", "/instances?expand")
        return {instance["MainDicomTags"]["SOPInstanceUID"] for instance in instances}

    def delete(self, level: str, uid: str) -> None:
        """Delete a ``Patient``, ``Study``, ``Series`` or ``Instance`` by its Patient ID or UID."""
        found = self.call("POST", "/tools/lookup", content=uid)
        for item in found:
            if item["Type"] == level:
                self.call("DELETE", item["Path"])

    def know(self, ae_title: str, port: int, host: str = LOOPBACK) -> None:
        """Register a DICOM node, as the target of C-MOVE or of ``send``, under its AE title."""
        self.call("PUT", f"/modalities/{ae_title}", json={"AET": ae_title, "Host": host, "Port": port})

    def send(self, ae_title: str, *ids: str) -> Any:
        """C-STORE instances (ids inside Orthanc) to a node it knows; returns when they are stored there."""
        return self.call("POST", f"/modalities/{ae_title}/store", json={"Resources": list(ids), "Synchronous": True})

    def clear(self) -> None:
        """As it was when it started: no patient, no node."""
        for patient in self.call("GET", "/patients"):
            self.call("DELETE", f"/patients/{patient}")
        for name in self.call("GET", "/modalities"):
            self.call("DELETE", f"/modalities/{name}")

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """One call of Orthanc's REST interface. Raises httpx.HTTPStatusError."""
        response = self.http.request(method, path, **arguments)
        response.raise_for_status()
        return response.json() if response.content[:1] in (b"{", b"[") else response.content


@pytest.fixture(scope="session")
def orthanc_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """One Orthanc a test process; tests take ``orthanc``, which is empty."""
    program = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None or not DICOMWEB_PLUGIN.exists():
        pytest.skip("Orthanc with its DICOMweb plugin is absent (Debian packages orthanc, orthanc-dicomweb)")
    folder = tmp_path_factory.mktemp("orthanc")
    process, http_port, dicom_port = _start_orthanc(program, folder)
    url = f"http://{LOOPBACK}:{http_port}"
    try:
        alone = httpx.Limits(max_keepalive_connections=0)  # Orthanc closes those that idle, when it likes
        with httpx.Client(base_url=url, timeout=30, trust_env=False, limits=alone) as http:
            yield Orthanc(http, url, dicom_port)
    finally:
        process.kill()  # its data are the test's: nothing to save
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def orthanc(orthanc_process: Orthanc) -> Orthanc:
    """An Orthanc that holds nothing and knows nobody."""
    orthanc_process.clear()
    return orthanc_process


@pytest.fixture
def dcmtk() -> Dcmtk:
    """``dcmtk("storescu", "127.0.0.1", port, file)`` runs a program of dcmtk, whatever its exit code.

    Its output, standard error included, is ``.stdout``. Skips where dcmtk is not installed.
    """

    def run(program: str, *arguments: object, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
        found = shutil.which(program)
        if found is None:
            pytest.skip(f"{program} is absent (Debian package dcmtk)")
        return subprocess.run(
            [found, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )

    return run


def _start_orthanc(program: str, folder: Path) -> "tuple[subprocess.Popen[str], int, int]":
    for _ in range(5):
        http_port, dicom_port = free_port(), free_port()
        (folder / "orthanc.json").write_text(json.dumps(_configuration(folder, http_port, dicom_port)))
        process = subprocess.Popen(
            [*_ending_with_us(), program, str(folder / "orthanc.json")],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        output = _until_started(process)
        if output is None:
            return process, http_port, dicom_port
        process.kill()
        process.wait()
        if "port" not in output:  # somebody else may have taken a port in the meantime
            break
    raise RuntimeError(f"Orthanc did not start:\n{output}")


def _until_started(process: "subprocess.Popen[str]") -> str | None:
    """None once Orthanc says that it has started, else what it said instead. Its log is read to the end behind us."""
    lines: list[str] = []
    settled = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        with process.stderr as log:
            for line in log:
                lines.append(line)
                if "Orthanc has started" in line:
                    settled.set()
        settled.set()

    threading.Thread(target=read, daemon=True).start()
    settled.wait(START_SECONDS)
    return None if any("Orthanc has started" in line for line in lines) else "".join(lines)


def _ending_with_us() -> list[str]:
    """A test process that is killed takes its server along."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def _configuration(folder: Path, http_port: int, dicom_port: int) -> Mapping[str, Any]:
    storage = str(folder / "storage")
    return {
        "Name": "alta-tests",
        "StorageDirectory": storage,
        "IndexDirectory": storage,
        "Plugins": [str(DICOMWEB_PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False, "Host": LOOPBACK, "Ssl": False},
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,  # it listens on every address; this answers 127.0.0.1 alone
        "AuthenticationEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomPort": dicom_port,
        **{f"DicomAlwaysAllow{name}": True for name in ("Echo", "Store", "Find", "Get", "Move")},
        "DicomCheckCalledAet": True,
        "SynchronousCMove": True,
        "StorageAccessOnFind": "Never",
        "OverwriteInstances": True,
        "HttpThreadsCount": 4,
        "ConcurrentJobs": 1,
        "JobsHistorySize": 1,
        "SaveJobs": False,
        "DicomScuTimeout": 10,
        "DicomScpTimeout": 10,
        "ExecuteLuaEnabled": True,
    }


def file_bytes(item: Dataset | bytes | Path) -> bytes:
    """A DICOM object as a file (PS3.10)."""
    if isinstance(item, bytes):
        return item
    if isinstance(item, Path):
        return item.read_bytes()
    buffer = io.BytesIO()
    item.save_as(buffer, enforce_file_format=True)  # with a preamble: Orthanc cannot give back an object without
    return buffer.getvalue()
