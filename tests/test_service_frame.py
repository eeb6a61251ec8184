"""What surrounds every call: health, limits, privacy, headers, documents."""

import dataclasses
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from model.checkpoint import Provenance
from service.app import create_app
from service.export_openapi import document
from service.settings import Settings
from tests.fakes import FakeEncoder
from tests.service_samples import A1, Film, form, png, serve, settings_for

pytest_plugins = ["tests.service_fixtures"]

ROOT = Path(__file__).parent.parent
IMAGE_TO_TEXT = "/v1/search/image-to-text"


def test_alive_and_ready(client: TestClient) -> None:
    assert client.get("/livez").json()["status"] == "ok"
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"], ready.json()["reasons"]) == (200, "ok", [])


def test_alive_but_not_ready_without_an_index(empty_client: TestClient) -> None:
    assert empty_client.get("/livez").status_code == 200
    ready = empty_client.get("/readyz")
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["empty-index"])


def test_not_ready_with_an_index_of_other_encoders(archive_folder: Path) -> None:
    with serve(settings_for(archive_folder), FakeEncoder(fingerprint="e" * 64)) as client:
        ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["model-mismatch"])


def test_not_ready_without_the_database(archive_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(settings_for(archive_folder)) as client:
        resources = client.app.state.resources

        def refused() -> None:
            raise ConnectionError("password=secret")

        monkeypatch.setattr(resources.gallery, "refresh", refused)
        ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["database-unavailable"])
    assert "secret" not in ready.text


def test_the_model_card_describes_the_encoders(client: TestClient) -> None:
    card = client.get("/v1/model").json()
    assert card["fingerprint"] == "f" * 64
    assert (card["dimension"], card["context_length"]) == (64, 32)
    assert "Pneumothorax" in card["findings"]
    assert card["provenance"]["trained_on"] == "unknown"
    assert "Not for clinical use" in card["provenance"]["notice"]


def test_the_model_card_and_the_page_show_where_the_encoders_come_from(archive_folder: Path) -> None:
    encoder = FakeEncoder()
    encoder.provenance = Provenance("demo", "simulated images", "Apache-2.0", "For demonstrations.")
    with serve(settings_for(archive_folder), encoder) as client:
        card = client.get("/v1/model").json()
        assert "provenance.notice" in client.get("/assets/modules/page.js").text
    assert card["provenance"] == dataclasses.asdict(encoder.provenance)


def test_the_service_stays_alive_while_the_encoder_works_and_encodes_one_request_at_a_time(
    archive_folder: Path,
) -> None:
    entered, finish = threading.Event(), threading.Event()
    finish.set()  # while it warms up
    running = 0

    class Slow(FakeEncoder):
        def encode_texts(self, texts):
            nonlocal running
            running += 1
            assert running == 1
            entered.set()
            assert finish.wait(10)
            running -= 1
            return super().encode_texts(texts)

    with serve(settings_for(archive_folder), Slow()) as client, ThreadPoolExecutor(4) as callers:
        entered.clear()
        finish.clear()
        asked = [callers.submit(client.post, "/v1/search/text-to-image", json={"text": "a"}) for _ in range(4)]
        assert entered.wait(10)
        assert client.get("/livez").status_code == 200
        finish.set()
        assert [answer.result().status_code for answer in asked] == [200] * 4


def test_an_upload_that_says_it_is_too_large_is_not_read(archive_folder: Path) -> None:
    with serve(settings_for(archive_folder, max_upload_mb=1)) as client:
        response = client.post(IMAGE_TO_TEXT, files=form(bytes(1_100_000)))
    assert (response.status_code, response.json()["type"]) == (413, "/problems/file-too-large")
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", [IMAGE_TO_TEXT, "/v1/search/text-to-image"])
def test_an_upload_that_does_not_say_how_large_it_is_is_stopped_at_the_limit(archive_folder: Path, path: str) -> None:
    def without_length():
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="f"\r\n\r\n'
        for _ in range(100):
            yield bytes(100_000)

    headers = {"content-type": "multipart/form-data; boundary=x" if path == IMAGE_TO_TEXT else "application/json"}
    with serve(settings_for(archive_folder, max_upload_mb=1)) as client:
        response = client.post(path, content=without_length(), headers=headers)
    assert (response.status_code, response.json()["type"]) == (413, "/problems/file-too-large")
    assert "1 MiB" in response.json()["detail"]


def test_the_log_names_neither_patient_nor_file_nor_study(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        client.post(IMAGE_TO_TEXT, files=form(Film("1.2.9.1", 1).dicom(), b"broken"))
        client.get(f"/v1/studies/{A1}")
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("service"))
    assert IMAGE_TO_TEXT in ours
    assert "/v1/studies/{study_instance_uid}" in ours
    for secret in ("Secret", "secret-name", A1, "1.2.9.1", "P1"):
        assert secret not in ours


def test_file_names_of_the_client_do_not_come_back(client: TestClient) -> None:
    assert "secret-name" not in client.post(IMAGE_TO_TEXT, files=form(png(), b"broken")).text
    assert "secret-name" not in client.post(IMAGE_TO_TEXT, files=form(b"broken")).text


def test_a_request_keeps_the_identifier_it_came_with(client: TestClient) -> None:
    assert client.get("/livez", headers={"X-Request-ID": "pacs-42"}).headers["x-request-id"] == "pacs-42"
    made = client.get("/livez", headers={"X-Request-ID": "two\twords"}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)


def test_answers_about_patients_are_not_stored_by_browsers(client: TestClient) -> None:
    headers = client.get(f"/v1/studies/{A1}").headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_a_page_that_rebinds_its_name_to_this_machine_is_not_answered(client: TestClient) -> None:
    response = client.get("/readyz", headers={"Host": "evil.example"})
    assert (response.status_code, response.json()["type"]) == (421, "/problems/unknown-host")
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        assert client.get("/readyz", headers={"Host": host}).status_code == 200


def test_a_health_check_may_use_any_name(client: TestClient) -> None:
    assert client.get("/livez", headers={"Host": "evil.example"}).status_code == 200


def test_host_names_can_be_set(archive_folder: Path) -> None:
    with serve(settings_for(archive_folder, allowed_hosts=("alta.hospital.example",))) as client:
        assert client.get("/readyz").status_code == 421
        assert client.get("/readyz", headers={"Host": "alta.hospital.example"}).status_code == 200


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALTA_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ALTA_MAX_TOP_K", "7")
    monkeypatch.setenv("ALTA_DEFAULT_TOP_K", "5")
    monkeypatch.setenv("ALTA_ALLOWED_HOSTS", '["a.example", "b.example"]')
    settings = Settings()
    assert settings.catalog_url == f"sqlite:///{tmp_path / 'alta.db'}"
    assert (settings.max_top_k, settings.default_top_k) == (7, 5)
    assert settings.host_names == ("a.example", "b.example")


def test_a_default_over_the_limit_is_refused() -> None:
    with pytest.raises(ValidationError, match="over max_top_k"):
        Settings(max_top_k=5, default_top_k=6)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1"])
def test_devices(device: str) -> None:
    assert Settings(device=device).device == device


@pytest.mark.parametrize("setting", [{"device": "gpu"}, {"device": "cuda:"}, {"dtype": "float16"}])
def test_a_device_or_dtype_that_is_none_is_refused_at_once(setting: dict) -> None:
    with pytest.raises(ValidationError):
        Settings(**setting)


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs/api.md").read_text()
    assert [name for name in Settings.model_fields if f"`ALTA_{name.upper()}`" not in text] == []


def test_creating_the_app_opens_nothing(tmp_path: Path) -> None:
    create_app(settings_for(tmp_path / "none", model_path=tmp_path / "no-model"))
    assert list(tmp_path.iterdir()) == []


def test_the_committed_openapi_document_is_current() -> None:
    committed = (ROOT / "docs/openapi.json").read_text()
    assert committed == document(), "run: python -m service.export_openapi > docs/openapi.json"


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_nothing_from_elsewhere_and_run_no_inline_script(client: TestClient, path: str) -> None:
    page = client.get(path)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert not re.search(r"https?://|<style|\sstyle=|\son\w+=", page.text)
    assert not re.search(r"<script(?![^>]*\ssrc=)", page.text)
    for address in re.findall(r'(?:src|href)="(assets/[^"]+)"', page.text):
        asset = client.get(f"/{address}")
        assert asset.status_code == 200
        assert asset.headers["content-type"].startswith(("text/javascript", "text/css", "image/svg+xml"))


def test_every_module_of_the_page_is_served_and_imports_only_its_neighbours(client: TestClient) -> None:
    known = {file.name for file in (ROOT / "service/web/modules").iterdir()}
    assert "page.js" in known
    for name in known:
        source = client.get(f"/assets/modules/{name}").text
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|innerHTML|insertAdjacentHTML|eval\(", source), name
        for imported in re.findall(r'from "([^"]+)"', source):
            assert imported.removeprefix("./") in known, (name, imported)


def test_only_the_known_assets_are_served(client: TestClient) -> None:
    assert client.get("/assets/index.html").status_code == 404
    assert client.get("/assets/..%2Fapp.py").status_code == 404
