"""Errors: problem documents with stable types that can be followed."""

import ast
import logging
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from index import migrate
from model import errors as model_errors
from service.problems import PROBLEMS
from tests.fakes import FakeEncoder
from tests.service_samples import Film, form, png, serve, settings_for

pytest_plugins = ["tests.service_fixtures"]

NEW = "1.2.9.1"
IMAGE_TO_TEXT = "/v1/search/image-to-text"
ROOT = Path(__file__).parent.parent


def assert_problem(response, slug: str, status: int) -> dict:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["type"], body["status"], response.status_code) == (f"/problems/{slug}", status, status), body
    assert body["title"] and body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    return body


FILES = [
    ([b""], "empty-file", 422),
    ([b"some text"], "not-an-image", 415),
    ([png()[:200]], "truncated", 422),
    ([Film(NEW, 1, modality="CT").dicom()], "wrong-modality", 422),
    ([Film(NEW, 1, body_part="HAND").dicom()], "not-a-chest-radiograph", 422),
    ([Film(NEW, 1, extra={"PresentationIntentType": "FOR PROCESSING"}).dicom()], "for-processing", 422),
    ([Film(NEW, 1).dicom()[:-900]], "truncated", 422),
    ([Film(NEW, 1, extra={"PhotometricInterpretation": "RGB"}).dicom()], "unsupported-photometric", 422),
    ([Film(NEW, 1, extra={"NumberOfFrames": 2}).dicom()], "multi-frame", 422),
    ([Film(NEW, 1, extra={"PixelData": bytes(96 * 96 * 2)}).dicom()], "blank-image", 422),
    ([Film(NEW, 1).dicom(), Film("1.2.9.2", 1).dicom()], "several-studies", 422),
    ([Film(NEW, 1, view="LL").dicom()], "no-frontal-image", 422),
    ([Film(NEW, 1, view="LL").dicom(), b"text"], "no-frontal-image", 422),
]


@pytest.mark.parametrize("path", [IMAGE_TO_TEXT, "/v1/search/image-to-image", "/v1/zero-shot"])
@pytest.mark.parametrize(("files", "slug", "status"), FILES)
def test_files_that_cannot_be_used(client: TestClient, path: str, files: list[bytes], slug: str, status: int) -> None:
    body = assert_problem(client.post(path, files=form(*files)), slug, status)
    assert [file["position"] for file in body["files"]] == list(range(len(files)))


def test_when_every_file_is_refused_the_first_reason_counts_and_all_are_told(client: TestClient) -> None:
    response = client.post(IMAGE_TO_TEXT, files=form(Film(NEW, 1, modality="MG").dicom(), b""))
    body = assert_problem(response, "wrong-modality", 422)
    assert [file["reason"] for file in body["files"]] == ["wrong-modality", "empty-file"]


@pytest.mark.parametrize(
    "prior",
    [
        Film(NEW, 1, date="20100101"),
        Film("1.2.9.2", 1, date="20300101"),
        Film("1.2.9.2", 1, date="20200101", extra={"StudyTime": "120001"}),
        Film("1.2.9.2", 1, date="20100101", patient="P9"),
    ],
)
def test_a_prior_must_be_an_earlier_study_of_the_same_patient(client: TestClient, prior: Film) -> None:
    files = form(Film(NEW, 1).dicom()) + form(prior.dicom(), field="prior_files")
    assert_problem(client.post(IMAGE_TO_TEXT, files=files), "bad-prior", 422)


@pytest.mark.parametrize("views", [["PA", "LL"], ["upside-down"]])
def test_views_must_fit_the_files(client: TestClient, views: list[str]) -> None:
    assert_problem(client.post(IMAGE_TO_TEXT, files=form(png()), data={"views": views}), "bad-view", 422)


def test_no_file(client: TestClient) -> None:
    assert_problem(client.post(IMAGE_TO_TEXT, data={"top_k": 3}), "no-file", 422)


def test_too_many_files(client: TestClient) -> None:
    assert_problem(client.post(IMAGE_TO_TEXT, files=form(*[png()] * 9)), "too-many-files", 413)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_empty_text(client: TestClient, text: str) -> None:
    assert_problem(client.post("/v1/search/text-to-image", json={"text": text}), "text-empty", 422)


@pytest.mark.parametrize("top_k", [0, -1, 101, "many"])
def test_top_k_out_of_range(client: TestClient, top_k: object) -> None:
    response = client.post("/v1/search/text-to-image", json={"text": "a", "top_k": top_k})
    assert_problem(response, "top-k-out-of-range", 422)
    response = client.post(IMAGE_TO_TEXT, files=form(png()), data={"top_k": top_k})
    assert_problem(response, "top-k-out-of-range", 422)


@pytest.mark.parametrize(
    "filters",
    [
        {"modality": ["CT"]},
        {"view": ["oblique"]},
        {"sex": ["X"]},
        {"date_from": "yesterday"},
        {"date_from": "2024-01-02", "date_to": "2024-01-01"},
        {"age_min": 60, "age_max": 50},
        {"age_min": -1},
        {"exclude_study": ["not a UID"]},
    ],
)
def test_bad_filters(client: TestClient, filters: dict) -> None:
    response = client.post("/v1/search/text-to-image", json={"text": "a", "filters": filters})
    assert_problem(response, "bad-filter", 422)
    assert_problem(client.post(IMAGE_TO_TEXT, files=form(png()), data=filters), "bad-filter", 422)


@pytest.mark.parametrize("name", ["exclude_study", "exclude_patient_of"])
def test_a_list_of_exclusions_has_a_limit(client: TestClient, name: str) -> None:
    filters = {name: ["1.2.3"] * 1001}
    response = client.post("/v1/search/text-to-image", json={"text": "a", "filters": filters})
    assert "1000" in assert_problem(response, "bad-filter", 422)["detail"]
    response = client.post(IMAGE_TO_TEXT, files=form(png()), data=filters)
    assert "1000" in assert_problem(response, "bad-filter", 422)["detail"]


def test_an_unknown_filter_is_refused_rather_than_ignored(client: TestClient) -> None:
    response = client.post("/v1/search/text-to-image", json={"text": "a", "filters": {"colour": "red"}})
    assert_problem(response, "bad-filter", 422)


def test_validation_errors_name_the_field_and_do_not_repeat_the_value(client: TestClient) -> None:
    response = client.post("/v1/search/text-to-image", json={"text": {"patient": "Secret^Patient"}})
    body = assert_problem(response, "invalid-request", 422)
    assert body["errors"][0]["location"] == ["body", "text"]
    assert "Secret" not in response.text


def test_a_body_that_is_no_json(client: TestClient) -> None:
    response = client.post("/v1/search/text-to-image", content=b"{", headers={"content-type": "application/json"})
    assert_problem(response, "bad-request", 400)


def test_a_broken_form(client: TestClient) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert_problem(client.post(IMAGE_TO_TEXT, content=b"--y\r\nnonsense", headers=headers), "bad-request", 400)


def test_nothing_at_the_address(client: TestClient) -> None:
    assert_problem(client.get("/v2/search"), "not-found", 404)


def test_a_method_that_is_not_offered(client: TestClient) -> None:
    response = client.get(IMAGE_TO_TEXT)
    assert_problem(response, "method-not-allowed", 405)
    assert response.headers["allow"] == "POST"


def test_nothing_to_search_in_yet(empty_client: TestClient) -> None:
    assert_problem(empty_client.post(IMAGE_TO_TEXT, files=form(png())), "empty-index", 503)
    assert_problem(empty_client.post("/v1/search/text-to-image", json={"text": "a"}), "empty-index", 503)


def test_zero_shot_needs_no_index(empty_client: TestClient) -> None:
    assert empty_client.post("/v1/zero-shot", files=form(png())).status_code == 200


def test_an_index_of_other_encoders(archive_folder: Path) -> None:
    with serve(settings_for(archive_folder), FakeEncoder(fingerprint="e" * 64)) as client:
        assert_problem(client.post("/v1/search/text-to-image", json={"text": "a"}), "model-mismatch", 503)


def test_a_defect_is_answered_without_its_message(archive_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeEncoder):
        def encode_texts(self, texts):
            if "break" in texts:  # not while it warms up
                raise RuntimeError(Film(NEW, 1).name)
            return super().encode_texts(texts)

    with serve(settings_for(archive_folder), Broken()) as client, caplog.at_level(logging.INFO):
        response = client.post("/v1/search/text-to-image", json={"text": "break"})
    assert_problem(response, "internal-error", 500)
    assert "Secret" not in response.text
    assert "Secret" not in caplog.text
    assert "RuntimeError" in caplog.text


@pytest.mark.parametrize("slug", sorted(PROBLEMS))
def test_every_problem_type_can_be_followed(client: TestClient, slug: str) -> None:
    response = client.get(f"/problems/{slug}")
    assert response.status_code == 200
    assert response.text.startswith(PROBLEMS[slug].title)


def test_an_unknown_problem_type(client: TestClient) -> None:
    assert_problem(client.get("/problems/no-such-thing"), "not-found", 404)


def test_every_reason_an_image_is_refused_for_is_a_problem_type() -> None:
    slugs = set()
    for path in (ROOT / "model/image.py", ROOT / "index/dicom.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("ImageError", "Refusal"):
                slugs |= {a.value for a in node.args if isinstance(a, ast.Constant) and _is_slug(a.value)}
    assert len(slugs) > 10
    assert slugs <= set(PROBLEMS)
    assert model_errors.InputError.slug in PROBLEMS
    assert model_errors.ArchiveError.slug in PROBLEMS


def _is_slug(value: object) -> bool:
    return isinstance(value, str) and value == value.lower() and "-" in value and " " not in value


def test_the_documentation_lists_every_problem_type() -> None:
    text = (ROOT / "docs/api.md").read_text()
    assert [slug for slug in PROBLEMS if f"`{slug}`" not in text] == []


def test_a_text_that_postgresql_cannot_hold_is_refused(postgres_url: str, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, database_url=postgres_url)
    migrate(settings.catalog_url)
    with serve(settings) as client:
        for query in ("accession_number=A%00", "accession_number=A&accession_institution=N%00"):
            assert_problem(client.get(f"/v1/studies?{query}"), "invalid-request", 422)


def test_a_look_up_takes_no_body_as_large_as_a_study(client: TestClient) -> None:
    found = client.request("GET", "/v1/studies?accession_number=A", content=bytes(2 * 2**20))
    assert_problem(found, "file-too-large", 413)
