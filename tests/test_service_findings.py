"""What a search says of its hits' reports, and filters on what reports say."""

import pytest
from fastapi.testclient import TestClient

from service.inference import Inference
from service.inference.kept import KeptDirections
from tests.service_samples import A1, A2, B1, C1, Film, form

pytest_plugins = ["tests.service_fixtures"]

ASKED = {"text": "Small left pleural effusion.", "rank_by": "report"}


def asked(client: TestClient, **options: object) -> dict:
    reply = client.post("/v1/search/text-to-image", json=ASKED | options)
    assert reply.status_code == 200, reply.text
    return reply.json()


def uids(reply: dict) -> set[str]:
    return {hit["study"]["study_instance_uid"] for hit in reply["hits"]}


def test_each_hit_shows_the_sentences_of_its_report_that_fit_the_query(client: TestClient) -> None:
    best, *others = asked(client)["hits"]
    (sentence,) = best["evidence"]
    assert sentence["text"] == "Small left pleural effusion."
    assert sentence["score"] == pytest.approx(1, abs=1e-5)
    assert sentence["labels"] == [{"finding": "Pleural Effusion", "assertion": "present", "laterality": "left"}]
    for hit in (best, *others):
        scores = [sentence["score"] for sentence in hit["evidence"]]
        assert scores == sorted(scores, reverse=True)
        for sentence in hit["evidence"]:
            assert hit["report"]["text"][sentence["start"] : sentence["end"]] == sentence["text"]


def test_evidence_for_films_is_there_too_and_for_studies_without_report_is_none(client: TestClient) -> None:
    files = form(Film("1.2.9.1", 10, patient="P9").dicom())
    hits = client.post("/v1/search/image-to-image", files=files).json()["hits"]
    by_uid = {hit["study"]["study_instance_uid"]: hit["evidence"] for hit in hits}
    assert len(by_uid[B1]) == 2
    assert by_uid[C1] == []


def test_evidence_can_be_left_out(client: TestClient) -> None:
    assert [hit["evidence"] for hit in asked(client, evidence=False)["hits"]] == [[], [], []]


def test_next_pages_have_evidence_if_the_first_had(client: TestClient) -> None:
    for evidence in (True, False):
        cursor = asked(client, top_k=1, evidence=evidence)["next_cursor"]
        (hit,) = client.post("/v1/search/page", json={"cursor": cursor}).json()["hits"]
        assert bool(hit["evidence"]) == evidence


def test_hits_come_without_evidence_where_the_encoder_has_too_much_to_do(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inference, "depths", {"studies": 1})
    with monkeypatch.context() as forgetful:
        forgetful.setattr(KeptDirections, "find", lambda self, texts: None)
        reply = asked(client)
    assert len(reply["hits"]) == 3
    assert [hit["evidence"] for hit in reply["hits"]] == [[], [], []]
    assert "no-evidence" in [warning["code"] for warning in reply["warnings"]]
    monkeypatch.undo()
    asked(client)
    monkeypatch.setattr(Inference, "depths", {"studies": 1})  # but sentences that it knows cost it nothing
    assert asked(client)["hits"][0]["evidence"]


def test_the_summary_counts_what_the_hits_reports_say(client: TestClient) -> None:
    summary = asked(client)["findings_summary"]
    assert summary["reports_read"] == 3
    sentences = {count["finding"]: count["sentence"] for count in summary["findings"]}
    assert sentences["Pleural Effusion"] == "1 of 3 mentions left pleural effusion."
    assert sentences["Cardiomegaly"] == "1 of 3 mentions cardiomegaly."
    assert all(
        count["present"] + count["uncertain"] + count["absent"] + count["not_mentioned"] == 3
        for count in summary["findings"]
    )


def test_each_hit_says_what_its_report_names(client: TestClient) -> None:
    hits = {hit["study"]["study_instance_uid"]: hit for hit in asked(client)["hits"]}
    assert hits[A2]["labels"] == [
        {"finding": "No Finding", "assertion": "absent", "laterality": None},
        {"finding": "Pleural Effusion", "assertion": "present", "laterality": "left"},
    ]
    assert hits[A2]["report"]["language"] == "en"


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"finding": ["Pleural Effusion"]}, {A2}),
        ({"finding": ["Pleural Effusion", "Cardiomegaly"]}, {A2, B1}),
        ({"without_finding": ["Pleural Effusion", "Cardiomegaly"]}, {A1}),
        ({"language": ["en-GB"]}, {A1, A2, B1}),
        ({"language": ["de"]}, set()),
        ({"institution": ["Nowhere"]}, set()),
    ],
)
def test_filters_leave_studies_out_by_their_report(client: TestClient, filters: dict, found: set[str]) -> None:
    assert uids(asked(client, filters=filters)) == found


def test_an_unknown_finding_or_language_is_refused_with_what_is_known(client: TestClient) -> None:
    for filters, hint in (({"finding": ["Effusion"]}, "Pleural Effusion"), ({"language": ["English"]}, "BCP 47")):
        reply = client.post("/v1/search/text-to-image", json=ASKED | {"filters": filters})
        assert reply.status_code == 422
        assert reply.json()["type"].endswith("bad-filter")
        assert hint in reply.json()["detail"]


def test_a_form_takes_the_filters_too(client: TestClient) -> None:
    files = form(Film("1.2.9.1", 10, patient="P9").dicom())
    data = {"finding": ["Cardiomegaly", "Pleural Effusion"], "language": "en"}
    reply = client.post("/v1/search/image-to-image", files=files, data=data)
    assert uids(reply.json()) == {A2, B1}
