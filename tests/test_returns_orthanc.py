"""The whole way with a real PACS: stored in Orthanc, sent on to us by its script, embedded, searched, and the report
is in Orthanc under the same study; Orthanc may send that on to us as well, and nothing goes round in circles."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import sqlalchemy as sa

from index import Catalog, ingest_received
from index.listeners.storage_scp import StorageScp
from index.returns.listing import list_returns
from index.tables import Instance, Report
from model.simulation.cohort import simulate_studies
from model.simulation.dicom import write_dicom
from tests.peers import Orthanc, free_port
from tests.returning import Returning, returning, rows, sr_route
from tests.test_returns_documents import complaints

ROOT = Path(__file__).parents[1]
EVERYTHING = "function OnStoredInstance(instance, tags, metadata, origin) SendToModality(instance, 'alta') end"


def documented_script() -> str:
    """The Lua script of docs/integrations.md."""
    (script,) = re.findall(r"```lua\n(.*?)```", (ROOT / "docs/integrations.md").read_text(), re.DOTALL)
    return str(script)


def until(there: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What ``there`` gives, once it gives something: a PACS works in its own time."""
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        if found := there():
            return found
        sleep(0.05)
    raise AssertionError("it did not happen in time")


@pytest.fixture
def routing(orthanc: Orthanc) -> Iterator[Callable[[str, int], None]]:
    """Orthanc runs a script for what it stores, and knows us as `alta` on a port."""

    def route(script: str, port: int) -> None:
        orthanc.call("PUT", "/modalities/alta", json={"AET": "ALTA", "Host": "127.0.0.1", "Port": port})
        orthanc.call("POST", "/tools/execute-script", content=script)

    yield route
    orthanc.call("POST", "/tools/execute-script", content="OnStoredInstance = nil")


@pytest.fixture
def world(sqlite_catalog: Catalog, tmp_path: Path) -> Returning:
    return returning(sqlite_catalog, tmp_path / "data")


@pytest.fixture
def listening(world: Returning) -> Iterator[int]:
    """Our C-STORE door for Orthanc: its port."""
    scp = StorageScp(world.store, allowed=["ORTHANC"])
    yield scp.start(port=0)
    scp.stop(patience=0)


def chest_study(folder: Path) -> tuple[str, list[Path]]:
    """A simulated study with a frontal image: its UID and files."""
    study = next(study for study, _ in simulate_studies(5, 20) if len(study.views) == 2)
    return study.study_instance_uid, write_dicom(study, folder, size=256)


def reports_in(orthanc: Orthanc, study: str) -> list[str]:
    """Ids in Orthanc of the structured reports of a study."""
    query = {"Level": "Instance", "Query": {"StudyInstanceUID": study, "Modality": "SR"}}
    return list(orthanc.call("POST", "/tools/find", content=json.dumps(query)) or [])


def take_in(world: Returning, objects: int) -> None:
    """What Orthanc sends, once all of it is there."""
    until(lambda: len(world.store.waiting()) >= objects)
    ingest_received(world.catalog, world.store, workers=0)


@pytest.mark.parametrize("back", ["c-store", "stow"])
def test_the_report_of_a_study_that_orthanc_sent_is_found_in_orthanc(
    world: Returning,
    orthanc: Orthanc,
    listening: int,
    routing: Callable[[str, int], None],
    tmp_path: Path,
    back: str,
) -> None:
    routing(documented_script(), listening)
    to = f"dicom://ORTHANC@127.0.0.1:{orthanc.dicom_port}" if back == "c-store" else orthanc.dicomweb_url
    route = sr_route(to)
    sender = world.sender(route)
    study, files = chest_study(tmp_path)
    orthanc.upload(*files)
    take_in(world, len(files))
    world.embed()
    assert sender.send_due(route) is True, rows(world.catalog)[0].last_error
    (report,) = reports_in(orthanc, study)
    document = tmp_path / "sr.dcm"
    document.write_bytes(orthanc.call("GET", f"/instances/{report}/file"))
    tags = orthanc.call("GET", f"/instances/{report}/simplified-tags")
    assert tags["StudyInstanceUID"] == study and tags["VerificationFlag"] == "UNVERIFIED"
    assert len(orthanc.call("GET", "/studies")) == 1 and len(orthanc.call("GET", "/patients")) == 1
    assert complaints(document) == []
    assert sender.send_due(route) is None
    assert [one.state for one in list_returns(world.catalog)] == ["sent"]


def test_a_pacs_that_sends_everything_on_makes_no_circle(
    world: Returning, orthanc: Orthanc, listening: int, routing: Callable[[str, int], None], tmp_path: Path
) -> None:
    routing(EVERYTHING, listening)
    route = sr_route(f"dicom://ORTHANC@127.0.0.1:{orthanc.dicom_port}")
    sender = world.sender(route)
    study, files = chest_study(tmp_path)
    orthanc.upload(*files)
    take_in(world, len(files))
    world.embed()
    assert sender.send_due(route) is True
    take_in(world, 1)  # the report, back from Orthanc
    world.embed()
    with world.catalog.session() as session:
        reasons = session.scalars(sa.select(Instance.reason).where(Instance.reason.is_not(None))).all()
        assert reasons == ["own-result"]
        assert session.scalars(sa.select(Report)).all() == []
    assert sender.send_due(route) is None and len(reports_in(orthanc, study)) == 1


@pytest.mark.slow
def test_the_commands_of_the_documentation_do_it_with_the_demo_encoders(
    orthanc: Orthanc, routing: Callable[[str, int], None], tmp_path: Path
) -> None:
    port = free_port()
    route = sr_route(f"dicom://ORTHANC@127.0.0.1:{orthanc.dicom_port}").model_dump(mode="json")
    environment = os.environ | {
        "ALTA_DATA_DIR": str(tmp_path / "data"),
        "ALTA_MIN_FREE_MB": "0",
        "ALTA_RETURN_QUIET_S": "1",
        "ALTA_RETURN_ROUTES": json.dumps([route]),
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("ALTA_DATABASE_URL", None)

    def alta(*arguments: str) -> "subprocess.Popen[bytes]":
        command = "import sys; from service.cli import main; sys.argv = ['alta', *sys.argv[1:]]; main()"
        return subprocess.Popen([sys.executable, "-c", command, *arguments], env=environment, cwd=ROOT)

    old = tmp_path / "old"
    for study, _ in simulate_studies(6, 12):
        write_dicom(study, old, size=256)
    for command in (["db", "upgrade"], ["ingest", str(old)], ["embed"], ["index", "build"]):
        assert alta(*command).wait(300) == 0
    running = [
        alta("receive", "dicom", "--allow", "ORTHANC", "--port", str(port)),
        alta("worker", "--watch", "--workers", "0"),
    ]
    try:
        study, files = chest_study(tmp_path / "new")
        routing(documented_script(), port)
        until(lambda: orthanc.http.post("/modalities/alta/echo", json={}).is_success)
        orthanc.upload(*files)
        (report,) = until(lambda: reports_in(orthanc, study), 180)
        document = tmp_path / "sr.dcm"
        document.write_bytes(orthanc.call("GET", f"/instances/{report}/file"))
        assert complaints(document) == []
        listing = alta("returns", "list")
        assert listing.wait(60) == 0
    finally:
        for process in running:
            process.terminate()
        assert [process.wait(90) for process in running] == [0, 0]
