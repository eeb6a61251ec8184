"""The protocols: an encoder that knows the truth is perfect, one that knows nothing is at chance."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest

from model.encoder import StudyImages
from model.evaluation import cohort, metrics, paired, simulated
from model.evaluation.metrics import Interval
from model.image import ImageTransform
from model.prompts import PROMPT_SETS
from model.simulation import FINDINGS, SimulatedStudy, simulate_studies
from model.text import report_body
from tests.fakes import FakeEncoder

SEED, STUDIES = 5, 160
COHORT = list(simulate_studies(SEED, STUDIES))
NUMBER = {study.study_instance_uid: number for number, (study, _) in enumerate(COHORT)}
BODIES = [report_body(study.report.findings, study.report.impression) for study, _ in COHORT]


def truth(study: SimulatedStudy) -> np.ndarray:
    """Findings, no finding, changes; then, small, which report it is."""
    classes = [name in study.finding_classes for name in FINDINGS]
    changes = {finding.name: finding.change for finding in study.findings}
    directions = [{"increased": 1, "decreased": -1}.get(changes.get(name) or "", 0) for name in FINDINGS]
    body = report_body(study.report.findings, study.report.impression)
    own = np.array(BODIES) == body
    vector = np.concatenate([classes, [not study.finding_classes], 0.2 * np.array(directions), 0.2 * own / own.sum()])
    return vector / np.linalg.norm(vector)


class Oracle:
    """Reads the number of the study from its frontal image, as ``numbered_views`` writes it, and knows its truth."""

    fingerprint, context_length = "0" * 64, 10**6
    transform = ImageTransform(32, 32)
    width = len(truth(COHORT[0][0]))
    dimension = width

    def __init__(self) -> None:
        self.seen: list[StudyImages] = []

    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        self.seen.extend(studies)
        numbers = [int(s.current_frontal[0, 0]) for s in studies if s.current_frontal is not None]
        return np.stack([truth(COHORT[number][0]) for number in numbers])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([truth(COHORT[BODIES.index(text)][0]) for text in texts])

    def encode_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        direction = np.zeros(self.width)
        for name, key in simulated.PROMPTS_OF.items():
            place = FINDINGS.index(name) if name in FINDINGS else len(FINDINGS)
            direction[place] += (tuple(prompts) == PROMPT_SETS[key].positive) - 0.5
        for place, name in enumerate(FINDINGS, start=len(FINDINGS) + 1):
            direction[place] = list(prompts) == [phrase.format(name) for phrase in simulated.WORSE]
        return direction / np.linalg.norm(direction)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [1] * len(texts)


class Constant(Oracle):
    """Everything looks alike."""

    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        return np.tile(np.eye(self.width)[0], (len(studies), 1))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.tile(np.eye(self.width)[0], (len(texts), 1))

    def encode_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        return np.eye(self.width)[0]


def numbered_views(
    studies: cohort.Cohort, transform: ImageTransform, workers: int, progress: Callable[[int, int], None]
) -> cohort.Views:
    """Instead of a picture, the number of the study."""
    return {
        (study.study_instance_uid, view): np.full((1, 1), NUMBER[study.study_instance_uid], np.float32)
        for study, _ in studies
        for view in study.views
    }


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    few = partial(metrics.bootstrap, rounds=10)
    for module in (metrics, simulated, paired):
        monkeypatch.setattr(module, "bootstrap", few)


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch) -> Callable[[Oracle], dict[str, simulated.SimulatedFigures]]:
    monkeypatch.setattr(simulated, "prepare_views", numbered_views)
    return lambda encoder: simulated.evaluate_simulated(encoder, SEED, STUDIES)


Evaluate = Callable[[Oracle], dict[str, simulated.SimulatedFigures]]


# The simulated protocol


def test_the_truth_scores_one_everywhere(evaluate: Evaluate) -> None:
    results = evaluate(Oracle())
    assert tuple(results) == simulated.LEVELS == ("single_image", "study")
    for level, result in results.items():
        # With fewer than ten studies of a class nobody can fill the first ten places.
        expected = {
            name: min(1, result.counts["studies_of_each_class"] / 10) if name.endswith("p10") else 1.0
            for name in result.figures
        }
        assert {name: interval.value for name, interval in result.figures.items()} == pytest.approx(expected), level
        assert {name: interval.value for name, interval in result.zero_shot.items()} == dict.fromkeys(
            (*FINDINGS, "no finding"), 1.0
        )


def test_knowing_nothing_is_chance(evaluate: Evaluate) -> None:
    for result in evaluate(Constant()).values():
        values = {name: interval.value for name, interval in result.figures.items()}
        for direction in ("image_to_text", "text_to_image"):
            assert values[f"{direction}_p5"] == values[f"{direction}_p10"] == pytest.approx(1 / 8)
            assert all(values[f"{direction}_r{k}"] <= 3 * k / STUDIES for k in (1, 5, 10))
        for name in ("zero_shot_auroc_mean", "change_auroc", "lateral_only_auroc"):
            assert values[name] == 0.5
        assert all(interval.value == 0.5 for interval in result.zero_shot.values())


def test_precision_is_over_equally_many_studies_of_each_single_finding(evaluate: Evaluate) -> None:
    single = Counter(name for study, _ in COHORT if len(study.finding_classes) == 1 for name in study.finding_classes)
    for result in evaluate(Constant()).values():
        assert result.counts["studies_of_each_class"] == min(single[name] for name in FINDINGS) > 0
        assert result.counts["queries_precision"] == len(FINDINGS) * result.counts["studies_of_each_class"]


def test_subgroups_are_counted(evaluate: Evaluate) -> None:
    counts = evaluate(Constant())["study"].counts
    changed = [{f.name for f in s.findings if f.change in ("increased", "decreased")} for s, _ in COHORT]
    assert counts["changed_r10"] == sum(map(bool, changed)) > 0
    assert counts["change_auroc"] >= counts["changed_r10"]
    assert counts["lateral_only_r10"] == sum(any(f.lateral_only for f in s.findings) for s, _ in COHORT) > 0
    assert 0 < counts["lateral_only_auroc"] <= counts["lateral_only_r10"]


def test_one_level_sees_the_frontal_alone_the_other_all_there_is(evaluate: Evaluate) -> None:
    oracle = Oracle()
    evaluate(oracle)
    alone, whole = oracle.seen[:STUDIES], oracle.seen[STUDIES:]
    assert all(images.slots()[1:] == (None, None, None) for images in alone)
    for (study, prior), images in zip(COHORT, whole, strict=True):
        expected = [True, study.has_lateral, prior is not None, prior is not None and prior.has_lateral]
        assert [slot is not None for slot in images.slots()] == expected
        if prior is not None:
            assert images.prior_frontal is not None and images.prior_frontal[0, 0] == NUMBER[prior.study_instance_uid]


def test_figures_can_be_written_as_json(evaluate: Evaluate) -> None:
    result = evaluate(Oracle())["study"]
    written = json.dumps({name: interval.as_list() for name, interval in result.figures.items()})
    assert json.loads(written)["image_to_text_r1"] == [1.0, 1.0, 1.0]


def test_rendered_views_go_through_the_encoders_transform() -> None:
    reported: list[tuple[str, int, int]] = []
    encoder = FakeEncoder()
    few = list(simulate_studies(SEED, 3))
    views = cohort.prepare_views(few, encoder.transform, 1, lambda *n: reported.append(("rendering", *n)))
    assert set(views) == {(study.study_instance_uid, view) for study, _ in few for view in study.views}
    assert all(image.shape == (32, 32) and image.dtype == np.float32 for image in views.values())
    assert encoder.encode_studies([cohort.study_images(*few[0], views, "study")]).shape == (1, 64)
    assert reported[-1] == ("rendering", 3, 3)


# Paired retrieval


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_pairs_that_fit_are_found_first() -> None:
    embeddings, texts = np.eye(30), [f"Report {number}." for number in range(30)]
    result = paired.evaluate_paired(embeddings, embeddings, texts, np.arange(30))
    assert set(result.figures.values()) == {Interval(1.0, 1.0, 1.0)}
    assert result.chance["image_to_text_r1"] == pytest.approx(1 / 30)
    assert result.chance["text_to_image_r10"] == pytest.approx(1 / 3)
    assert result.chance["image_to_text_median_rank"] == pytest.approx(15.5)


def test_identical_reports_are_one() -> None:
    embeddings = np.eye(4)
    texts = ["Clear lungs.", "clear  LUNGS.\n", "Effusion.", "Pneumothorax."]
    crossed = embeddings[[1, 0, 2, 3]]
    result = paired.evaluate_paired(embeddings, crossed, texts, np.arange(4))
    assert result.figures["image_to_text_r1"].value == result.figures["text_to_image_r1"].value == 1.0
    others = paired.evaluate_paired(embeddings, crossed, [f"{n} {text}" for n, text in enumerate(texts)], np.arange(4))
    assert others.figures["image_to_text_r1"].value == 0.5


def test_stated_chance_is_what_drawing_at_random_gives() -> None:
    draw = np.random.default_rng(0)
    texts = [f"Report {number % 9}." for number in range(24)]
    totals: Counter[str] = Counter()
    for _ in range(150):
        images, reports = unit(draw.standard_normal((24, 6))), unit(draw.standard_normal((24, 6)))
        result = paired.evaluate_paired(images, reports, texts, np.arange(24))
        for name in ("image_to_text_r1", "text_to_image_r5", "image_to_text_r10"):
            totals[name] += result.figures[name].value  # type: ignore[assignment]
    for name, total in totals.items():
        assert total / 150 == pytest.approx(result.chance[name], abs=0.03), name
