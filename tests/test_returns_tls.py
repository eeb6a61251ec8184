"""C-STORE over TLS: to a peer whose certificate is verified, or not at all."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from time import monotonic, sleep

import pydicom
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from index import Catalog
from service.dicom_tls import DicomTls
from service.doctor import network
from service.doctor.finding import Finding
from service.doctor.installation import Installation
from service.doctor.network import check_network
from service.return_settings import ReturnRoute
from service.returns import sending
from service.settings import Settings
from tests.peers import free_port
from tests.returning import Returning, returning, rows, sr_route, storage_scp
from tests.test_cli import Alta
from tests.test_cli import alta as alta  # the fixture
from tests.test_returns_sending import STUDY, arrive, let_time_pass, unreached

BASIC = x509.BasicConstraints(ca=True, path_length=0)


@dataclass
class Authority:
    """Signs certificates; each, and its key, are files of a folder."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"CA {self.folder.name}")])
        self.write("ca", self.sign(self.name, self.key, BASIC), self.key)

    def issue(self, name: str, subject: x509.GeneralName) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        common = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.write(name, self.sign(common, key, x509.SubjectAlternativeName([subject])), key)

    def sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).add_extension(extension, critical=False)
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        return builder.sign(self.key, hashes.SHA256())

    def write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.path(f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        self.path(f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, none))

    def path(self, name: str) -> Path:
        return self.folder / name

    def server(self, name: str = "pacs", *, clients: bool = False) -> ssl.SSLContext:
        """As a PACS has it. clients: they have to have certificates of this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path(f"{name}.pem"), self.path(f"{name}.key"))
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.path("ca.pem"))
        return context


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """With a certificate for the PACS of these tests, one for another host, and one of ours."""
    found = Authority(tmp_path_factory.mktemp("tls") / "hospital")
    found.issue("pacs", x509.IPAddress(ip_address("127.0.0.1")))
    found.issue("other", x509.DNSName("other.example"))
    found.issue("alta", x509.DNSName("alta.example"))
    return found


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "stranger")


@pytest.fixture
def world(sqlite_catalog: Catalog, tmp_path: Path) -> Returning:
    return returning(sqlite_catalog, tmp_path / "data")


def over_tls(address: str, **tls: object) -> ReturnRoute:
    return sr_route(address, tls={name: str(value) for name, value in tls.items()})


def test_a_report_goes_over_tls_to_a_peer_whose_certificate_is_verified(world: Returning, hospital: Authority) -> None:
    with storage_scp(tls=hospital.server()) as (address, got):
        route = over_tls(address, ca=hospital.path("ca.pem"))
        sender = world.sender(route)
        arrive(world)
        assert sender.send_due(route) is True
    assert [document.StudyInstanceUID for document in got] == [STUDY]


def test_the_authority_that_is_trusted_may_be_an_issuing_one_whose_root_is_not_there(
    world: Returning, tmp_path: Path
) -> None:
    root = Authority(tmp_path / "root")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuing CA")])
    root.write("issuing", root.sign(name, key, BASIC), key)
    root.name, root.key = name, key
    root.issue("pacs", x509.IPAddress(ip_address("127.0.0.1")))
    with storage_scp(tls=root.server()) as (address, got):
        route = over_tls(address, ca=root.path("issuing.pem"))
        sender = world.sender(route)
        arrive(world)
        assert sender.send_due(route) is True
    assert len(got) == 1


@unreached
def test_a_peer_that_is_not_who_it_should_be_gets_nothing_and_is_tried_again(
    world: Returning, hospital: Authority, stranger: Authority
) -> None:
    with (
        storage_scp(tls=hospital.server("other")) as (elsewhere, got),
        storage_scp() as (plain, also),
        storage_scp(tls=hospital.server()) as (address, taken),
    ):
        ca = hospital.path("ca.pem")
        routes = {
            over_tls(elsewhere, ca=ca): "bad-certificate",
            over_tls(plain, ca=ca): "not-reached",
            over_tls(address, ca=stranger.path("ca.pem")): "bad-certificate",
            over_tls(address): "bad-certificate",  # the system's store
            sr_route(address): "not-reached",  # in plain text
        }
        world.sender(next(iter(routes)))
        arrive(world)
        for route, error in routes.items():
            assert world.sender(route).send_due(route) is False
            assert rows(world.catalog)[0].last_error == error
            let_time_pass(world.catalog)
        assert got == also == taken == []
        mended = over_tls(address, ca=ca)
        assert world.sender(mended).send_due(mended) is True
        assert len(taken) == 1


@unreached
def test_a_peer_that_asks_for_a_certificate_gets_ours(
    world: Returning, hospital: Authority, stranger: Authority
) -> None:
    stranger.issue("alta", x509.DNSName("alta.example"))
    with storage_scp(tls=hospital.server(clients=True)) as (address, got):
        none = over_tls(address, ca=hospital.path("ca.pem"))
        sender = world.sender(none)
        arrive(world)
        assert sender.send_due(none) is False
        let_time_pass(world.catalog)
        foreign = {"certificate": stranger.path("alta.pem"), "key": stranger.path("alta.key")}
        strange = over_tls(address, ca=hospital.path("ca.pem"), **foreign)
        assert world.sender(strange).send_due(strange) is False and got == []
        let_time_pass(world.catalog)
        ours = {"certificate": hospital.path("alta.pem"), "key": hospital.path("alta.key")}
        route = over_tls(address, ca=hospital.path("ca.pem"), **ours)
        assert world.sender(route).send_due(route) is True
    assert len(got) == 1


@pytest.mark.skipif(shutil.which("storescp") is None, reason="dcmtk is absent")
@pytest.mark.parametrize("profile", ["--profile-bcp195-nd", "--profile-bcp195", "--profile-bcp195-ex"])
def test_another_implementation_of_these_profiles_takes_it(
    world: Returning, hospital: Authority, tmp_path: Path, profile: str
) -> None:
    """dcmtk's, which asks for our certificate."""
    received, port = tmp_path / "received", free_port()
    received.mkdir()
    proof = [hospital.path("pacs.key"), hospital.path("pacs.pem"), "+cf", hospital.path("ca.pem"), profile]
    command = ["storescp", "+tls", *map(str, proof), "-aet", "ORTHANC", "-od", str(received), str(port)]
    files = {"ca": "ca.pem", "certificate": "alta.pem", "key": "alta.key"}
    route = over_tls(f"dicom://ORTHANC@127.0.0.1:{port}", **{name: hospital.path(file) for name, file in files.items()})
    sender = world.sender(route)
    arrive(world)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            listening(port)
            assert sender.send_due(route) is True, rows(world.catalog)[0].last_error
        finally:
            process.terminate()
    (document,) = map(pydicom.dcmread, received.iterdir())
    assert document.StudyInstanceUID == STUDY


def listening(port: int) -> None:
    """Returns once somebody does."""
    until = monotonic() + 30
    while monotonic() < until:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            sleep(0.05)
    raise AssertionError("it does not listen")


@contextmanager
def silent_peer(context: ssl.SSLContext) -> Iterator[str]:
    """Speaks TLS and no DICOM, as a proxy in front of a PACS that hangs does: its address."""
    ended = threading.Event()

    def serve(server: socket.socket) -> None:
        while not ended.is_set():
            connection, _ = server.accept()
            connection.settimeout(30)
            try:
                with context.wrap_socket(connection, server_side=True) as over:
                    while over.recv(2**16):
                        pass
            except OSError:
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        serving = threading.Thread(target=serve, args=(server,))
        serving.start()
        port = server.getsockname()[1]
        try:
            yield f"dicom://ORTHANC@127.0.0.1:{port}"
        finally:
            ended.set()
            socket.create_connection(("127.0.0.1", port)).close()
            serving.join(30)


@unreached
def test_a_peer_that_says_nothing_over_tls_is_given_up(
    world: Returning, hospital: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS 1.3, whose tickets after the handshake look like data (RFC 8446 4.6.1)."""
    monkeypatch.setattr(sending, "SILENCE_S", 1.0)
    monkeypatch.setattr(network, "SECONDS", 1.0)
    with silent_peer(hospital.server()) as address:
        route = over_tls(address, ca=hospital.path("ca.pem"))
        settings = Settings(data_dir=tmp_path, return_routes=(route,))
        sender = world.sender(route)
        arrive(world)
        found: list[object] = []

        def ask() -> None:
            found.append(sender.send_due(route))
            found.extend(check_network(Installation(settings, {}, ())))

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(25)
        over = not asking.is_alive()
    asking.join(30)
    assert over
    assert found[0] is False and rows(world.catalog)[0].last_error == "not-reached"
    assert isinstance(found[1], Finding) and found[1].state == "fail"


@unreached
def test_nothing_is_sent_in_clear(world: Returning, hospital: Authority) -> None:
    """Whoever listens in the peer's place sees the beginning of TLS, and no A-ASSOCIATE (PS3.8 9.3.2)."""
    heard = bytearray()

    def listen(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(10)
            heard.extend(connection.recv(2**16))
            connection.sendall(b"\x02\x00")  # of an A-ASSOCIATE-AC in clear
            try:
                while more := connection.recv(2**16):
                    heard.extend(more)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        listening = threading.Thread(target=listen, args=(server,))
        listening.start()
        route = over_tls(f"dicom://ORTHANC@127.0.0.1:{server.getsockname()[1]}", ca=hospital.path("ca.pem"))
        sender = world.sender(route)
        arrive(world)
        assert sender.send_due(route) is False
        listening.join(30)
    assert heard[:2] == b"\x16\x03"  # a handshake of TLS
    assert b"ORTHANC" not in heard and b"Secret" not in heard and STUDY.encode() not in heard


def test_a_certificate_that_was_renewed_needs_no_restart_and_one_that_is_gone_is_said(
    world: Returning, hospital: Authority, stranger: Authority, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(stranger.path("ca.pem").read_bytes())
    with storage_scp(tls=hospital.server()) as (address, got):
        route = over_tls(address, ca=ca)
        sender = world.sender(route)
        arrive(world)
        ca.unlink()
        assert sender.send_due(route) is False
        assert rows(world.catalog)[0].last_error == "certificate-unreadable"
        let_time_pass(world.catalog)
        ca.write_bytes(hospital.path("ca.pem").read_bytes())
        assert sender.send_due(route) is True
    assert len(got) == 1


def test_it_is_as_bcp_195_wants_it(hospital: Authority) -> None:
    context = DicomTls(ca=hospital.path("ca.pem")).context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    ciphers = [cipher for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    assert {cipher["name"] for cipher in ciphers} == {
        f"ECDHE-{signed}-AES{bits}" for signed in ("ECDSA", "RSA") for bits in ("128-GCM-SHA256", "256-GCM-SHA384")
    }


def test_files_that_are_not_what_they_should_be_are_told_at_the_start(
    hospital: Authority, tmp_path: Path, alta: Alta, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, certificate, key = (str(hospital.path(name)) for name in ("ca.pem", "alta.pem", "alta.key"))
    text = tmp_path / "text.pem"
    text.write_text("no certificate\n")
    loaded = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hunter2"),
        )
    )
    for tls, said in (
        ({"ca": str(tmp_path / "absent.pem")}, "No such file"),
        ({"ca": str(text)}, "expected certificates in PEM"),
        ({"ca": ca, "certificate": certificate}, "go together"),
        ({"certificate": certificate, "key": str(hospital.path("pacs.key"))}, "and its key"),
        ({"certificate": certificate, "key": str(locked)}, "without a password"),
        ({"certificate": str(tmp_path / "absent.pem"), "key": key}, "No such file"),
    ):
        with pytest.raises(ValidationError, match=said):
            Settings(return_routes=[sr_route().model_dump() | {"tls": tls}])  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="an https URL says it"):
        sr_route("https://pacs.example/dicom-web", tls={})
    assert sr_route("dicom://PACS@pacs.example", tls={}).node.port == 2762  # type: ignore[union-attr]

    absent = '[{"name": "pacs", "arrivals": ["dicom"], "kind": "sr", "to": "dicom://P@h", "tls": {"ca": "absent.pem"}}]'
    monkeypatch.setenv("ALTA_RETURN_ROUTES", absent)
    for command in (("serve",), ("worker", "--watch"), ("doctor",)):
        code, out, err = alta(*command)
        assert code == 1 and "absent.pem: No such file" in " ".join((out + err).split()), command


@unreached
def test_the_doctor_asks_over_tls(hospital: Authority, stranger: Authority, tmp_path: Path) -> None:
    with storage_scp(tls=hospital.server()) as (address, _):
        for authority, state, said in ((hospital, "ok", "answers C-ECHO"), (stranger, "fail", "not accepted")):
            route = over_tls(address, ca=authority.path("ca.pem"))
            settings = Settings(data_dir=tmp_path, return_routes=(route,))
            (finding,) = check_network(Installation(settings, {}, ()))
            assert finding.state == state and said in finding.saw
        ca = tmp_path / "ca.pem"
        ca.write_bytes(hospital.path("ca.pem").read_bytes())
        settings = Settings(data_dir=tmp_path, return_routes=(over_tls(address, ca=ca),))
        ca.unlink()  # between the reading of the settings and the question
        (finding,) = check_network(Installation(settings, {}, ()))
        assert finding.state == "fail" and "ca.pem" in finding.saw
