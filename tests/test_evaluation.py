"""The protocols: an encoder that knows the truth is perfect, one that knows nothing is at chance."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from model.encoder import StudyImages
from model.evaluation import cohort, paired, simulated
from model.evaluation.fused import measure_fused
from model.evaluation.metrics import Interval
from model.evaluation.outcome import Measure, Outcome
from model.evaluation.paired import measure_paired
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
    studies: cohort.Cohort, transforms: Sequence[ImageTransform], workers: int, progress: Callable[[int, int], None]
) -> dict[ImageTransform, cohort.Views]:
    """Instead of a picture, the number of the study."""
    views = {
        (study.study_instance_uid, view): np.full((1, 1), NUMBER[study.study_instance_uid], np.float32)
        for study, _ in studies
        for view in study.views
    }
    return dict.fromkeys(transforms, views)


def values(measures: dict[str, Measure]) -> dict[str, float]:
    """Every figure over all its rows."""
    return {name: measure.compute(np.arange(len(measure.patients))) for name, measure in measures.items()}


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch) -> Callable[[Oracle], dict[str, Outcome]]:
    monkeypatch.setattr(simulated, "prepare_views", numbered_views)
    return lambda encoder: simulated.evaluate_simulated([encoder], SEED, STUDIES)[0]


Evaluate = Callable[[Oracle], dict[str, Outcome]]
SINGLE = Counter(name for study, _ in COHORT if len(study.finding_classes) == 1 for name in study.finding_classes)
EACH = min(SINGLE[name] for name in FINDINGS)


# The simulated protocol


def test_the_truth_scores_one_everywhere(evaluate: Evaluate) -> None:
    results = evaluate(Oracle())
    assert tuple(results) == simulated.LEVELS == ("single_image", "study")
    for level, result in results.items():
        found = values(result.measures)
        retrieval = {name: value for name, value in found.items() if name.rpartition("_")[2] in ("p5", "p10")}
        for name, value in retrieval.items():
            # With fewer than ten studies of a class nobody can fill the first ten places.
            k = int(name.rpartition("_p")[2])
            if name.startswith(("image_to_text", "text_to_image")):
                assert value == pytest.approx(min(1, EACH / k)), name
            else:  # the own study, and at times others of the patient, are no candidates
                best = min(1, (EACH - 1) / k)
                assert 0.8 * best < value <= best + 1e-9, name
        rest = {name: value for name, value in found.items() if name not in retrieval}
        assert set(rest.values()) == {1.0}, level


def test_knowing_nothing_is_chance(evaluate: Evaluate) -> None:
    for result in evaluate(Constant()).values():
        found = values(result.measures)
        for direction in ("image_to_text", "text_to_image"):
            assert found[f"{direction}_p5"] == found[f"{direction}_p10"] == pytest.approx(1 / 8)
            assert all(found[f"{direction}_r{k}"] <= 3 * k / STUDIES for k in (1, 5, 10))
        for name in ("image_to_image_p5", "fused_0.5_p5", "text_fused_0.25_p10"):
            assert found[name] == pytest.approx(result.measures[name].chance, abs=0.03)
            assert result.measures[name].chance < 1 / 8  # the own study is no candidate
        areas = [value for name, value in found.items() if "auroc" in name]
        assert len(areas) == 3 + 9 and set(areas) == {0.5}


def test_precision_is_over_equally_many_studies_of_each_single_finding(evaluate: Evaluate) -> None:
    for result in evaluate(Constant()).values():
        assert result.measures["image_to_text_p5"].over == len(FINDINGS) * EACH > 0
        assert f"{EACH} of each of 8 classes" in result.notes[0]


def test_subgroups_are_counted(evaluate: Evaluate) -> None:
    counts = {name: measure.over for name, measure in evaluate(Constant())["study"].measures.items()}
    changed = [{f.name for f in s.findings if f.change in ("increased", "decreased")} for s, _ in COHORT]
    assert counts["changed_r10"] == sum(map(bool, changed)) > 0
    assert counts["change_auroc"] >= counts["changed_r10"]
    assert counts["lateral_only_r10"] == sum(any(f.lateral_only for f in s.findings) for s, _ in COHORT) > 0
    assert 0 < counts["lateral_only_auroc"] <= counts["lateral_only_r10"]


def test_several_encoders_share_one_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[ImageTransform]] = []

    def counted(studies, transforms, workers, progress):  # type: ignore[no-untyped-def]
        asked.append(transforms)
        return numbered_views(studies, transforms, workers, progress)

    monkeypatch.setattr(simulated, "prepare_views", counted)
    together = simulated.evaluate_simulated([Oracle(), Constant()], SEED, STUDIES)
    assert len(asked) == 1
    alone = simulated.evaluate_simulated([Constant()], SEED, STUDIES)[0]
    for level in simulated.LEVELS:
        assert values(together[1][level].measures) == values(alone[level].measures)


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


def test_rendered_views_go_through_each_encoders_transform() -> None:
    reported: list[tuple[int, int]] = []
    encoder, small = FakeEncoder(), ImageTransform(16, 16)
    few = list(simulate_studies(SEED, 3))
    views = cohort.prepare_views(few, [encoder.transform, small, encoder.transform], 1, lambda *n: reported.append(n))
    assert list(views) == [encoder.transform, small]
    for transform, made in views.items():
        assert set(made) == {(study.study_instance_uid, view) for study, _ in few for view in study.views}
        assert all(image.shape == (transform.crop,) * 2 and image.dtype == np.float32 for image in made.values())
    slots = cohort.study_images(*few[0], views[encoder.transform], "study")
    assert encoder.encode_studies([slots]).shape == (1, 64)
    assert reported[-1] == (3, 3)


# Fused ranking


def fused_by_hand(
    queries: np.ndarray, images: np.ndarray, reports: np.ndarray, patients: np.ndarray, classes: np.ndarray, w: float
) -> float:
    """Precision at 5, one query and one candidate at a time."""
    shares = []
    for q in range(len(queries)):
        scores = {
            c: w * float(queries[q] @ images[c]) + (1 - w) * float(queries[q] @ reports[c])
            for c in range(len(images))
            if patients[c] != patients[q]
        }
        first = sorted(scores, key=lambda c: -scores[c])[:5]
        shares.append(sum(classes[c] == classes[q] for c in first) / 5)
    return float(np.mean(shares))


def test_fused_ranking_weighs_image_and_report_and_leaves_the_own_patient_out() -> None:
    draw = np.random.default_rng(0)
    images, reports = unit(draw.standard_normal((40, 8))), unit(draw.standard_normal((40, 8)))
    patients, classes = np.arange(40) // 2, draw.integers(0, 4, 40)
    found = values(measure_fused(images, reports, patients, classes[:, None] == classes[None, :]))
    for w in (0, 0.25, 0.5, 0.75, 1):
        expected = fused_by_hand(images, images, reports, patients, classes, w)
        assert found[f"fused_{w:g}_p5"] == pytest.approx(expected)
        expected = fused_by_hand(reports, images, reports, patients, classes, w)
        assert found[f"text_fused_{w:g}_p5"] == pytest.approx(expected)
    assert found["image_to_image_p10"] == found["fused_1_p10"]


# Paired retrieval


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_pairs_that_fit_are_found_first() -> None:
    embeddings, texts = np.eye(30), [f"Report {number}." for number in range(30)]
    result = paired.evaluate_paired(embeddings, embeddings, texts, np.arange(30))
    assert set(result.figures.values()) == {Interval(1.0, 1.0, 1.0)}
    assert {"image_to_text_mean_rank", "text_to_image_median_rank"} <= set(result.figures)
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


def test_many_pairs_are_ranked_in_parts_as_they_are_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    images, reports = (draw.integers(-2, 3, (40, 3)).astype(np.float32) for _ in range(2))  # with ties
    texts = [f"Report {n}." for n in draw.integers(0, 25, 40)]
    own = np.array([[a == b for b in texts] for a in texts])
    first = [n for n in range(40) if texts.index(texts[n]) == n]
    every = np.arange(40)
    monkeypatch.setattr(paired, "QUERIES", 7)
    found = measure_paired(images, reports, texts, every)
    for way, queries, gallery, hits in (
        ("image_to_text", images, reports[first], own[:, first]),
        ("text_to_image", reports, images, own),
    ):
        order = [sorted(range(len(gallery)), key=lambda g, q=q: (-float(q @ gallery[g]), g)) for q in queries]
        ranks = [1 + min(ranked.index(g) for g in np.flatnonzero(hits[n])) for n, ranked in enumerate(order)]
        assert found[f"{way}_mean_rank"].compute(every) == pytest.approx(np.mean(ranks))
        assert found[f"{way}_r5"].compute(every) == pytest.approx(np.mean(np.array(ranks) <= 5))


def test_stated_chance_is_what_drawing_at_random_gives() -> None:
    draw = np.random.default_rng(0)
    texts = [f"Report {number % 9}." for number in range(24)]
    totals: Counter[str] = Counter()
    for _ in range(150):
        images, reports = unit(draw.standard_normal((24, 6))), unit(draw.standard_normal((24, 6)))
        measures = paired.measure_paired(images, reports, texts, np.arange(24))
        for name, value in values(measures).items():
            totals[name] += value  # type: ignore[assignment]
    for name, total in totals.items():
        tolerance = 0.03 if name.rpartition("_")[2].startswith("r") and name[-1].isdigit() else 0.7
        assert total / 150 == pytest.approx(measures[name].chance, abs=tolerance), name


def test_reports_that_read_the_same_are_one_in_the_gallery() -> None:
    # Ten studies share a report that is nearest to every image; the others' own report comes second, not eleventh.
    texts = ["Clear lungs."] * 10 + [f"Report {number}." for number in range(5)]
    reports = np.concatenate([np.tile(np.eye(7)[0], (10, 1)), np.eye(7)[1:6]])
    images = unit(reports + 2 * np.eye(7)[0])
    found = values(paired.measure_paired(images, reports, texts, np.arange(15)))
    assert found["image_to_text_mean_rank"] == pytest.approx((10 * 1 + 5 * 2) / 15)
