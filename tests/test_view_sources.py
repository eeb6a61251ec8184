"""Who tells an image's view: the client, the header, the manifest, else the picture, else nobody."""

import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from PIL import Image

from index import Catalog, describe_dicom, find_study, ingest_folder, ingest_manifest, study_slots
from index.reports.texts import study_uid_of
from index.tables import Instance
from model.simulation import render, simulate_studies
from tests.conftest import WriteDicom, chest_dataset
from tests.service_samples import Film, form, png

pytest_plugins = ["tests.service_fixtures"]

SIDE = 128
NEW = "1.2.9.7"


@cache
def film(view: str) -> np.ndarray:
    """uint8 (SIDE, SIDE): a simulated radiograph that the classifier tells."""
    study = next(study for study, _ in simulate_studies(7102, 20) if study.has_lateral and not study.findings)
    return np.round(render(study, view, SIDE) * 255).astype(np.uint8)  # type: ignore[arg-type]


def pixels(view: str) -> dict[str, object]:
    return {"Rows": SIDE, "Columns": SIDE, "PixelData": (film(view).astype("<u2") * 16).tobytes()}


def picture(view: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(film(view)).save(stream, "PNG")
    return stream.getvalue()


def told(catalog: Catalog) -> dict[str, tuple[str | None, str | None]]:
    """View and who told it, by file name."""
    with catalog.session() as session:
        rows = session.scalars(sa.select(Instance))
        return {Path(row.path).name: (row.view, row.view_source) for row in rows}


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, ("frontal", "header")),
        ({"ViewPosition": "LL"}, ("lateral", "header")),
        ({"ViewPosition": None, "PatientOrientation": ["P", "F"]}, ("lateral", "header")),
        ({"ViewPosition": None, "SeriesDescription": "Chest lateral"}, ("lateral", "header")),
        ({"ViewPosition": "RLO"}, ("unknown", "header")),
        ({"ViewPosition": None, "SeriesDescription": "Chest oblique"}, ("unknown", "header")),
        ({"ViewPosition": None}, ("unknown", None)),
        ({"ViewPosition": None, "SeriesDescription": "PA AND LATERAL"}, ("unknown", None)),
        ({"ViewPosition": "XYZ"}, ("unknown", None)),
    ],
)
def test_the_header_is_the_source_where_it_tells_a_view(
    tags: dict[str, object], expected: tuple[str, str | None]
) -> None:
    facts = describe_dicom(chest_dataset(**tags))  # type: ignore[arg-type]
    assert (facts.view, facts.view_source) == expected


def test_a_silent_header_leaves_the_view_to_the_picture(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    silent = {"ViewPosition": None}
    write_dicom("f.dcm", seed=1, **silent, **pixels("frontal"))
    write_dicom("l.dcm", seed=2, **silent, **pixels("lateral"))
    write_dicom("noise.dcm", seed=3, **silent)
    write_dicom("named.dcm", seed=4, **pixels("lateral"))  # the header says PA and is believed
    write_dicom("oblique.dcm", seed=5, ViewPosition="LAO", **pixels("frontal"))
    for _ in range(2):
        ingest_folder(catalog, archive, workers=0)
        assert told(catalog) == {
            "f.dcm": ("frontal", "classifier"),
            "l.dcm": ("lateral", "classifier"),
            "noise.dcm": ("unknown", None),
            "named.dcm": ("frontal", "header"),
            "oblique.dcm": ("unknown", "header"),
        }
    assert study_slots(catalog, "1.2.3.1")["current_lateral"].name == "l.dcm"


def test_a_worker_process_tells_views_too(sqlite_catalog: Catalog, archive: Path, write_dicom: WriteDicom) -> None:
    write_dicom("l.dcm", ViewPosition=None, **pixels("lateral"))
    ingest_folder(sqlite_catalog, archive, workers=1)
    assert told(sqlite_catalog) == {"l.dcm": ("lateral", "classifier")}


def test_a_manifest_goes_before_header_and_picture(catalog: Catalog, tmp_path: Path, write_dicom: WriteDicom) -> None:
    write_dicom("silent.dcm", seed=1, ViewPosition=None, **pixels("lateral"))
    write_dicom("pa.dcm", seed=2, **pixels("lateral"))
    (tmp_path / "archive" / "l.png").write_bytes(picture("lateral"))
    manifest = tmp_path / "archive" / "manifest.csv"
    names = ("silent.dcm", "pa.dcm", "l.png")

    def ingest(*views: str) -> dict[str, tuple[str | None, str | None]]:
        rows = [f"{name},s1,{name},{view}" for name, view in zip(names, views, strict=True)]
        manifest.write_text("\n".join(["sop_instance_uid,study_id,image_path,view", *rows]) + "\n")
        ingest_manifest(catalog, manifest, workers=0)
        return told(catalog)

    expected = dict(
        zip(names, [("lateral", "classifier"), ("frontal", "header"), ("lateral", "classifier")], strict=True)
    )
    assert ingest("", "", "") == expected
    assert ingest("", "", "") == expected  # read from the rows this time
    assert ingest("AP", "L", "oblique") == dict(
        zip(names, [("frontal", "manifest"), ("lateral", "manifest"), ("unknown", "manifest")], strict=True)
    )


def test_a_study_of_pictures_without_views_is_arranged_by_what_they_show(catalog: Catalog, tmp_path: Path) -> None:
    for view in ("frontal", "lateral"):
        (tmp_path / f"{view}.png").write_bytes(picture(view))
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("study_id,image_path\ns1,lateral.png\ns1,frontal.png\n")
    ingest_manifest(catalog, manifest, workers=0)
    slots = study_slots(catalog, study_uid_of("s1"))
    assert {slot: path.name for slot, path in slots.items()} == {
        "current_frontal": "frontal.png",
        "current_lateral": "lateral.png",
    }
    assert find_study(catalog, study_uid_of("s1")).views == ("frontal", "lateral")


def asked(client: TestClient, *contents: bytes, **data: object) -> list[tuple[str | None, str | None, str | None]]:
    """(slot, view, view_source) of each file sent."""
    reply = client.post("/v1/search/image-to-text", files=form(*contents), data=data).json()
    return [(file["slot"], file["view"], file["view_source"]) for file in reply.get("query", reply)["files"]]


def test_a_picture_that_shows_a_lateral_chest_fills_the_lateral_slot(client: TestClient) -> None:
    assert asked(client, picture("lateral"), picture("frontal"), png()) == [
        ("current_lateral", "lateral", "classifier"),
        ("current_frontal", "frontal", "classifier"),
        (None, "frontal", "assumed"),
    ]


def test_a_lone_lateral_picture_is_no_query_unless_the_client_calls_it_frontal(client: TestClient) -> None:
    reply = client.post("/v1/search/image-to-text", files=form(picture("lateral")))
    assert reply.status_code == 422 and reply.json()["type"].endswith("no-frontal-image")
    assert asked(client, picture("lateral")) == [(None, "lateral", "classifier")]
    assert asked(client, picture("lateral"), views="AP") == [("current_frontal", "frontal", "client")]


def test_an_uploaded_dicom_file_without_a_view_shows_its_own(client: TestClient) -> None:
    silent = Film(NEW, 2, view=None, extra=pixels("lateral")).dicom()
    assert asked(client, silent, Film(NEW, 3).dicom(), Film(NEW, 4, view=None).dicom()) == [
        ("current_lateral", "lateral", "classifier"),
        ("current_frontal", "frontal", "header"),
        (None, "unknown", None),
    ]
    oblique = Film(NEW, 5, view="RAO", extra=pixels("lateral")).dicom()
    assert asked(client, oblique) == [("current_frontal", "unknown", "header")]
