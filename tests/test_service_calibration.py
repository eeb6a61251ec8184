"""Zero-shot with a calibration beside the encoders: probabilities, decisions, and what they rest on."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from model.calibration import Calibration, FindingCalibration, hash_prompts
from model.prompts import PROMPT_SETS, PromptPair
from tests.service_samples import FILMS, form, png, serve, settings_for

pytest_plugins = ["tests.service_fixtures"]

OWN = PromptPair(("broken rib",), ("intact ribs",))


def fitted(pair: PromptPair, bias: float = 0.0, band: tuple[float, float] = (0.5, 0.5)) -> FindingCalibration:
    return FindingCalibration(0.5, bias, 0.5, band, 40, 60, hash_prompts(pair))


def calibration(level: str = "frontal", fingerprint: str = "f" * 64) -> Calibration:
    findings = {
        "Edema": fitted(PROMPT_SETS["Edema"], bias=5),
        "Pneumothorax": fitted(PROMPT_SETS["Pneumothorax"], bias=-5),
        "Pneumonia": fitted(PROMPT_SETS["Pneumonia"], band=(0.001, 0.999)),
        "Fracture": fitted(OWN),
    }
    left_out = {"Pleural Other": "too few cases: 3 with the finding"}
    return Calibration(fingerprint, "2026-01-02", "ours.csv", "0" * 64, 100, 90, level, findings, left_out)


@pytest.fixture
def served(archive_folder: Path, tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """The service, with ``found`` as the calibration of its encoders."""
    running = []

    def start(found: Calibration | str | None) -> TestClient:
        if isinstance(found, Calibration):
            found.save(tmp_path)
        elif found is not None:
            (tmp_path / "calibration.json").write_text(found)
        client = serve(settings_for(archive_folder, model_path=tmp_path))
        running.append(client)
        return client.__enter__()

    yield start
    for client in running:
        client.__exit__(None, None, None)


def ask(client: TestClient, *files: bytes, **fields: object) -> dict:
    return client.post("/v1/zero-shot", files=form(*files) if files else None, data=fields).json()


def by_name(reply: dict) -> dict[str, dict]:
    return {finding["name"]: finding for finding in reply["findings"]}


def test_calibrated_findings_have_a_probability_and_a_decision(served: Callable[..., TestClient]) -> None:
    reply = ask(served(calibration()), png())
    found = by_name(reply)
    edema = found["Edema"]
    score = edema["positive_cosine"] - edema["negative_cosine"]
    expected = calibration().findings["Edema"].apply(score)
    assert (edema["probability"], edema["decision"]) == (pytest.approx(expected.probability), "present")
    assert found["Pneumothorax"]["decision"] == "absent" and found["Pneumothorax"]["probability"] < 0.5
    assert found["Pneumonia"]["decision"] == "uncertain"
    assert all(found[name]["not_calibrated"] is None for name in ("Edema", "Pneumothorax", "Pneumonia"))


def test_what_is_not_calibrated_says_why(served: Callable[..., TestClient]) -> None:
    found = by_name(ask(served(calibration()), png()))
    reasons = {name: found[name]["not_calibrated"] for name in ("Pleural Other", "Fracture", "Lung Lesion")}
    assert reasons == {
        "Pleural Other": "too few cases: 3 with the finding",
        "Fracture": "It was calibrated with other phrasings.",
        "Lung Lesion": "The sample has no labels of it.",
    }
    assert all(found[name]["probability"] is None and found[name]["decision"] is None for name in reasons)


def test_the_reply_says_what_probabilities_rest_on(served: Callable[..., TestClient]) -> None:
    reply = ask(served(calibration()), png())
    assert reply["calibration"] == {
        "sample": "ours.csv",
        "date": "2026-01-02",
        "studies": 100,
        "patients": 90,
        "level": "frontal",
        "findings": ["Edema", "Pneumothorax", "Pneumonia", "Fracture"],
    }
    assert "labelled sample" in reply["probabilities"] and reply["warnings"] == []


def test_given_prompts_are_calibrated_where_they_are_those_of_the_fit(served: Callable[..., TestClient]) -> None:
    client = served(calibration())
    prompts = [{"name": "Fracture", "positive": list(OWN.positive), "negative": list(OWN.negative)}]
    assert by_name(ask(client, png(), request=json.dumps({"prompts": prompts})))["Fracture"]["probability"] is not None
    prompts[0]["name"] = "rib"
    reply = ask(client, png(), request=json.dumps({"prompts": prompts}))
    assert by_name(reply)["rib"]["probability"] is None
    assert reply["calibration"] is None and reply["probabilities"].startswith("None: none of these findings")


@pytest.mark.parametrize(("level", "lateral", "warned"), [
    ("frontal", False, False), ("frontal", True, True), ("study", True, False), ("study", False, True),
])  # fmt: skip
def test_a_query_of_another_level_than_the_sample_is_warned_of(
    served: Callable[..., TestClient], level: str, lateral: bool, warned: bool
) -> None:
    files, views = ([png(3), png(5)], ["PA", "LL"]) if lateral else ([png(3)], ["PA"])
    reply = ask(served(calibration(level)), *files, views=views)
    assert reply["calibration"]["level"] == level
    assert [warning["code"] for warning in reply["warnings"]] == (["calibration-level"] if warned else [])
    assert by_name(reply)["Edema"]["probability"] is not None


def test_without_a_calibration_the_reply_says_so(served: Callable[..., TestClient]) -> None:
    reply = ask(served(None), png())
    assert reply["calibration"] is None
    assert reply["probabilities"].startswith("None: no calibration lies beside the encoders.")
    assert {finding["probability"] for finding in reply["findings"]} == {None}
    assert {finding["not_calibrated"] for finding in reply["findings"]} == {None}


@pytest.mark.parametrize("found", ["{", '{"format": 1}', "foreign"])
def test_a_calibration_that_is_not_theirs_is_logged_and_not_used(
    served: Callable[..., TestClient], found: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "service"):
        client = served(calibration(fingerprint="a" * 64) if found == "foreign" else found)
    assert any("the calibration is not used" in record.message for record in caplog.records)
    reply = ask(client, png())
    assert reply["calibration"] is None and {finding["probability"] for finding in reply["findings"]} == {None}
    assert "not theirs or cannot be read" in reply["probabilities"]


def test_labels_have_no_probabilities(served: Callable[..., TestClient]) -> None:
    reply = ask(served(calibration()), png(), labels=["Edema", "tube"])
    assert reply["calibration"] is None and reply["probabilities"].startswith("None: labels")


def test_a_study_of_the_archive_is_scored_like_its_file(served: Callable[..., TestClient]) -> None:
    client = served(calibration())
    film = FILMS[0]
    archived = ask(client, study_instance_uid=film.study)
    assert archived["query"]["from_archive"] and len(archived["findings"]) == len(PROMPT_SETS)
    sent = by_name(ask(client, film.dicom(), find_prior="false"))
    alone = by_name(ask(client, study_instance_uid=film.study, find_prior="false"))
    for name, finding in alone.items():
        assert finding["positive_cosine"] == pytest.approx(sent[name]["positive_cosine"], abs=1e-5)
