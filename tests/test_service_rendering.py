"""An image that is sent, as the page shows it; and what the page is told of the hospital's viewer."""

import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import ValidationError

from service.settings import Settings
from tests.service_samples import A1, SIDE, Film, jpeg, pattern, png

pytest_plugins = ["tests.service_fixtures"]


def rendered(client: TestClient, data: bytes, **form: object) -> np.ndarray:
    answer = client.post("/v1/rendering", files={"file": ("secret.dcm", data)}, data=form)
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    assert answer.headers["cache-control"] == "private, no-store"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_an_image_is_rendered_as_the_archive_renders_its_own(client: TestClient) -> None:
    sent = rendered(client, Film(A1, 0, date="20200101", age="050Y").dicom(), size=SIDE)
    archived = client.get(f"/v1/studies/{A1}/image", params={"size": SIDE}).content
    assert np.array_equal(sent, np.asarray(Image.open(io.BytesIO(archived))))
    assert np.corrcoef(sent.ravel(), pattern(0).ravel())[0, 1] > 0.99


def test_what_no_search_takes_is_shown_too(client: TestClient) -> None:
    assert rendered(client, Film("1.2.3", 4, body_part="HIP").dicom(), size=32).shape == (32, 32)
    assert rendered(client, Film("1.2.3", 4, view="LL").dicom()).shape == (SIDE, SIDE)  # never enlarged
    assert rendered(client, png()).shape == rendered(client, jpeg()).shape == (SIDE, SIDE)


@pytest.mark.parametrize(
    ("data", "status", "slug"),
    [(b"", 422, "empty-file"), (b"no image", 415, "not-an-image"), (png()[:200], 422, "truncated")],
)
def test_what_cannot_be_decoded_is_told(client: TestClient, data: bytes, status: int, slug: str) -> None:
    answer = client.post("/v1/rendering", files={"file": ("secret.dcm", data)})
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")
    assert "secret" not in answer.text


@pytest.mark.parametrize("size", [15, 2049])
def test_the_size_has_limits(client: TestClient, size: int) -> None:
    assert client.post("/v1/rendering", files={"file": ("a", png())}, data={"size": size}).status_code == 422


@pytest.mark.parametrize(
    "template",
    [
        "https://viewer.example/studies",  # names no study
        "javascript:alert({study_instance_uid})",
        "https:///{study_instance_uid}",
        "https://viewer.example/{patient_id}/{study_instance_uid}",
        "https://viewer.example/{study_instance_uid",
        "https://viewer.example/{study_instance_uid} x",
    ],
)
def test_a_viewer_that_is_no_address_of_a_study_is_refused(template: str) -> None:
    with pytest.raises(ValidationError, match="study_instance_uid"):
        Settings(viewer_url=template)


def test_the_viewer_is_optional() -> None:
    assert Settings().viewer_url == ""
    template = "https://ohif.example/viewer?StudyInstanceUIDs={study_instance_uid}"
    assert Settings(viewer_url=template).viewer_url == template
