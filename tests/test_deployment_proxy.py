"""The committed nginx configuration in a real nginx, with a certificate of its own, before a real `alta serve`."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from index import build_generation, embed_pending, ingest_folder, migrate, open_catalog
from index.access.keys import create_key
from index.tables import AuditEntry
from model.alta_encoder import load_encoder
from service import admission, http_protocol
from service.receiving import body
from service.settings import Settings
from tests.deployed import DEPLOY, compose
from tests.live_service import answers, until
from tests.peers import free_port
from tests.service_samples import C1, Film, png, write_archive
from tests.tiny import write_tiny_checkpoint

CONFIGURATION = (DEPLOY / "nginx/nginx.conf").read_text()
CLIENT = "127.0.0.2"  # another address than the proxy's, which a forged header does not name either
MIB = 2**20


def directives(name: str) -> list[str]:
    return re.findall(rf"^\s*{name}\s+([^;]+);", CONFIGURATION, flags=re.M)


def test_limits_of_the_proxy_are_over_those_of_the_service() -> None:
    """So that the service itself refuses, with a reason that a client can read."""
    settings = Settings()
    (size,) = directives("client_max_body_size")
    assert int(size.rstrip("m")) > max(settings.stow_max_mb, settings.max_upload_mb)
    timeouts = [int(value.rstrip("s")) for value in directives("proxy_read_timeout")]
    assert min(timeouts) > settings.request_timeout_s and len(timeouts) == 2
    patience = [
        int(value.rstrip("s")) for name in ("client_body", "proxy_send") for value in directives(f"{name}_timeout")
    ]
    assert len(patience) == 2 and min(patience) > max(admission.SILENCE_SECONDS, body.SILENCE_SECONDS)
    (taking,) = directives("send_timeout")
    assert int(taking.rstrip("s")) > http_protocol.ANSWER_SECONDS


def test_nothing_about_patients_is_kept_by_the_proxy() -> None:
    assert directives("access_log") == ["off"] and directives("error_log") == ["stderr crit"]
    assert directives("proxy_request_buffering") == ["off"] and directives("proxy_max_temp_file_size") == ["0"]
    assert not directives("proxy_cache")


def test_it_is_what_compose_starts() -> None:
    services = compose()["services"]
    assert "./deploy/nginx/nginx.conf:/etc/nginx/nginx.conf:ro" in services["proxy"]["volumes"]
    (published,) = services["proxy"]["ports"]
    assert directives("listen") == [f"{published.rpartition(':')[2]} ssl"]
    assert directives("set \\$service") == [f"alta:{Settings().port}"]
    tls = services["proxy"]["volumes"][1].split(":")[1]
    assert all(path.startswith(f"{tls}/") for path in directives("ssl_certificate") + directives("ssl_certificate_key"))
    written = directives("pid") + directives("[a-z_]+_temp_path")
    assert len(written) == 6 and all(path.startswith("/tmp/") for path in written)


def write_certificate(folder: Path) -> None:
    """alta.pem and alta.key, for localhost; whoever trusts the certificate itself, trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir()
    (folder / "alta.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "alta.key").write_bytes(plain)


def configuration_for(folder: Path, port: int, service: int) -> str:
    """The committed one, but for addresses and folders; each is replaced where it stands, and stands there once."""
    text = CONFIGURATION
    for old, new in (
        ("listen 8443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("set $service alta:8000", f"set $service 127.0.0.1:{service}"),
        ("worker_processes auto", "worker_processes 1"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text.replace("/tmp/", f"{folder}/").replace("/etc/nginx/tls/", f"{folder}/tls/")


@dataclass(frozen=True)
class Deployed:
    url: str
    port: int
    key: str  # with the scopes search and write
    trust: ssl.SSLContext
    folder: Path
    service: "subprocess.Popen[bytes]"

    def client(self, **headers: str) -> httpx.Client:
        transport = httpx.HTTPTransport(verify=self.trust, local_address=CLIENT)
        return httpx.Client(base_url=self.url, transport=transport, headers=headers, timeout=60)

    def with_key(self, **headers: str) -> httpx.Client:
        return self.client(Authorization=f"Bearer {self.key}", **headers)


def fill(data: Path, encoders: Path, source: Path) -> str:
    """An archive of what is in ``source``, embedded and indexed, and a key for it."""
    settings = Settings(data_dir=data, model_path=encoders)
    encoder = load_encoder(encoders, "cpu", "float32")
    migrate(settings.catalog_url)
    with closing(open_catalog(settings.catalog_url)) as catalog:
        ingest_folder(catalog, source, source / "reports.csv", workers=0)
        embed_pending(catalog, encoder)
        build_generation(catalog, settings.generations_dir, encoder.fingerprint, model_path=str(encoders))
        return create_key(catalog, "ME", ["search", "write"], "test")[0]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """An archive of four studies, `alta serve` on it and nginx before that."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is absent")
    folder = tmp_path_factory.mktemp("deployed")
    for name in ("source", "data"):
        (folder / name).mkdir()
    write_tiny_checkpoint(folder / "encoders")
    write_archive(folder / "source")
    write_certificate(folder / "tls")
    port, service_port = free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ALTA_")} | {
        "ALTA_DATA_DIR": str(folder / "data"),
        "ALTA_MODEL_PATH": str(folder / "encoders"),
        "ALTA_PORT": str(service_port),
        "ALTA_DECODE_WORKERS": "0",
        "ALTA_CHECK_IMAGES": "false",
        "ALTA_MIN_FREE_MB": "0",
        "ALTA_RECEIVE": "1",
        "ALTA_MAX_UPLOAD_MB": "2",
        "ALTA_TRUSTED_PROXIES": '["127.0.0.1/32"]',
        "ALTA_ALLOWED_HOSTS": '["localhost"]',
    }
    key = fill(folder / "data", folder / "encoders", folder / "source")
    written = folder / "nginx.conf"
    written.write_text(configuration_for(folder, port, service_port))
    run = [nginx, "-p", str(folder), "-e", "stderr", "-c", str(written)]
    checked = subprocess.run([*run, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr, checked.stderr
    log = (folder / "log").open("w")
    line = [sys.executable, "-c", "from service.cli import main; main()", "serve"]
    service = subprocess.Popen(line, env=environment, stderr=log)
    proxy = subprocess.Popen([*run, "-g", "daemon off;"], stderr=log)
    trust = ssl.create_default_context(cafile=folder / "tls/alta.pem")
    try:
        until(lambda: service.poll() is not None or answers(f"http://127.0.0.1:{service_port}"), "the service answers")
        assert service.poll() is None, (folder / "log").read_text()
        yield Deployed(f"https://localhost:{port}", port, key, trust, folder, service)
    finally:
        for started in (proxy, service):
            started.terminate()
            started.wait()
        log.close()


def test_a_search_with_a_key_over_tls(deployed: Deployed) -> None:
    with deployed.with_key() as client:
        answer = client.post("/v1/search", files={"files": ("film.png", png())}, data={"top_k": "2"})
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["hits"]) == 2
        assert answer.headers["strict-transport-security"] and answer.headers["server"] == "nginx"
        page = client.get("/")
        assert page.status_code == 200 and "script-src 'self'" in page.headers["content-security-policy"]


def test_the_audit_has_the_clients_address_whatever_the_client_says(deployed: Deployed) -> None:
    forged = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Request-ID": "forged"}
    with deployed.with_key(**forged) as client:
        assert client.post("/v1/search/text-to-image", json={"text": "effusion"}).status_code == 200
    url = Settings(data_dir=deployed.folder / "data").catalog_url
    with closing(open_catalog(url)) as catalog, catalog.session() as session:
        assert session.scalars(sa.select(AuditEntry.address).filter_by(request_id="forged")).all() == [CLIENT]


def test_who_comes_through_the_proxy_needs_a_key(deployed: Deployed) -> None:
    with deployed.client() as client:
        assert client.get(f"/v1/studies/{C1}").status_code == 401
        assert client.get("/livez").status_code == 200


def test_plain_http_is_not_spoken(deployed: Deployed) -> None:
    answer = httpx.get(f"http://localhost:{deployed.port}/livez")
    assert answer.status_code == 400 and "plain HTTP" in answer.text


def test_another_host_name_is_refused_by_the_service(deployed: Deployed) -> None:
    with deployed.with_key(Host="evil.example") as client:
        assert client.get(f"/v1/studies/{C1}").json()["type"] == "/problems/unknown-host"


def test_a_body_that_is_too_large_is_refused_with_the_services_reason(deployed: Deployed) -> None:
    for _ in range(10):  # the answer comes before the body has ended: none may be lost
        with deployed.with_key() as client:
            answer = client.post("/v1/search", files={"files": ("film.png", bytes(12 * MIB))})
        assert answer.status_code == 413 and "ALTA_MAX_UPLOAD_MB" in answer.json()["detail"]
        with deployed.client(Authorization="Bearer alta_wrong") as client:
            assert client.post("/dicomweb/studies", content=bytes(12 * MIB)).status_code in (401, 429)


def test_credentials_are_checked_before_the_body_has_come(deployed: Deployed) -> None:
    head = "POST /v1/search HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer alta_wrong\r\n"
    head += f"Content-Type: multipart/form-data; boundary=edge\r\nContent-Length: {MIB}\r\n\r\n--edge"
    with (
        socket.create_connection(("127.0.0.1", deployed.port), timeout=30) as plain,
        deployed.trust.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(head.encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 401 ")


def test_instances_may_be_stored_in_chunks_and_are_larger_than_queries(deployed: Deployed) -> None:
    film = Film("1.2.3.77", 7, patient="P77").dicom()
    padding = b"\r\n--edge\r\nContent-Type: application/dicom\r\n\r\n" + bytes(3 * MIB)
    parts = [b"--edge\r\nContent-Type: application/dicom\r\n\r\n", film, padding, b"\r\n--edge--\r\n"]
    kind = 'multipart/related; type="application/dicom"; boundary=edge'
    with deployed.with_key(**{"Content-Type": kind}) as client:
        answer = client.post("/dicomweb/studies", content=iter(parts))  # httpx sends an iterator in chunks
        assert answer.status_code == 202, answer.text  # the second part is none
        assert client.get("/v1/studies/1.2.3.77").status_code == 200


def test_nothing_was_written_by_the_proxy(deployed: Deployed) -> None:
    kept = [path for path in deployed.folder.glob("nginx-*") if path.is_dir() and any(path.rglob("*"))]
    assert not [path for folder in kept for path in folder.rglob("*") if path.is_file()]
    assert "1.2.3" not in (deployed.folder / "log").read_text()


def test_while_the_service_is_away_clients_are_told_to_come_again(deployed: Deployed) -> None:
    deployed.service.terminate()  # the last test of the module
    deployed.service.wait()
    with deployed.with_key() as client:
        answer = client.get(f"/v1/studies/{C1}")
    assert answer.status_code == 503 and answer.headers["retry-after"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 503 and answer.headers["strict-transport-security"]
