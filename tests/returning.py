"""An archive to which studies are sent, the desk that makes documents of them, and receivers: for tests of returns."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext
from typing import Any

import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import EnhancedSRStorage, Verification

from index import Catalog, ReceivedStore, build_generation, embed_pending, ingest_received
from index.intake.arrival import DICOM, Arrival
from index.returns.queue import begin_routes
from index.tables import StudyReturn
from service.return_settings import ReturnRoute
from service.returns import Sender
from service.returns.material import Desk
from service.settings import Settings
from tests.conftest import chest_dataset
from tests.fakes import FakeEncoder
from tests.peers import file_bytes

__all__ = [
    "FROM_ORTHANC",
    "HttpPeer",
    "Returning",
    "http_peer",
    "named",
    "returning",
    "rows",
    "sr_route",
    "storage_scp",
]

FROM_ORTHANC = Arrival(DICOM, "ORTHANC")


def sr_route(to: str = "dicom://ORTHANC@127.0.0.1:9", **members: object) -> ReturnRoute:
    """A route for what ORTHANC sends by C-STORE, of any age: the studies of tests are of 2024."""
    given = {"name": "pacs", "arrivals": ["dicom:ORTHANC"], "kind": "sr", "to": to, "max_age_days": None} | members
    return ReturnRoute.model_validate(given)


def named(**tags: object) -> dict[str, object]:
    """The attributes that a modality fills and ``chest_dataset`` leaves out."""
    return {
        "PatientName": "Secret^Patient",
        "PatientBirthDate": "19630211",
        "StudyTime": "101112",
        "StudyID": "7",
        "ReferringPhysicianName": "",
    } | tags


@dataclass
class Returning:
    """An archive and its store; studies are taken in as if they had been sent."""

    catalog: Catalog
    settings: Settings
    encoder: FakeEncoder = field(default_factory=FakeEncoder)

    @property
    def store(self) -> ReceivedStore:
        return ReceivedStore(self.settings.received_dir, 0)

    @property
    def desk(self) -> Desk:
        return Desk(self.settings, self.catalog, lambda: self.encoder, lambda: self.encoder.fingerprint)

    def arrive(self, *datasets: Dataset, by: Arrival | None = FROM_ORTHANC) -> None:
        """Sent, and taken in."""
        for dataset in datasets:
            self.store.keep(file_bytes(dataset), arrival=by)
        ingest_received(self.catalog, self.store, workers=0)

    def embed(self) -> None:
        embed_pending(self.catalog, self.encoder, workers=0)

    def index(self) -> None:
        build_generation(self.catalog, self.settings.generations_dir, self.encoder.fingerprint)

    def fill(self) -> None:
        """Five past studies of as many patients, which were never sent by anybody, searchable."""
        for number in range(5):
            tags = named(PatientID=f"OLD{number}", PatientName=f"Other^{number}")
            self.arrive(chest_dataset(study=f"1.2.7.{number}", seed=20 + number, **tags), by=None)
        self.embed()
        self.index()

    def sender(self, *routes: ReturnRoute, **values: object) -> Sender:
        """With these routes, whose studies need not be quiet first. They hold from now on."""
        given = {"return_routes": routes, "return_quiet_s": 0.0} | values
        begin_routes(self.catalog, [route.name for route in routes])
        return Sender(self.settings.model_copy(update=given), self.catalog, self.desk)


def rows(catalog: Catalog) -> list[StudyReturn]:
    with catalog.session() as session:
        return list(session.scalars(sa.select(StudyReturn).order_by(StudyReturn.id)))


@dataclass
class HttpPeer:
    """What a server was sent: method, path, headers in lower case, body. It answers with these status codes in turn,
    the last one for ever, and always with this body."""

    url: str = ""
    answers: list[int] = field(default_factory=lambda: [200])
    answer: bytes = b"{}"
    told: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    before: Callable[[], None] = lambda: None

    @property
    def bodies(self) -> list[object]:
        return [json.loads(body) for *_, body in self.told]


@contextmanager
def http_peer() -> Iterator[HttpPeer]:
    peer = HttpPeer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            peer.told.append((self.command, self.path, headers, body))
            peer.before()
            self.send_response(peer.answers.pop(0) if len(peer.answers) > 1 else peer.answers[0])
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(peer.answer)))
            self.end_headers()
            self.wfile.write(peer.answer)

        def do_PUT(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    peer.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield peer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def returning(catalog: Catalog, folder: Path) -> Returning:
    """A filled archive on a catalog, its files in a folder."""
    found = Returning(catalog, Settings(data_dir=folder, min_free_mb=0))
    found.fill()
    return found


@contextmanager
def storage_scp(
    answer: Callable[[], int] = lambda: 0x0000, tls: SSLContext | None = None
) -> Iterator[tuple[str, list[Dataset]]]:
    """A PACS that takes structured reports: where it is, and what it was sent."""
    got: list[Dataset] = []

    def handle(event: evt.Event) -> int:
        got.append(event.dataset)
        return answer()

    entity = AE("ORTHANC")
    entity.require_called_aet = True
    entity.add_supported_context(EnhancedSRStorage, ExplicitVRLittleEndian)
    entity.add_supported_context(Verification)
    opened: list[Any] = []  # pynetdicom leaves a connection open whose peer went first
    handlers: list[Any] = [
        (evt.EVT_C_STORE, handle),
        (evt.EVT_CONN_OPEN, lambda event: opened.append(event.assoc.dul.socket.socket)),
    ]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=tls)
    assert server is not None
    try:
        yield f"dicom://ORTHANC@127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        for connection in opened:
            connection.close()
