"""Searching by a study with everything there is of it: images and report of candidates, phrases, archived studies."""

import json
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from index import Snapshot, build_generation, migrate, open_catalog
from index.tables import Embedding, Generation, Study
from service.settings import Settings
from tests.fakes import FakeEncoder
from tests.service_samples import A1, A2, B1, C1, FILMS, REPORTS, Film, form, png, serve, settings_for, take_in
from tests.test_service_pages import assert_problem, uids

pytest_plugins = ["tests.service_fixtures"]

NEW = "1.2.9.1"
SEARCH = "/v1/search"


def searched(client: TestClient, *files: bytes, **data: object) -> dict:
    reply = client.post(SEARCH, files=form(*files) or None, data=data)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_hits_carry_the_scores_of_their_parts(client: TestClient) -> None:
    reply = searched(client, png())
    assert reply["ranking"] == {"by": "fused", "image_weight": 0.3, "text_weight": None, "without_weight": None}
    assert set(uids(reply)) == {A1, A2, B1, C1}
    for hit in reply["hits"]:
        parts = hit["scores"]
        assert hit["score_kind"] == "fused" and parts["fused"] == hit["score"]
        assert (parts["report"] is None) == (hit["study"]["study_instance_uid"] not in REPORTS)
        # Too few pairs to measure a scale by: bare cosines.
        assert hit["score"] == pytest.approx(0.3 * parts["image"] + 0.7 * (parts["report"] or 0))
    by_image = searched(client, png(), rank_by="image")["hits"]
    assert [hit["score"] for hit in by_image] == [hit["scores"]["image"] for hit in by_image]
    assert all(hit["scores"]["fused"] is None and hit["score_kind"] == "cosine" for hit in by_image)


def test_a_small_archive_has_no_percentiles_and_fused_rankings_say_so(client: TestClient) -> None:
    reply = searched(client, png())
    assert [warning["code"] for warning in reply["warnings"]] == ["scores-not-measured"]
    assert all(hit["percentile"] is None for hit in reply["hits"])
    assert searched(client, png(), rank_by="image")["warnings"] == []


@pytest.fixture
def archive_of_twelve(tmp_path: Path) -> Settings:
    """A study of each of twelve patients: 132 pairs."""
    source = tmp_path / "source"
    source.mkdir()
    lines = ["study_instance_uid,findings"]
    for number in range(12):
        film = Film(f"1.2.5.{number}", number, patient=f"P{number}")
        (source / f"{number}.dcm").write_bytes(film.dicom())
        lines.append(f"{film.study},Finding {number} of {number * 7}.")
    (source / "reports.csv").write_text("\n".join(lines))
    settings = settings_for(tmp_path / "data")
    migrate(settings.catalog_url)
    take_in(settings, source)
    catalog = open_catalog(settings.catalog_url)
    build_generation(catalog, settings.generations_dir, FakeEncoder().fingerprint)
    catalog.close()
    return settings


@pytest.mark.parametrize("rank_by", ["image", "report", "fused"])
def test_hits_have_a_percentile_of_the_archives_own_scores(archive_of_twelve: Settings, rank_by: str) -> None:
    with serve(archive_of_twelve) as client:
        for asked in ({"study_instance_uid": "1.2.5.3"}, {"text": "Finding 3 of 21."}):
            reply = searched(client, **asked, rank_by=rank_by, top_k=12)
            percentiles = [hit["percentile"] for hit in reply["hits"]]
            assert percentiles == sorted(percentiles, reverse=True) and percentiles[0] > percentiles[-1]
            assert percentiles[-1] >= 0 and percentiles[0] <= 84  # 20 of 132 pairs are above the 84th
            assert "scores-not-measured" not in [warning["code"] for warning in reply["warnings"]]
        composed = searched(client, **asked, without="effusion", rank_by=rank_by)
        assert {hit["percentile"] for hit in composed["hits"]} == {None}
        other = searched(client, **asked, rank_by="fused", image_weight=0.6)
        assert {hit["percentile"] for hit in other["hits"]} == {None}


def test_reports_of_which_no_scale_is_known_are_weighed_by_bare_cosines_and_that_is_said(
    archive_of_twelve: Settings,
) -> None:
    catalog = open_catalog(archive_of_twelve.catalog_url)
    with catalog.write() as session:  # as when the reports came after the generation
        row = session.scalars(sa.select(Generation).where(Generation.state == "live")).one()
        row.scores = json.dumps({"image": {"image": json.loads(row.scores)["image"]["image"]}})
    catalog.close()
    with serve(archive_of_twelve) as client:
        reply = searched(client, png(2))
        assert "scores-not-measured" in [warning["code"] for warning in reply["warnings"]]
        parts = reply["hits"][0]["scores"]
        weight = reply["ranking"]["image_weight"]
        assert parts["fused"] == pytest.approx(weight * parts["image"] + (1 - weight) * parts["report"])


def test_the_weight_of_the_image_can_be_chosen_and_is_stated(client: TestClient) -> None:
    assert searched(client, text="opacity")["ranking"]["image_weight"] == 0.1
    reply = searched(client, png(), image_weight=1)
    assert reply["ranking"]["image_weight"] == 1
    assert [hit["score"] for hit in reply["hits"]] == pytest.approx([hit["scores"]["image"] for hit in reply["hits"]])
    assert client.post(SEARCH, files=form(png()), data={"image_weight": 1.5}).status_code == 422


def test_the_three_presets_are_the_same_search(client: TestClient) -> None:
    def both(preset: str, rank_by: str) -> tuple[dict, dict]:
        return client.post(f"{SEARCH}/{preset}", files=form(png())).json(), searched(client, png(), rank_by=rank_by)

    for one, other in (both("image-to-text", "report"), both("image-to-image", "image")):
        assert one == other
    text = client.post(f"{SEARCH}/text-to-image", json={"text": "effusion"}).json()
    assert text == searched(client, text="effusion", rank_by="image")
    text = client.post(f"{SEARCH}/text-to-image", json={"text": "effusion", "rank_by": "fused"}).json()
    assert text == searched(client, text="effusion")


def vector_of(client: TestClient, monkeypatch: pytest.MonkeyPatch, *files: bytes, **data: object) -> np.ndarray:
    """What is searched with."""
    seen = []
    answer = Snapshot.page
    monkeypatch.setattr(
        Snapshot, "page", lambda self, search, *rest: seen.append(search) or answer(self, search, *rest)
    )
    searched(client, *files, **data)
    return seen[0].vector


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_a_phrase_beside_images_adds_what_it_does_not_share_with_nothing_found(client, monkeypatch) -> None:
    encode = FakeEncoder().encode_texts
    image = vector_of(client, monkeypatch, png())
    wanted, unwanted, nothing = encode(["pneumothorax", "pacemaker", "No acute cardiopulmonary abnormality."])
    composed = vector_of(client, monkeypatch, png(), text="pneumothorax")
    assert composed == pytest.approx(unit(image + 1.25 * unit(wanted - nothing)), abs=1e-6)
    composed = vector_of(client, monkeypatch, png(), text="pneumothorax", text_weight=0.4, without=["pacemaker"])
    expected = image + 0.4 * unit(wanted - nothing) - 0.75 * unit(unwanted - nothing)
    assert composed == pytest.approx(unit(expected), abs=1e-6)
    composed = vector_of(client, monkeypatch, png(), without="pacemaker")
    assert composed == pytest.approx(unit(image - 0.75 * unit(unwanted - nothing)), abs=1e-6)


def test_a_negative_phrase_beside_a_text_is_taken_from_it(client, monkeypatch) -> None:
    wanted, unwanted, other = FakeEncoder().encode_texts(["pneumothorax", "pacemaker", "tube"])
    composed = vector_of(client, monkeypatch, text="pneumothorax", without=["pacemaker", "tube"])
    assert composed == pytest.approx(unit(wanted - 0.25 * unwanted - 0.25 * other), abs=1e-6)


def test_a_composed_query_states_its_weights_and_has_no_percentiles(client: TestClient) -> None:
    reply = searched(client, png(), text="pneumothorax", without="pacemaker")
    assert reply["ranking"] == {"by": "fused", "image_weight": 0.3, "text_weight": 1.25, "without_weight": 0.75}
    assert all(hit["percentile"] is None for hit in reply["hits"])


@pytest.mark.parametrize(
    ("data", "slug"),
    [
        ({}, "bad-query"),
        ({"without": "pacemaker"}, "bad-query"),
        ({"text": " "}, "text-empty"),
        ({"text": "opacity", "without": ["a", " "]}, "text-empty"),
        ({"text": "opacity", "text_weight": -1}, "invalid-request"),
        ({"text": "opacity", "rank_by": "size"}, "invalid-request"),
        ({"study_instance_uid": A1, "text": "No acute cardiopulmonary abnormality."}, "bad-query"),
    ],
)
def test_a_query_that_is_not_clear_is_refused(client: TestClient, data: dict, slug: str) -> None:
    assert_problem(client.post(SEARCH, data=data), slug, 422)


@pytest.mark.parametrize("path", ["", "/image-to-text", "/image-to-image"])
def test_a_misspelt_field_is_refused_rather_than_not_heeded(client: TestClient, path: str) -> None:
    response = client.post(f"{SEARCH}{path}", files=form(png()), data={"sexes": ["F"], "top_k": 3})
    assert_problem(response, "invalid-request", 422)
    assert "found sexes." in response.json()["detail"] and "sex," in response.json()["detail"]


def test_a_misspelt_parameter_is_refused_too(client: TestClient) -> None:
    assert_problem(client.get(f"/v1/studies/{A2}/similar", params={"topk": 3}), "invalid-request", 422)


def test_a_prior_without_a_study_is_refused(client: TestClient) -> None:
    response = client.post(SEARCH, files=form(png(), field="prior_files"), data={"text": "effusion"})
    assert_problem(response, "no-file", 422)


def test_files_and_a_uid_at_once_are_refused(client: TestClient) -> None:
    response = client.post(SEARCH, files=form(png()), data={"study_instance_uid": A1})
    assert_problem(response, "bad-query", 422)


def test_an_archived_study_is_asked_with_by_its_uid(client: TestClient) -> None:
    reply = searched(client, study_instance_uid=A2, exclude_own_patient="false", rank_by="image")
    assert reply["query"] == {
        "study_instance_uid": A2,
        "from_archive": True,
        "slots": ["current_frontal", "current_lateral", "prior_frontal"],
        "prior_source": "archive",
        "files": [],
    }
    sent = searched(client, FILMS[1].dicom(), FILMS[2].dicom(), exclude_own_patient="false", rank_by="image")
    assert [hit["study"] for hit in reply["hits"]] == [hit["study"] for hit in sent["hits"]]
    assert [hit["score"] for hit in reply["hits"]] == pytest.approx([hit["score"] for hit in sent["hits"]], abs=1e-6)


def test_an_archived_study_its_prior_and_its_patient_are_no_hits(client: TestClient) -> None:
    reply = searched(client, study_instance_uid=A2)
    assert (set(uids(reply)), reply["own_patient_excluded"]) == ({B1, C1}, True)
    reply = searched(client, study_instance_uid=A1, exclude_own_patient="false")
    assert set(uids(reply)) == {A2, B1, C1}
    assert {hit["study"]["study_instance_uid"] for hit in reply["hits"] if hit["same_patient"]} == {A2}
    assert reply["own_patient_excluded"] is False


def test_the_stored_embedding_is_used_and_nothing_is_encoded_again(client: TestClient, monkeypatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("nothing is to be encoded")

    sent = vector_of(client, monkeypatch, FILMS[1].dicom(), FILMS[2].dicom())
    monkeypatch.setattr(FakeEncoder, "encode_studies", refused)
    assert vector_of(client, monkeypatch, study_instance_uid=A2) == pytest.approx(sent, abs=1e-6)


def test_without_its_prior_an_archived_study_is_read_from_its_files(client: TestClient, monkeypatch) -> None:
    sent = vector_of(client, monkeypatch, FILMS[1].dicom(), FILMS[2].dicom(), find_prior="false")
    found = vector_of(client, monkeypatch, study_instance_uid=A2, find_prior="false")
    assert found == pytest.approx(sent, abs=1e-6)
    reply = searched(client, study_instance_uid=A2, find_prior="false")
    assert (reply["query"]["slots"], reply["query"]["prior_source"]) == (["current_frontal", "current_lateral"], None)


def test_a_study_that_is_not_embedded_yet_is_read_from_its_files(own_archive: Settings, monkeypatch) -> None:
    with serve(own_archive) as client:
        embedded = vector_of(client, monkeypatch, study_instance_uid=B1)
        catalog = client.app.state.resources.catalog
        with catalog.write() as session:
            session.execute(sa.update(Study).where(Study.study_instance_uid == B1).values(image_source="changed"))
        assert vector_of(client, monkeypatch, study_instance_uid=B1) == pytest.approx(embedded, abs=1e-6)
        with catalog.write() as session:
            session.execute(sa.delete(Embedding))
        assert searched(client, study_instance_uid=B1)["query"]["slots"] == ["current_frontal"]


def test_a_study_whose_files_have_moved_is_said_to_be_unreadable(own_archive: Settings, tmp_path: Path) -> None:
    for file in (tmp_path / "source").glob("*.dcm"):
        file.rename(file.with_suffix(".moved"))
    with serve(own_archive) as client:
        assert searched(client, study_instance_uid=A2)["hits"]  # by its embedding
        response = client.post(SEARCH, data={"study_instance_uid": A2, "find_prior": "false"})
        assert_problem(response, "no-such-image", 404)


def test_an_unknown_uid_is_no_study(client: TestClient) -> None:
    assert_problem(client.post(SEARCH, data={"study_instance_uid": "1.2.3.99"}), "unknown-study", 404)
    assert_problem(client.get("/v1/studies/1.2.3.99/similar"), "unknown-study", 404)
    assert_problem(client.post(SEARCH, data={"study_instance_uid": "x"}), "invalid-request", 422)


def test_similar_studies_of_an_archived_one(client: TestClient) -> None:
    by_get = client.get(f"/v1/studies/{A2}/similar", params={"rank_by": "image", "top_k": 1, "sex": ["F", "M"]}).json()
    by_post = searched(client, study_instance_uid=A2, rank_by="image", top_k=1, sex=["F", "M"])
    for reply in (by_get, by_post):
        assert len(reply.pop("next_cursor")) > 100
    assert by_get == by_post
    filtered = client.get(f"/v1/studies/{A2}/similar", params={"modality": "CR"}).json()
    assert uids(filtered) == [B1]
    assert_problem(client.get(f"/v1/studies/{A2}/similar", params={"modality": "CT"}), "bad-filter", 422)


def test_zero_shot_takes_an_archived_study_too(client: TestClient) -> None:
    by_uid = client.post("/v1/zero-shot", data={"study_instance_uid": B1, "labels": ["Pneumothorax", "Edema"]}).json()
    sent = client.post("/v1/zero-shot", files=form(FILMS[3].dicom()), data={"labels": ["Pneumothorax", "Edema"]}).json()
    assert [label["cosine"] for label in by_uid["labels"]] == pytest.approx([each["cosine"] for each in sent["labels"]])
    assert by_uid["query"]["from_archive"] is True


def test_reports_that_say_the_same_are_one_hit_unless_asked_otherwise(own_archive: Settings, tmp_path: Path) -> None:
    reports = [f"{uid},Clear lungs. No effusion." for uid in (A1, B1)] + [f"{C1},No effusion.  CLEAR lungs"]
    (tmp_path / "source" / "reports.csv").write_text("\n".join(["study_instance_uid,findings", *reports]))
    take_in(own_archive, tmp_path / "source")
    with serve(own_archive) as client:
        grouped = searched(client, png(), rank_by="image")
        alone = searched(client, png(), rank_by="image", group_reports="false")
    assert len(grouped["hits"]) == 2 and len(alone["hits"]) == 4
    same = next(hit["similar_reports"] for hit in grouped["hits"] if hit["similar_reports"]["count"])
    order = [uid for uid in uids(alone) if uid in (A1, B1, C1)]
    assert same == {"count": 2, "study_instance_uids": order[1:]}
    assert all(hit["similar_reports"]["count"] == 0 for hit in alone["hits"])
