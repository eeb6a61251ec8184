"""A chest radiograph passes; what is inverted, turned, blank or something else does not."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from index.generations.scores import ArchiveScores
from model.image import read_radiograph
from model.simulation import render, simulate_patient
from model.thumbnails import SIDE, coarse, probabilities, thumbnail
from model.training.thumbnail_network import ThumbnailNetwork
from model.training.unlike import WIDTHS, likeness_pictures, thumbnails_of
from model.unlike import CLASSES, WEIGHTS, appearance_of, judge_picture, load_weights
from tests.service_samples import FILMS, form, png, serve, settings_for

pytest_plugins = ["tests.service_fixtures"]

SEED = 7199  # patients that neither trained, chose a threshold nor judge


@pytest.fixture(scope="module")
def films() -> list[np.ndarray]:
    patients = (simulate_patient(SEED, number) for number in range(20))
    return [render(study, view, 256) for patient in patients for study in patient.studies[:1] for view in study.views]


def test_radiographs_pass(films: list[np.ndarray]) -> None:
    assert {judge_picture(film) for film in films} == {"chest"}


def test_inverted_radiographs_are_told(films: list[np.ndarray]) -> None:
    assert {judge_picture(1 - film) for film in films} == {"inverted"}


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turned_radiographs_are_told(films: list[np.ndarray], quarters: int) -> None:
    assert {judge_picture(np.ascontiguousarray(np.rot90(film, quarters))) for film in films} == {"turned"}


def test_a_mirrored_film_and_another_exposure_are_no_matter(films: list[np.ndarray]) -> None:
    for film in films[:10]:
        assert judge_picture(np.ascontiguousarray(film[:, ::-1])) == "chest"
        assert judge_picture(0.3 + 0.2 * film**2) == "chest"


def test_a_film_with_hardly_any_contrast_is_blank(films: list[np.ndarray]) -> None:
    flat = 0.5 + 0.01 * films[0]
    assert judge_picture(flat) == "blank"
    flat[:20, :40] = 1  # a label makes no radiograph of it
    assert judge_picture(flat) == "blank"


def test_other_pictures_seldom_pass() -> None:
    found = [
        judge_picture(picture)
        for number in range(30)
        for name, picture in likeness_pictures(simulate_patient(SEED, number).studies[0], np.random.default_rng(number))
        if name == "other"
    ]
    assert len(found) == 240
    assert found.count("chest") < 0.1 * len(found) and found.count("unlike") > 0.4 * len(found)


def test_what_is_too_small_to_tell_is_doubtful() -> None:
    assert judge_picture(np.eye(20, dtype=np.float32)) == "doubtful"


@pytest.mark.parametrize(
    ("scores", "colour", "expected"),
    [
        ((0.9, 0.0, 0.0, 0.1), 0.0, "chest"),
        ((0.02, 0.02, 0.02, 0.94), 0.0, "unlike"),
        ((0.1, 0.05, 0.05, 0.8), 0.0, "doubtful"),
        ((0.1, 0.5, 0.1, 0.3), 0.0, "inverted"),
        ((0.1, 0.1, 0.5, 0.3), 0.0, "turned"),
        ((0.35, 0.35, 0.2, 0.1), 0.0, "chest"),
        ((0.9, 0.0, 0.0, 0.1), 0.2, "doubtful"),
        ((0.4, 0.0, 0.0, 0.6), 0.2, "unlike"),
    ],
)
def test_scores_become_an_answer(scores: tuple[float, ...], colour: float, expected: str) -> None:
    assert appearance_of(np.array(scores, np.float32), colour) == expected


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.round(255 * pixels).astype(np.uint8)).save(stream, form)
    return stream.getvalue()


def test_a_tint_is_no_colour_and_a_photograph_is(films: list[np.ndarray]) -> None:
    grey = films[0]
    assert read_radiograph(encoded(grey)).colour == 0
    tinted = grey[:, :, None] * np.array([0.75, 0.9, 1])
    for kind in ("PNG", "JPEG"):
        assert read_radiograph(encoded(tinted, kind)).colour < 0.01
    marked = np.repeat(grey[:, :, None], 3, axis=2)
    marked[20:40, 30:90] = (1, 0, 0)
    assert read_radiograph(encoded(marked)).colour < 0.1
    photograph = np.stack([np.roll(grey, 60 * channel, axis=0) for channel in range(3)], axis=2)
    assert read_radiograph(encoded(photograph)).colour > 0.3


def test_the_shipped_weights_give_in_numpy_what_they_give_in_torch() -> None:
    weights = load_weights(WEIGHTS)
    network = ThumbnailNetwork(WIDTHS, len(CLASSES)).eval()
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    looks, _ = thumbnails_of(SEED, 2, workers=1)
    assert looks.shape[1:] == (SIDE, SIDE)
    with torch.no_grad():
        expected = network(torch.from_numpy(looks)).softmax(1).numpy()
    np.testing.assert_allclose(probabilities(weights, looks), expected, atol=1e-5)


def test_a_coarse_picture_has_the_thumbnail_of_the_picture(films: list[np.ndarray]) -> None:
    large = np.kron(films[0], np.ones((3, 4), np.float32))
    assert (thumbnail(coarse(large)) == thumbnail(large)).all()


def test_decoder_processes_need_no_torch_to_judge() -> None:
    code = (
        "import sys, numpy; from model.unlike import judge_picture; judge_picture(numpy.eye(64)); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def checking(archive_folder: str) -> TestClient:  # type: ignore[misc]
    with serve(settings_for(archive_folder, check_images=True)) as client:  # type: ignore[arg-type]
        yield client  # type: ignore[misc]


def ask(client: TestClient, data: bytes, **fields: object) -> dict:
    return client.post("/v1/search/image-to-image", files=form(data), data=fields).json()


def test_a_query_that_is_no_chest_radiograph_is_refused_and_can_be_sent_anyway(checking: TestClient) -> None:
    reply = ask(checking, png())
    assert reply["type"] == "/problems/unlike-a-chest-radiograph"
    assert "check_image=false" in reply["detail"]
    assert reply["files"][0]["reason"] == "unlike-a-chest-radiograph"
    assert ask(checking, png(), check_image="false")["hits"]


def test_a_query_without_contrast_is_refused(checking: TestClient, films: list[np.ndarray]) -> None:
    assert ask(checking, encoded(0.5 + 0.015 * films[0]))["type"] == "/problems/blank-image"


def test_a_radiograph_is_searched_with_without_a_word(checking: TestClient, films: list[np.ndarray]) -> None:
    assert [warning["code"] for warning in ask(checking, encoded(films[0]))["warnings"]] == []


def test_an_inverted_or_turned_query_is_searched_with_and_said_to_be(
    checking: TestClient, films: list[np.ndarray]
) -> None:
    for film, code in ((1 - films[0], "looks-inverted"), (np.rot90(films[0], 2), "looks-turned")):
        reply = ask(checking, encoded(film))
        assert reply["hits"]
        assert [warning["code"] for warning in reply["warnings"]] == [code]
        assert ask(checking, encoded(film), check_image="false")["warnings"] == []


def test_only_what_is_searched_with_is_warned_of(checking: TestClient, films: list[np.ndarray]) -> None:
    """A second frontal image that fills no slot says nothing."""
    sent = form(encoded(films[0]), encoded(1 - films[0]))
    reply = checking.post("/v1/search/image-to-image", files=sent, data={"views": ["frontal", "frontal"]}).json()
    assert reply["warnings"] == [] and [file["status"] for file in reply["query"]["files"]] == ["used", "unused"]


def test_a_query_unlike_the_archive_is_said_to_be(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def is_unlike(scores: ArchiveScores, nearest: float) -> bool:
        asked.append(nearest)
        return True

    monkeypatch.setattr(ArchiveScores, "is_unlike", is_unlike)
    film = FILMS[0]

    def codes(files: list[bytes], **fields: str) -> list[str]:
        reply = client.post("/v1/search", files=form(*files) or None, data={"rank_by": "report", **fields}).json()
        return [warning["code"] for warning in reply["warnings"]]

    assert codes([film.dicom()]) == ["query-unlike-archive"]
    hits = ask(client, film.dicom())["hits"]
    assert asked[0] == pytest.approx(hits[0]["score"])  # by image and of another patient, whatever is ranked by
    assert codes([], study_instance_uid=film.study) == []  # it is of the archive
    assert codes([film.dicom()], text="effusion") == []  # what is asked for need not be there
    monkeypatch.setattr(ArchiveScores, "is_unlike", lambda scores, nearest: False)
    assert codes([film.dicom()]) == []
