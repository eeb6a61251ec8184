"""``alta doctor --network`` asks the systems that are configured: real servers where there are some."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from index import ReceivedStore
from index.listeners.storage_scp import StorageScp
from service.doctor import network
from service.doctor.finding import Finding
from service.doctor.installation import Installation
from service.doctor.network import check_network
from service.settings import Settings
from tests.peers import Orthanc, free_port
from tests.test_cli import Alta
from tests.test_cli import alta as alta  # the fixture
from tests.tiny_dicomweb import Answer, TinyDicomWeb, running

SECRET = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"


def only(tmp_path: Path, pacs: tuple[str, ...] = (), **settings: object) -> Finding:
    """The only finding of an installation with these settings."""
    (finding,) = check_network(Installation(Settings(**{"data_dir": tmp_path, **settings}), {}, pacs))
    assert bool(finding.remedy) == (finding.state != "ok")
    return finding


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """``listener(allowed=[...])`` starts a storage SCP of the title ALTA-SCP and gives its port."""
    started: list[StorageScp] = []

    def start(allowed: list[str]) -> int:
        store = ReceivedStore(tmp_path / "received", min_free_bytes=0)
        started.append(StorageScp(store, allowed=allowed, ae_title="ALTA-SCP"))
        return started[-1].start(port=0)

    yield start
    for scp in started:
        scp.stop(patience=5)


def test_a_dicomweb_server_is_searched_for_one_study_with_its_credentials(tmp_path: Path) -> None:
    with running(TinyDicomWeb()) as server:
        origins = {"dicomweb_origins": {"pacs": server.url}}
        assert only(tmp_path, **origins).state == "ok"
        assert server.asked == ["studies"]
        only(tmp_path, **origins, dicomweb_credentials={"pacs": "Bearer token"})
        assert "Bearer token" in server.authorized
        server.instead = lambda path, number: Answer(401)
        assert "ALTA_DICOMWEB_CREDENTIALS" in only(tmp_path, **origins).remedy
        server.instead = lambda path, number: Answer(404)
        assert "DICOMweb root" in only(tmp_path, **origins).remedy
    gone = only(tmp_path, dicomweb_origins={"pacs": f"http://127.0.0.1:{free_port()}"})
    assert gone.state == "fail" and "refused" in gone.saw


def test_a_real_server_answers_both_ways(tmp_path: Path, orthanc: Orthanc) -> None:
    assert only(tmp_path, dicomweb_origins={"orthanc": orthanc.dicomweb_url}).state == "ok"
    assert only(tmp_path, pacs=(f"{orthanc.ae_title}@127.0.0.1:{orthanc.dicom_port}",)).saw == "answers C-ECHO"


def test_a_node_is_sent_an_echo(tmp_path: Path, listener: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "SECONDS", 1.0)
    assert only(tmp_path, pacs=(f"ALTA-SCP@127.0.0.1:{listener(['ALTA'])}",)).saw == "answers C-ECHO"
    refused = only(tmp_path, pacs=(f"ALTA-SCP@127.0.0.1:{listener(['OTHER'])}",))
    assert refused.state == "fail" and "AE title ALTA" in refused.remedy
    assert only(tmp_path, pacs=(f"ALTA-SCP@127.0.0.1:{free_port()}",)).saw.startswith("It does not answer: ")
    assert only(tmp_path, pacs=("nowhere",)).remedy == "Write TITLE@HOST:PORT."


def test_where_results_go_back_to_is_asked_as_its_kind_answers(tmp_path: Path, listener: Callable[..., int]) -> None:
    def route(kind: str, to: str) -> dict[str, object]:
        return {"return_routes": ({"name": "back", "arrivals": ("stow",), "kind": kind, "to": to},)}

    with running(TinyDicomWeb(instead=lambda path, number: Answer(200) if path == "metadata" else None)) as server:
        assert only(tmp_path, **route("fhir", server.url)).state == "ok"
        assert only(tmp_path, **route("sr", server.url)).state == "ok"
        assert server.asked == ["metadata", "studies"]
        server.instead = lambda path, number: Answer(403)
        refused = only(tmp_path, **route("sr", server.url))
        assert refused.check == "route back" and "ALTA_RETURN_CREDENTIALS" in refused.remedy
    port = listener(["ALTA"])
    assert only(tmp_path, **route("sr", f"dicom://ALTA-SCP@127.0.0.1:{port}")).saw == "answers C-ECHO"


def test_receivers_of_webhooks_and_milvus_are_connected_to_and_sent_nothing(tmp_path: Path) -> None:
    with running(TinyDicomWeb()) as server:
        origin = server.url.removesuffix("/dicom-web")
        assert only(tmp_path, webhook_origins=(origin,), webhook_secret=SECRET).saw == "can be reached"
        assert only(tmp_path, milvus_uri=origin).check.startswith("milvus 127.0.0.1:")
        tls = only(tmp_path, webhook_origins=(origin.replace("http", "https"),), webhook_secret=SECRET)
        assert tls.state == "fail"
        assert server.asked == []
    assert only(tmp_path, milvus_uri=f"http://127.0.0.1:{free_port()}").state == "fail"


def test_the_provider_of_tokens_has_to_name_itself_as_it_is_configured(tmp_path: Path) -> None:
    with running(TinyDicomWeb()) as server:
        issuer = server.url.removesuffix("/dicom-web")
        named = {"issuer": issuer}
        server.instead = lambda path, number: Answer(200, json.dumps(named).encode())
        assert only(tmp_path, oidc_issuer=issuer, oidc_audience="alta").state == "ok"
        named["issuer"] = f"{issuer}/"
        assert "exactly that" in only(tmp_path, oidc_issuer=issuer, oidc_audience="alta").remedy
        server.instead = lambda path, number: Answer(500)
        assert only(tmp_path, oidc_issuer=issuer, oidc_audience="alta").state == "fail"


def test_nobody_is_asked_unless_the_command_says_so(
    alta: Alta, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with running(TinyDicomWeb()) as server:
        monkeypatch.setattr("service.doctor.examination.CHECKS", [])
        monkeypatch.setenv("ALTA_DICOMWEB_ORIGINS", json.dumps({"pacs": server.url}))
        assert alta("doctor")[:2] == (0, "0 failures, 0 warnings.\n")
        assert server.asked == []
        code, out, _ = alta("doctor", "--network")
        assert code == 0 and "dicomweb pacs" in out
    code, out, _ = alta("doctor", "--pacs", "nowhere")
    assert code == 1 and "names no node" in out
    monkeypatch.delenv("ALTA_DICOMWEB_ORIGINS")
    assert "no other system is configured" in alta("doctor", "--network")[1]
