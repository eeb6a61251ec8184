"""Where on the image a phrase is seen: over HTTP, in the pixels of the file as it was sent."""

import io
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from index import ingest_folder, migrate, open_catalog
from model.pixels import Box
from model.similarity_map import FilmGeometry
from service.render import render_overlay
from tests.service_samples import FILMS, SIDE, Film, form, png, serve, settings_for

pytest_plugins = ["tests.service_fixtures"]

PHRASE = {"phrase": "left effusion"}


def film(cell: int, **extra: object) -> bytes:
    """One bright cell of a 4 x 4 grid: the fake encoder's map peaks there."""
    return Film("1.2.3", cell, extra=extra).dicom()


def peak(values: list[list[float]]) -> tuple[int, int]:
    row, column = np.unravel_index(np.argmax(values), np.shape(values))
    return int(row), int(column)


def test_the_map_is_in_the_pixels_of_the_film(client: TestClient) -> None:
    reply = client.post("/v1/similarity-map", files=form(film(6)), data=PHRASE).json()
    assert (reply["rows"], reply["columns"]) == (SIDE, SIDE)
    assert reply["box"] == {"top": 0, "left": 0, "bottom": SIDE, "right": SIDE}
    assert np.shape(reply["values"]) == (4, 4) and peak(reply["values"]) == (1, 2)
    assert reply["highest"] == pytest.approx(np.max(reply["values"]), abs=1e-4)
    assert reply["lowest"] == pytest.approx(np.min(reply["values"]), abs=1e-4)
    assert [word["word"] for word in reply["words"]] == ["left", "effusion"]
    assert all(peak(word["values"]) == (1, 2) for word in reply["words"])
    assert -1 <= reply["score"] <= 1 and reply["phrase"] == PHRASE["phrase"]
    assert reply["model_fingerprint"] == "f" * 64
    assert "no proof of a finding" in reply["statement"]


@pytest.mark.parametrize("orientation", [["R", "F"], ["L", "H"], ["R", "H"]])
def test_a_film_that_is_stored_mirrored_has_its_map_in_stored_pixels(
    client: TestClient, orientation: list[str]
) -> None:
    mirrored = film(6, PatientOrientation=orientation)
    assert peak(client.post("/v1/similarity-map", files=form(mirrored), data=PHRASE).json()["values"]) == (1, 2)
    shown = client.post("/v1/similarity-map", files=form(mirrored), data=PHRASE | {"format": "png", "size": SIDE})
    pixels = np.asarray(Image.open(io.BytesIO(shown.content))).astype(int)
    colour = np.ptp(pixels, axis=2).reshape(4, SIDE // 4, 4, SIDE // 4).mean((1, 3))
    row, column = peak(colour.tolist())
    upright = (1 if orientation[1] == "F" else 2, 2 if orientation[0] == "L" else 1)
    assert (row, column) == upright


def test_a_png_lies_over_the_film_in_its_own_shape(client: TestClient) -> None:
    picture = io.BytesIO()
    Image.fromarray(np.pad(np.full((40, 40), 200, np.uint8), ((10, 10), (50, 50)))).save(picture, "PNG")
    reply = client.post(
        "/v1/similarity-map", files=form(picture.getvalue()), data=PHRASE, headers={"Accept": "image/png"}
    )
    assert reply.headers["content-type"] == "image/png" and reply.headers["x-model-fingerprint"] == "f" * 64
    shown = np.asarray(Image.open(io.BytesIO(reply.content)))
    assert shown.shape == (60, 140, 3)  # never enlarged
    coloured = np.ptp(shown.astype(int), axis=2) > 0
    assert coloured.any() and not coloured[:, :40].any() and not coloured[:, 100:].any()  # the crop is 60 px wide
    small = client.post(
        "/v1/similarity-map", files=form(picture.getvalue()), data=PHRASE | {"format": "png", "size": 70}
    )
    assert Image.open(io.BytesIO(small.content)).size == (70, 30)


def test_json_is_the_answer_unless_a_png_is_asked_for_alone(client: TestClient) -> None:
    for accept in ("*/*", "image/png, application/json", "text/html,image/png;q=0.8"):
        reply = client.post("/v1/similarity-map", files=form(png()), data=PHRASE, headers={"Accept": accept})
        assert reply.headers["content-type"] == "application/json"
    reply = client.post(
        "/v1/similarity-map", files=form(png()), data=PHRASE | {"format": "json"}, headers={"Accept": "image/png"}
    )
    assert reply.headers["content-type"] == "application/json"


def test_a_study_of_the_archive_has_a_map(client: TestClient) -> None:
    known = FILMS[0]
    reply = client.post("/v1/similarity-map", data=PHRASE | {"study_instance_uid": known.study}).json()
    assert reply["query"]["from_archive"] and reply["query"]["study_instance_uid"] == known.study
    sent = client.post("/v1/similarity-map", files=form(known.dicom()), data=PHRASE).json()
    assert reply["values"] == sent["values"] and reply["score"] == sent["score"]


@pytest.mark.parametrize(
    ("files", "data", "slug"),
    [
        ([png()], {"phrase": "..."}, "phrase-without-words"),
        ([png()], {"phrase": "effusion " * 40}, "phrase-too-long"),
        ([png()], {"phrase": "effusion", "views": "lateral"}, "no-frontal-image"),
        ([b"no image"], {"phrase": "effusion"}, "not-an-image"),
        ([], {"phrase": "effusion"}, "no-file"),
        ([], {"phrase": "effusion", "study_instance_uid": "9.9"}, "unknown-study"),
        ([png()], {"phrase": "effusion", "study_instance_uid": FILMS[0].study}, "bad-query"),
    ],
)
def test_what_has_no_map_is_a_problem(client: TestClient, files: list[bytes], data: dict[str, str], slug: str) -> None:
    reply = client.post("/v1/similarity-map", files=form(*files) or None, data=data)
    assert 400 <= reply.status_code < 500
    assert reply.json()["type"] == f"/problems/{slug}"


def test_a_phrase_is_needed(client: TestClient) -> None:
    for data in ({}, {"phrase": ""}):
        assert client.post("/v1/similarity-map", files=form(png()), data=data).status_code == 422


def test_a_blank_image_has_no_map(client: TestClient) -> None:
    blank = io.BytesIO()
    Image.new("L", (50, 50), 9).save(blank, "PNG")
    reply = client.post("/v1/similarity-map", files=form(blank.getvalue()), data=PHRASE)
    assert reply.json()["type"] == "/problems/blank-image"


def test_an_archived_file_that_has_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    settings, source = settings_for(tmp_path / "data"), tmp_path / "source"
    source.mkdir()
    (source / "film.dcm").write_bytes(film(6))
    migrate(settings.catalog_url)
    catalog = open_catalog(settings.catalog_url)
    ingest_folder(catalog, source)
    catalog.close()
    with serve(settings) as client:
        asked = PHRASE | {"study_instance_uid": "1.2.3"}
        assert client.post("/v1/similarity-map", data=asked).status_code == 200
        (source / "film.dcm").unlink()
        assert client.post("/v1/similarity-map", data=asked).json()["type"] == "/problems/no-such-image"


def test_the_film_stays_as_it_is_where_the_map_is_low() -> None:
    picture = io.BytesIO()
    grey = np.tile(np.arange(80, dtype=np.uint8) * 3, (80, 1))
    Image.fromarray(grey).save(picture, "PNG")
    values = np.zeros((4, 4), np.float32)
    values[0, 0] = 1
    geometry = FilmGeometry(80, 80, seen=Box(0, 0, 80, 80))
    shown = np.asarray(Image.open(io.BytesIO(render_overlay(picture.getvalue(), 80, values, geometry)))).astype(int)
    assert (shown[40:, 40:] == grey[40:, 40:, None]).all()
    red, green, blue = shown[5, 5]
    assert red > blue and green > blue  # the yellow end of the colours
