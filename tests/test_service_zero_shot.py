"""Zero-shot classification."""

import json
import math

import pytest
from fastapi.testclient import TestClient

from model.prompts import PROMPT_SETS
from tests.service_samples import form, png

pytest_plugins = ["tests.service_fixtures"]


def ask(client: TestClient, request: dict | None = None, **fields: object) -> dict:
    data = dict(fields) if request is None else {"request": json.dumps(request), **fields}
    return client.post("/v1/zero-shot", files=form(png()), data=data).json()


def test_without_labels_the_built_in_findings_are_scored(client: TestClient) -> None:
    reply = ask(client)
    assert [finding["name"] for finding in reply["findings"]] == list(PROMPT_SETS)
    assert {finding["prompts"] for finding in reply["findings"]} == {"built-in"}
    assert reply["labels"] == []
    assert reply["query"]["slots"] == ["current_frontal"]


def test_a_search_tells_the_same_of_its_study_where_it_is_asked_to(client: TestClient) -> None:
    def search(**fields: object) -> dict:
        return client.post("/v1/search", files=form(png()), data=fields).json()

    told = search(zero_shot=True)
    alone = ask(client)
    assert told["zero_shot"] == {name: alone[name] for name in told["zero_shot"]} and told["zero_shot"]["findings"]
    assert told["hits"] and search()["zero_shot"] is None
    # Of the study, not of what it is searched with besides; of a phrase alone there are none.
    assert search(zero_shot=True, text="Cardiomegaly.")["zero_shot"] == told["zero_shot"]
    words = client.post("/v1/search", data={"text": "Cardiomegaly.", "zero_shot": True}).json()
    assert words["hits"] and words["zero_shot"] is None


def test_a_pair_scores_the_softmax_of_its_two_cosines(client: TestClient) -> None:
    for finding in ask(client)["findings"]:
        positive, negative = math.exp(finding["positive_cosine"]), math.exp(finding["negative_cosine"])
        assert finding["score"] == pytest.approx(positive / (positive + negative))


def test_prompts_of_the_caller_are_scored_as_pairs(client: TestClient) -> None:
    prompts = [{"name": "rib fracture", "positive": ["fractured rib", "broken rib"], "negative": ["intact ribs"]}]
    reply = ask(client, {"prompts": prompts})
    assert [(finding["name"], finding["prompts"]) for finding in reply["findings"]] == [("rib fracture", "given")]
    assert "uncalibrated" in reply["score_kind"]
    assert "two cosines" in reply["score_kind"]


def test_labels_are_compared_with_each_other(client: TestClient) -> None:
    reply = ask(client, {"labels": ["mass", "tube", "fracture"]})
    labels = reply["labels"]
    assert [label["name"] for label in labels] == ["mass", "tube", "fracture"]
    assert sum(label["score"] for label in labels) == pytest.approx(1)
    assert [label["best"] for label in labels].count(True) == 1
    assert max(labels, key=lambda label: label["cosine"])["best"]
    assert reply["findings"] == []
    assert "over the labels sent" in reply["score_kind"]


def test_labels_may_come_as_form_fields(client: TestClient) -> None:
    assert ask(client, labels=["mass", "tube"])["labels"] == ask(client, {"labels": ["mass", "tube"]})["labels"]


def test_a_label_named_like_a_finding_uses_its_ensemble(client: TestClient) -> None:
    labels = ask(client, {"labels": ["pneumothorax", "tube"]})["labels"]
    assert [label["prompts"] for label in labels] == ["built-in", "given"]
    pair = next(finding for finding in ask(client)["findings"] if finding["name"] == "Pneumothorax")
    assert labels[0]["cosine"] == pytest.approx(pair["positive_cosine"])


def test_texts_of_callers_are_not_kept(client: TestClient) -> None:
    ask(client, {"labels": ["Mrs Secret's mass", "tube"]})
    ask(client, {"prompts": [{"name": "a", "positive": ["Mrs Secret's rib"], "negative": ["b"]}]})
    assert "Secret" not in repr(vars(client.app.state.resources.encoders.configured))


def test_directions_of_built_in_findings_are_encoded_once(client: TestClient, monkeypatch) -> None:
    first = ask(client)["findings"]

    def again(prompts):
        raise AssertionError(prompts)

    monkeypatch.setattr(client.app.state.resources.encoders.configured.encoder, "encode_prompts", again)
    assert ask(client)["findings"] == first


def test_long_prompts_are_read_in_part_with_a_warning(client: TestClient) -> None:
    prompts = [{"name": "tube", "positive": ["a tube", "opacity " * 40], "negative": ["no tube"]}]
    reply = ask(client, {"prompts": prompts})
    assert [warning["code"] for warning in reply["warnings"]] == ["text-truncated"]


@pytest.mark.parametrize(
    ("request_json", "slug"),
    [
        ({"labels": ["a"], "prompts": [{"name": "b", "positive": ["c"], "negative": ["d"]}]}, "bad-prompts"),
        ({"labels": ["mass", "Mass"]}, "bad-prompts"),
        (
            {"prompts": [{"name": f"{n}", "positive": ["a"] * 64, "negative": ["b"] * 62} for n in range(4)]},
            "bad-prompts",
        ),
        ({"labels": [" "]}, "invalid-request"),
        ({"prompts": [{"name": "b", "positive": ["c"], "negative": []}]}, "invalid-request"),
        ({"unknown": 1}, "invalid-request"),
    ],
)
def test_requests_that_make_no_sense_are_refused(client: TestClient, request_json: dict, slug: str) -> None:
    reply = ask(client, request_json)
    assert reply["type"] == f"/problems/{slug}"
    assert reply["status"] == 422


def test_a_request_that_is_no_json_is_refused(client: TestClient) -> None:
    reply = client.post("/v1/zero-shot", files=form(png()), data={"request": "{"})
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["location"] == ["body", "request"]
