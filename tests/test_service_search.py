"""Searching by images and by text."""

from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from index import Snapshot, StudyRecord
from service.schemas import Study
from tests.service_samples import A1, A2, B1, C1, FILMS, REPORTS, Film, form, jpeg, png, serve, settings_for

pytest_plugins = ["tests.service_fixtures"]

NEW = "1.2.9.1"


def uids(reply: dict) -> list[str]:
    return [hit["study"]["study_instance_uid"] for hit in reply["hits"]]


def test_an_unseen_film_finds_the_archived_study_that_looks_the_same(client: TestClient) -> None:
    film = Film(NEW, 10, patient="P9", view="AP", modality="CR")
    reply = client.post("/v1/search/image-to-image", files=form(film.dicom())).json()
    best = reply["hits"][0]
    assert best["study"]["study_instance_uid"] == B1
    assert best["score"] == pytest.approx(1, abs=1e-5)
    assert best["score_kind"] == "cosine"
    assert [hit["rank"] for hit in reply["hits"]] == list(range(1, len(reply["hits"]) + 1))
    scores = [hit["score"] for hit in reply["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_image_to_text_returns_the_reports_of_the_archive(client: TestClient) -> None:
    reply = client.post("/v1/search/image-to-text", files=form(Film(NEW, 1, patient="P9").dicom())).json()
    assert sorted(uids(reply)) == sorted(REPORTS)
    for hit in reply["hits"]:
        assert hit["report"]["findings"] == REPORTS[hit["study"]["study_instance_uid"]]
        assert hit["report"]["indication"] == "Cough."
    assert reply["model_fingerprint"] == "f" * 64
    assert isinstance(reply["generation"], int)
    assert reply["warnings"] == []


def test_a_hit_carries_the_study_record_and_an_image_that_can_be_fetched(client: TestClient) -> None:
    film = Film(NEW, 10, patient="P9", view="AP", modality="CR")
    study = client.post("/v1/search/image-to-image", files=form(film.dicom())).json()["hits"][0]["study"]
    assert study == {
        "study_instance_uid": B1,
        "accession_number": "A3",
        "study_date": "2022-01-01",
        "modality": "CR",
        "views": ["AP"],
        "sex": "M",
        "age": 70,
        "institution": None,
        "image_url": f"/v1/studies/{B1}/image",
    }
    assert client.get(study["image_url"]).status_code == 200


def test_text_to_image_searches_the_images(client: TestClient) -> None:
    reply = client.post("/v1/search/text-to-image", json={"text": "left pleural effusion", "top_k": 3}).json()
    assert len(reply["hits"]) == 3
    assert reply["query"] is None
    assert reply["warnings"] == []


def test_text_over_the_context_length_is_searched_with_a_warning(client: TestClient) -> None:
    reply = client.post("/v1/search/text-to-image", json={"text": "opacity " * 60}).json()
    assert reply["hits"]
    assert [warning["code"] for warning in reply["warnings"]] == ["text-truncated"]
    assert "62 tokens; 32 were read" in reply["warnings"][0]["detail"]


def test_the_reply_says_what_was_recognised_in_each_file(client: TestClient) -> None:
    files = form(Film(NEW, 2, patient="P9").dicom(), Film(NEW, 3, patient="P9", view="LL").dicom())
    query = client.post("/v1/search/image-to-text", files=files).json()["query"]
    assert query["study_instance_uid"] == NEW
    assert query["slots"] == ["current_frontal", "current_lateral"]
    assert query["prior_source"] is None
    assert [(f["slot"], f["view"], f["view_position"], f["modality"]) for f in query["files"]] == [
        ("current_frontal", "frontal", "PA", "DX"),
        ("current_lateral", "lateral", "LL", "DX"),
    ]


@pytest.mark.parametrize("picture", [png, jpeg])
def test_a_picture_counts_as_frontal(client: TestClient, picture) -> None:
    query = client.post("/v1/search/image-to-text", files=form(picture())).json()["query"]
    assert query["slots"] == ["current_frontal"]
    assert query["study_instance_uid"] is None
    assert query["files"][0]["format"] == "picture"


def test_views_of_the_request_decide_over_those_of_the_header(client: TestClient) -> None:
    reply = client.post("/v1/search/image-to-text", files=form(png(1), png(2)), data={"views": ["lateral", "AP"]})
    assert [file["slot"] for file in reply.json()["query"]["files"]] == ["current_lateral", "current_frontal"]
    film = Film(NEW, 2, view="LL").dicom()
    reply = client.post("/v1/search/image-to-text", files=form(film), data={"views": "PA"})
    assert reply.json()["query"]["slots"] == ["current_frontal"]


def test_auto_leaves_the_view_to_the_header(client: TestClient) -> None:
    files = form(Film(NEW, 2).dicom(), png(4))
    query = client.post("/v1/search/image-to-text", files=files, data={"views": ["auto", "lateral"]}).json()["query"]
    assert query["slots"] == ["current_frontal", "current_lateral"]


def test_a_refused_file_beside_a_usable_one_is_reported(client: TestClient) -> None:
    files = form(Film(NEW, 2).dicom(), Film(NEW, 3, modality="CT").dicom(), b"no image")
    reply = client.post("/v1/search/image-to-text", files=files)
    assert reply.status_code == 200
    statuses = [(file["status"], file["reason"]) for file in reply.json()["query"]["files"]]
    assert statuses == [("used", None), ("refused", "wrong-modality"), ("refused", "not-an-image")]


def test_of_two_frontal_images_pa_is_used_and_the_other_said_to_be_unused(client: TestClient) -> None:
    files = form(Film(NEW, 2, view="AP").dicom(), Film(NEW, 3, view="PA").dicom())
    query = client.post("/v1/search/image-to-text", files=files).json()["query"]
    assert [file["status"] for file in query["files"]] == ["unused", "used"]
    assert query["files"][0]["detail"]


def test_the_query_study_itself_is_no_hit(client: TestClient) -> None:
    reply = client.post("/v1/search/image-to-image", files=form(FILMS[3].dicom())).json()
    assert B1 not in uids(reply)
    assert len(uids(reply)) == 3


def test_the_querys_own_patient_is_left_out_of_the_hits_unless_asked_for(client: TestClient) -> None:
    files = form(Film(NEW, 2, patient="P1", date="20240101").dicom())
    reply = client.post("/v1/search/image-to-image", files=files).json()
    assert set(uids(reply)) == {B1, C1}
    assert reply["own_patient_excluded"] is True
    every = {"exclude_own_patient": "false", "find_prior": "false"}
    reply = client.post("/v1/search/image-to-image", files=files, data=every).json()
    assert set(uids(reply)) == {A1, A2, B1, C1}
    assert reply["own_patient_excluded"] is False


def test_the_patient_of_an_archived_study_is_known_whatever_its_copy_says(client: TestClient) -> None:
    files = form(replace(FILMS[0], patient="ANON").dicom())
    reply = client.post("/v1/search/image-to-image", files=files, data={"find_prior": "false"}).json()
    assert (set(uids(reply)), reply["own_patient_excluded"]) == ({B1, C1}, True)
    every = {"exclude_own_patient": "false", "find_prior": "false"}
    hits = client.post("/v1/search/image-to-image", files=files, data=every).json()["hits"]
    assert {hit["study"]["study_instance_uid"] for hit in hits if hit["same_patient"]} == {A2}


def test_a_picture_names_no_patient_to_leave_out(client: TestClient) -> None:
    reply = client.post("/v1/search/image-to-image", files=form(png())).json()
    assert (len(reply["hits"]), reply["own_patient_excluded"]) == (4, False)


def test_a_study_used_as_prior_is_no_hit(client: TestClient) -> None:
    every = {"exclude_own_patient": "false"}
    films = form(Film(NEW, 2, patient="P1", date="20240101").dicom())
    reply = client.post("/v1/search/image-to-image", files=films, data=every).json()
    assert (reply["query"]["prior_source"], set(uids(reply))) == ("archive", {A1, B1, C1})
    films = form(png()) + form(FILMS[3].dicom(), field="prior_files")
    reply = client.post("/v1/search/image-to-image", files=films, data=every).json()
    assert (reply["query"]["prior_source"], set(uids(reply))) == ("uploaded", {A1, A2, C1})


def test_the_generation_named_is_the_one_the_hits_came_from(archive_folder: Path, monkeypatch) -> None:
    with serve(settings_for(archive_folder)) as client:
        gallery = client.app.state.resources.gallery
        answer = Snapshot.page

        def overtaken(snapshot, *args):
            monkeypatch.setattr(gallery, "_snapshot", replace(snapshot, info=replace(snapshot.info, id=77)))
            return answer(snapshot, *args)

        monkeypatch.setattr(Snapshot, "page", overtaken)
        reply = client.post("/v1/search/text-to-image", json={"text": "a"}).json()
        assert (reply["generation"], gallery.generation.id) == (1, 77)


def test_an_image_url_is_a_url_whatever_the_uid() -> None:
    record = StudyRecord("1.2/../3?x", None, None, "DX", (), None, None, None, None, "key")
    assert Study.of(record).image_url == "/v1/studies/1.2%2F..%2F3%3Fx/image"


def test_an_uploaded_prior_study_fills_the_prior_slots(client: TestClient) -> None:
    files = form(Film(NEW, 2, patient="P9", date="20240101").dicom())
    prior = form(Film("1.2.9.2", 4, patient="P9", date="20230101").dicom(), field="prior_files")
    query = client.post("/v1/search/image-to-text", files=files + prior).json()["query"]
    assert query["slots"] == ["current_frontal", "prior_frontal"]
    assert query["prior_source"] == "uploaded"


def test_the_patients_prior_study_is_found_in_the_archive(client: TestClient) -> None:
    film = Film(NEW, 10, patient="P1", date="20240101").dicom()
    query = client.post("/v1/search/image-to-text", files=form(film)).json()["query"]
    assert query["slots"] == ["current_frontal", "prior_frontal", "prior_lateral"]
    assert query["prior_source"] == "archive"
    query = client.post("/v1/search/image-to-text", files=form(film), data={"find_prior": "false"}).json()["query"]
    assert query["slots"] == ["current_frontal"]


def test_an_archived_study_sent_again_gives_the_embedding_of_the_archive(client: TestClient) -> None:
    # A2's own row is not excluded when the header's UID is another: its archived prior makes the queries equal.
    films = [Film("1.2.9.3", film.cell, view=film.view, date=film.date).dicom() for film in FILMS[1:3]]
    every = {"exclude_own_patient": "false"}
    best = client.post("/v1/search/image-to-image", files=form(*films), data=every).json()["hits"][0]
    assert best["study"]["study_instance_uid"] == A2
    assert best["score"] == pytest.approx(1, abs=1e-5)


def test_a_prior_study_without_a_usable_frontal_image_is_left_out_with_a_warning(client: TestClient) -> None:
    files = form(Film(NEW, 2).dicom()) + form(b"no image", field="prior_files")
    reply = client.post("/v1/search/image-to-text", files=files).json()
    assert reply["query"]["slots"] == ["current_frontal"]
    assert [warning["code"] for warning in reply["warnings"]] == ["prior-ignored"]


FILTERS = [
    ({"modality": ["CR"]}, {B1}),
    ({"view": ["lateral"]}, {A2}),
    ({"view": ["PA"]}, {A1, A2, C1}),
    ({"date_from": "2021-06-01"}, {A2, B1, C1}),
    ({"date_to": "2021-06-01"}, {A1, A2}),
    ({"sex": ["F"]}, {A1, A2, C1}),
    ({"age_min": 50, "age_max": 51}, {A1, A2}),
    ({"exclude_patient_of": [A1]}, {B1, C1}),
    ({"exclude_study": [A1, C1]}, {A2, B1}),
    ({"sex": ["M", "F"], "modality": ["DX"], "age_max": 40}, {C1}),
    ({"sex": ["O"]}, set()),
]


@pytest.mark.parametrize(("filters", "expected"), FILTERS)
def test_filters_restrict_hits_in_json_and_in_forms_alike(client: TestClient, filters: dict, expected: set) -> None:
    reply = client.post("/v1/search/text-to-image", json={"text": "opacity", "filters": filters})
    assert set(uids(reply.json())) == expected
    reply = client.post("/v1/search/image-to-image", files=form(png()), data=filters)
    assert set(uids(reply.json())) == expected


def test_top_k_limits_hits(client: TestClient) -> None:
    assert len(client.post("/v1/search/image-to-image", files=form(png()), data={"top_k": 2}).json()["hits"]) == 2
    assert len(client.post("/v1/search/image-to-image", files=form(png())).json()["hits"]) == 4
