"""Studies of the archive and their renderings."""

import io
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from index import build_generation, embed_pending, ingest_folder, migrate, open_catalog
from tests.fakes import FakeEncoder
from tests.service_samples import A1, A2, B1, C1, REPORTS, Film, pattern, serve, settings_for

pytest_plugins = ["tests.service_fixtures"]


def picture(response) -> np.ndarray:
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(response.content)))


def test_a_study_and_its_report(client: TestClient) -> None:
    reply = client.get(f"/v1/studies/{A2}").json()
    assert reply["study"]["study_date"] == "2021-06-01"
    assert reply["study"]["views"] == ["LL", "PA"]
    assert reply["report"]["findings"] == REPORTS[A2]


def test_a_study_without_a_report(client: TestClient) -> None:
    assert client.get(f"/v1/studies/{C1}").json()["report"] is None


def test_nothing_that_identifies_the_patient_is_answered(client: TestClient) -> None:
    text = client.get(f"/v1/studies/{A1}").text
    assert "Secret" not in text
    assert "P1" not in text
    assert "patient" not in text


@pytest.mark.parametrize("path", ["/v1/studies/1.2.3.99", "/v1/studies/1.2.3.99/image"])
def test_an_unknown_study(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.json()["type"]) == (404, "/problems/unknown-study")


def test_a_uid_that_is_none(client: TestClient) -> None:
    assert client.get("/v1/studies/abc").json()["type"] == "/problems/invalid-request"


def test_the_frontal_image_shows_what_was_exposed(client: TestClient) -> None:
    pixels = picture(client.get(f"/v1/studies/{A1}/image"))
    assert pixels.shape == pattern(0).shape  # never enlarged
    assert pixels[:24, :24].mean() > pixels[24:, 24:].mean() + 50


def test_the_lateral_image(client: TestClient) -> None:
    lateral = picture(client.get(f"/v1/studies/{A2}/image?view=lateral"))
    assert not np.array_equal(lateral, picture(client.get(f"/v1/studies/{A2}/image")))


def test_size_bounds_the_longer_side(client: TestClient) -> None:
    assert picture(client.get(f"/v1/studies/{A1}/image?size=40")).shape == (40, 40)
    assert client.get(f"/v1/studies/{A1}/image?size=100000").status_code == 422


def test_a_study_without_that_view(client: TestClient) -> None:
    response = client.get(f"/v1/studies/{B1}/image?view=lateral")
    assert (response.status_code, response.json()["type"]) == (404, "/problems/no-such-image")


def test_a_rendering_may_be_kept_by_the_browser_and_is_not_sent_twice(client: TestClient) -> None:
    first = client.get(f"/v1/studies/{A1}/image")
    assert first.headers["cache-control"].startswith("private")
    again = client.get(f"/v1/studies/{A1}/image", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    smaller = client.get(f"/v1/studies/{A1}/image?size=40", headers={"If-None-Match": first.headers["etag"]})
    assert smaller.status_code == 200


def test_a_file_that_has_moved_since_it_was_ingested(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "film.dcm").write_bytes(Film(A1, 0).dicom())
    settings = settings_for(tmp_path / "data")
    migrate(settings.catalog_url)
    catalog = open_catalog(settings.catalog_url)
    ingest_folder(catalog, source, None)
    catalog.close()
    (source / "film.dcm").unlink()
    with serve(settings) as client:
        response = client.get(f"/v1/studies/{A1}/image")
    assert (response.status_code, response.json()["type"]) == (404, "/problems/no-such-image")
    assert str(tmp_path) not in response.text


def test_a_new_generation_is_searched_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.search.gallery.POLL_SECONDS", 0)
    source = tmp_path / "source"
    source.mkdir()
    settings = settings_for(tmp_path / "data")
    migrate(settings.catalog_url)
    with serve(settings) as client:
        assert client.get("/readyz").status_code == 503
        for number, uid in enumerate((A1, A2), 1):
            (source / f"{number}.dcm").write_bytes(Film(uid, number).dicom())
            catalog = open_catalog(settings.catalog_url)
            ingest_folder(catalog, source, None)
            embed_pending(catalog, FakeEncoder())
            live = build_generation(catalog, settings.generations_dir, FakeEncoder().fingerprint)
            catalog.close()
            reply = client.post("/v1/search/text-to-image", json={"text": "a"}).json()
            assert (len(reply["hits"]), reply["generation"]) == (number, live.id)
        assert client.get("/readyz").status_code == 200
