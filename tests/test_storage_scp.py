"""What is sent by C-STORE is safe before its sender hears so, taken in once, and never believed beyond its worth."""

import contextlib
import io
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import ComputedRadiographyImageStorage, Verification  # type: ignore[attr-defined]

from index import Catalog, IngestSummary, ReceivedStore, ingest_received, open_catalog
from index.listeners.receiving import Arrivals, take_in_arrivals
from index.listeners.storage_scp import StorageScp
from index.tables import Instance, Study
from model.errors import ArchiveError, InputError
from tests.conftest import chest_dataset
from tests.peers import Dcmtk, Orthanc, file_bytes

Listen = Callable[..., int]


@pytest.fixture
def store(tmp_path: Path) -> ReceivedStore:
    return ReceivedStore(tmp_path / "received", min_free_bytes=0)


@pytest.fixture
def listen(store: ReceivedStore) -> Iterator[Listen]:
    """``listen(**settings)`` starts an SCP and gives its port."""
    started: list[StorageScp] = []

    def start(into: ReceivedStore = store, **settings: object) -> int:
        scp = StorageScp(into, **{"allowed": ["MODALITY"], **settings})  # type: ignore[arg-type]
        started.append(scp)
        return scp.start(port=0)

    yield start
    for scp in started:
        scp.stop(patience=5)


def send(port: int, *datasets: Dataset, caller: str = "MODALITY", called: str = "ALTA") -> list[int | None]:
    """The status of each C-STORE; [] when there is no association, None without an answer."""
    entity = AE(caller)
    for sop_class in {dataset.file_meta.MediaStorageSOPClassUID for dataset in datasets}:
        syntaxes = sorted({dataset.file_meta.TransferSyntaxUID for dataset in datasets})
        entity.add_requested_context(sop_class, syntaxes)
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return []
    with association.dul.socket.socket:  # which pynetdicom leaves open when the other side goes first
        answers = [association.send_c_store(dataset) for dataset in datasets]
        association.release()
    return [answer.get("Status") for answer in answers]


def associate(port: int) -> Association:
    entity = AE("MODALITY")
    entity.add_requested_context(ComputedRadiographyImageStorage, ExplicitVRLittleEndian)
    return entity.associate("127.0.0.1", port, ae_title="ALTA")


def post(association: Association, dataset: Dataset) -> None:
    """Send an object and do not wait for the answer."""
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = dataset.SOPClassUID
    request.AffectedSOPInstanceUID = dataset.SOPInstanceUID
    request.Priority = 0
    request.DataSet = io.BytesIO(_encoded(dataset))
    [context] = association.accepted_contexts
    association.dimse.send_msg(request, context.context_id)


def echo(port: int) -> int | None:
    entity = AE("MODALITY")
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", port, ae_title="ALTA")
    status = association.send_c_echo().get("Status")
    association.release()
    return status


def reasons(catalog: Catalog) -> list[str]:
    with catalog.session() as session:
        return sorted(row.reason or row.status for row in session.scalars(sa.select(Instance)))


def test_success_means_a_whole_file_on_the_disk_that_waits(store: ReceivedStore, listen: Listen) -> None:
    dataset = chest_dataset()
    assert send(listen(), dataset) == [0x0000]
    [waiting] = store.waiting()
    kept = dcmread(waiting.path)
    assert kept.PixelData == dataset.PixelData
    assert kept.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert kept.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert waiting.path.read_bytes()[:132] == bytes(128) + b"DICM"


def test_it_answers_an_echo(listen: Listen) -> None:
    assert echo(listen()) == 0x0000


def test_only_those_who_may_and_who_mean_us_can_send(store: ReceivedStore, listen: Listen) -> None:
    port = listen()
    assert send(port, chest_dataset(), caller="STRANGER") == []
    assert send(port, chest_dataset(), called="OTHER") == []
    assert store.waiting() == []
    assert send(listen(allowed=None), chest_dataset(), caller="STRANGER") == [0x0000]


def test_a_nearly_full_disk_is_said_and_nothing_is_kept(tmp_path: Path, listen: Listen) -> None:
    full = ReceivedStore(tmp_path / "full", min_free_bytes=2**62)
    assert send(listen(full), chest_dataset()) == [0xA700]
    assert full.waiting() == []


def test_the_same_object_twice_is_one_and_a_changed_one_replaces(
    catalog: Catalog, store: ReceivedStore, listen: Listen
) -> None:
    port = listen(allowed=None)
    for dataset, caller in ((chest_dataset(), "ONE"), (chest_dataset(), "TWO")):
        assert send(port, dataset, caller=caller) == [0x0000]
        ingest_received(catalog, store, workers=0)
    assert reasons(catalog) == ["accepted"]
    send(port, chest_dataset(PatientAge="062Y"))
    ingest_received(catalog, store, workers=0)
    assert reasons(catalog) == ["accepted", "superseded"]
    with catalog.session() as session:
        assert session.scalars(sa.select(Study.patient_age)).one() == 62


def test_what_the_archive_does_not_take_is_not_negotiated(store: ReceivedStore, listen: Listen) -> None:
    entity = AE("MODALITY")
    entity.add_requested_context(CTImageStorage)
    entity.add_requested_context(ComputedRadiographyImageStorage, "1.2.840.10008.1.2.4.100")  # MPEG2
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", listen(), ae_title="ALTA")
    assert [context.abstract_syntax for context in association.accepted_contexts] == [Verification]
    association.release()


def test_unusable_pixels_are_kept_and_refused_with_their_reason_later(
    sqlite_catalog: Catalog, store: ReceivedStore, listen: Listen
) -> None:
    assert send(listen(), chest_dataset(PixelData=b"\0\1" * 10)) == [0x0000]
    assert ingest_received(sqlite_catalog, store, workers=0).refused == {"truncated": 1}


def test_compressed_pixels_are_kept_as_they_come(store: ReceivedStore, listen: Listen) -> None:
    dataset = chest_dataset()
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([b"\xff\x4f code stream "])
    dataset["PixelData"].is_undefined_length = True
    assert send(listen(), dataset) == [0x0000]
    assert dcmread(store.waiting()[0].path).file_meta.TransferSyntaxUID == JPEG2000Lossless


def test_what_cannot_be_told_apart_is_not_taken(
    store: ReceivedStore, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistaken = chest_dataset(sop="1.2.3.99")
    port = listen()
    assert send(port, chest_dataset(StudyInstanceUID=None)) == [0xC000]
    for data, status in ((b"\x08\x00\x18\x00UI\xff\xff no dataset", 0xC000), (_encoded(mistaken), 0xA900)):
        with monkeypatch.context() as patched:
            patched.setattr("pynetdicom.association.encode", lambda *arguments, data=data: data)
            assert send(port, chest_dataset(sop="1.2.3.4")) == [status]
    assert store.waiting() == []


def test_many_senders_at_once(sqlite_catalog: Catalog, store: ReceivedStore, listen: Listen) -> None:
    port = listen()

    def one(number: int) -> list[int | None]:
        return send(port, *(chest_dataset(study=f"1.2.3.{number}.{k}") for k in range(3)))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(8))) == [[0, 0, 0]] * 8
    assert ingest_received(sqlite_catalog, store, workers=0).studies_new == 24


def test_more_associations_than_allowed_are_turned_away(listen: Listen) -> None:
    port = listen(max_associations=1)
    entity = AE("MODALITY")
    entity.add_requested_context(Verification)
    first = entity.associate("127.0.0.1", port, ae_title="ALTA")
    assert first.is_established
    second = entity.associate("127.0.0.1", port, ae_title="ALTA")
    assert second.is_rejected
    first.release()


def test_an_object_over_the_limit_ends_the_association_and_leaves_nothing(
    store: ReceivedStore, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    port = listen(max_object_bytes=2**20)
    assert send(port, chest_dataset(PixelData=bytes(2**22))) == [None]
    assert "more than is allowed" in caplog.text
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []
    assert echo(port) == 0x0000


def test_a_pdu_that_claims_gigabytes_is_not_waited_for(listen: Listen) -> None:
    port = listen()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
        peer.sendall(struct.pack(">BBL", 1, 0, 2**31) + bytes(1000))
        try:
            while peer.recv(1000):
                pass
        except ConnectionError:
            pass  # ended, at once: waiting for the rest would time out
    assert echo(port) == 0x0000


def test_a_sender_that_does_not_wait_for_answers_is_cut_off(tmp_path: Path, listen: Listen) -> None:
    busy, go_on = threading.Event(), threading.Event()

    class SlowStore(ReceivedStore):
        def keep(self, *arguments: Any, **options: Any) -> Path:
            busy.set()
            go_on.wait(30)
            return super().keep(*arguments, **options)

    association = associate(listen(SlowStore(tmp_path / "slow", min_free_bytes=0)))
    with association.dul.socket.socket as connection:
        post(association, chest_dataset())
        assert busy.wait(30)
        with contextlib.suppress(Exception):  # how the sending side ends is its own affair
            for _ in range(20):
                post(association, chest_dataset())
        connection.settimeout(30)
        assert _eventually(lambda: not association.is_established)
        go_on.set()


def test_what_is_received_at_once_has_a_limit_in_all(store: ReceivedStore, listen: Listen) -> None:
    film = chest_dataset()
    size = len(film.PixelData)
    port = listen(max_held_bytes=2 * size)
    for _ in range(3):  # one after the other they fit
        assert send(port, film, film) == [0x0000, 0x0000]
    assert send(listen(max_held_bytes=size // 2), film) == [None]
    assert len(store.waiting()) == 6


def test_connections_that_say_nothing_have_a_limit(listen: Listen) -> None:
    port = listen(max_associations=1)
    with contextlib.ExitStack() as opened:
        closed = 0
        for _ in range(10):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=0.2))
            with contextlib.suppress(TimeoutError, ConnectionError):
                closed += connection.recv(1) == b""
        assert closed >= 8


def test_each_association_is_told_in_a_line_without_names(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    scp_port = listen()
    # Now, not before: the end of an earlier test's association would have its level remembered for this one.
    caplog.set_level(logging.INFO)
    send(scp_port, chest_dataset(PatientName="Doe^Jane", PatientID="SECRET"), chest_dataset(StudyInstanceUID=None))
    assert _eventually(lambda: "MODALITY at 127.0.0.1: 1 objects stored" in caplog.text)
    assert "1 refused" in caplog.text
    assert "Doe" not in caplog.text and "SECRET" not in caplog.text


def test_what_was_fetched_is_told_by_who_fetched_it(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    scp_port = listen(fetching=True)
    caplog.set_level(logging.DEBUG)
    send(scp_port, chest_dataset())
    assert _eventually(lambda: "1 objects stored" in caplog.text)
    assert {record.levelno for record in caplog.records if "1 objects stored" in record.message} == {logging.DEBUG}


def test_a_taken_port_is_a_clear_error(store: ReceivedStore, listen: Listen) -> None:
    with pytest.raises(ArchiveError) as caught:
        StorageScp(store, allowed=None).start(port=listen())
    assert caught.value.slug == "cannot-listen"


@pytest.mark.parametrize("title", ["", "   ", "SEVENTEEN_LETTERS", "back\\slash", "tab\t", "umläut"])
def test_ae_titles_are_checked(store: ReceivedStore, title: str) -> None:
    with pytest.raises(InputError) as caught:
        StorageScp(store, allowed=["OTHER", title])
    assert caught.value.slug == "bad-ae-title"


def test_what_arrives_is_taken_in_soon_and_the_rest_at_the_end(sqlite_catalog: Catalog, store: ReceivedStore) -> None:
    store.keep(file_bytes(chest_dataset(study="1.2.3.1")))  # an earlier process left it
    arrivals = Arrivals()
    rounds: list[IngestSummary] = []
    first = threading.Event()

    def taken_in(summary: IngestSummary) -> None:
        rounds.append(summary)
        first.set()

    def last_one() -> None:
        store.keep(file_bytes(chest_dataset(study="1.2.3.2")))

    arguments = (sqlite_catalog, store, arrivals, taken_in)
    loop = threading.Thread(target=take_in_arrivals, args=arguments, kwargs={"workers": 0, "stop_receiving": last_one})
    loop.start()
    assert first.wait(30)
    arrivals.end()
    loop.join(30)
    assert [summary.studies_new for summary in rounds] == [1, 1]
    assert store.waiting() == []


def test_a_database_that_is_away_costs_only_time(
    sqlite_catalog: Catalog, store: ReceivedStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("index.listeners.receiving.RETRY_SECONDS", 0.01)
    store.keep(file_bytes(chest_dataset()))
    arrivals = Arrivals()
    calls: list[int] = []

    def failing(*arguments: object, **named: object) -> IngestSummary:
        calls.append(1)
        if len(calls) < 3:
            raise sa.exc.OperationalError("SELECT", {}, Exception("gone"))
        return ingest_received(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("index.listeners.receiving.ingest_received", failing)
    take_in_arrivals(sqlite_catalog, store, arrivals, lambda summary: arrivals.end(), workers=0)
    assert len(calls) == 3 and store.waiting() == []
    assert "goes on waiting" in caplog.text


class Alta:
    """``alta receive dicom`` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"ALTA_DATA_DIR": str(folder), "ALTA_MIN_FREE_MB": "0", "PYTHONUNBUFFERED": "1"}
        environment.pop("ALTA_DATABASE_URL", None)
        command = "import sys; from service.cli import main; sys.argv = ['alta', *sys.argv[1:]]; main()"
        arguments = ["receive", "dicom", "--allow", "MODALITY", "--port", "0"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", command, *arguments],
            env=environment | {"COLUMNS": "300"},
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.port = int(self.line("Listening").partition("port ")[2].partition(",")[0])

    def line(self, start: str) -> str:
        """The next line that starts so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(start):
                return line
        raise AssertionError(f"the process ended with {self.process.wait()}")

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.mark.slow
def test_killed_right_after_success_the_study_is_taken_in_exactly_once(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = Alta(folder)
    assert send(first.port, chest_dataset(study="1.2.3.1"), chest_dataset(study="1.2.3.2")) == [0, 0]
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    second = Alta(folder)
    assert send(second.port, chest_dataset(study="1.2.3.2"), chest_dataset(study="1.2.3.3")) == [0, 0]
    assert second.end(signal.SIGTERM) == 0
    catalog = open_catalog(f"sqlite:///{folder / 'alta.db'}")
    assert reasons(catalog) == ["accepted"] * 3
    assert ReceivedStore(folder / "received").waiting() == []
    catalog.close()


@pytest.mark.slow
def test_sigterm_waits_for_an_open_association(tmp_path: Path) -> None:
    alta = Alta(tmp_path / "data")
    entity = AE("MODALITY")
    entity.add_requested_context(ComputedRadiographyImageStorage, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", alta.port, ae_title="ALTA")
    alta.process.send_signal(signal.SIGTERM)
    assert association.send_c_store(chest_dataset()).Status == 0x0000
    association.release()
    assert "1 new" in alta.line("Taken in")
    assert alta.end(signal.SIGTERM) == 0


def test_dcmtk_sends_and_is_told_why_not(tmp_path: Path, store: ReceivedStore, listen: Listen, dcmtk: Dcmtk) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(file_bytes(chest_dataset()))
    port = listen()
    titles = ("-aet", "MODALITY", "-aec", "ALTA")
    assert dcmtk("echoscu", *titles, "127.0.0.1", port).returncode == 0
    assert dcmtk("storescu", *titles, "127.0.0.1", port, path).returncode == 0
    assert len(store.waiting()) == 1
    assert dcmtk("storescu", "-aet", "STRANGER", "-aec", "ALTA", "127.0.0.1", port, path).returncode != 0
    full = listen(ReceivedStore(tmp_path / "full", min_free_bytes=2**62))
    refused = dcmtk("storescu", "-v", *titles, "127.0.0.1", full, path)
    assert refused.returncode != 0 and "OutOfResources" in refused.stdout.replace(" ", "")


def test_a_pacs_sends_a_study(sqlite_catalog: Catalog, store: ReceivedStore, listen: Listen, orthanc: Orthanc) -> None:
    ids = orthanc.upload(chest_dataset(seed=1), chest_dataset(seed=2))
    orthanc.know("ALTA", listen(allowed=["ORTHANC"]))
    orthanc.send("ALTA", *ids)
    summary = ingest_received(sqlite_catalog, store, workers=0)
    assert (summary.accepted, summary.studies_new) == (2, 1)


def _encoded(dataset: Dataset) -> bytes:
    whole = file_bytes(dataset)
    length = struct.unpack("<L", whole[140:144])[0]  # (0002,0000), the group's length
    return whole[144 + length :]


def _eventually(condition: Callable[[], bool]) -> bool:
    """The other side notices the end of an association a moment later."""
    tick = threading.Event()
    for _ in range(200):
        if condition():
            return True
        tick.wait(0.05)
    return False
