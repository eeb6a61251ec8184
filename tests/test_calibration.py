"""Calibration: known parameters come back, too little is left alone, what is unclear is said to be."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.calibration import Calibration, FindingCalibration, hash_prompts
from model.errors import CheckpointError
from model.evaluation.calibrate import _calibration_error, _threshold, calibrate_findings, fit_platt, patient_folds
from model.evaluation.outcome import ScoredLabels
from model.prompts import PromptPair

PAIR = PromptPair(("There is edema.",), ("No edema.",))
TEMPERATURE, BIAS = 0.05, -1.0


def sample(count: int, seed: int = 0, temperature: float = TEMPERATURE) -> ScoredLabels:
    """Two cases a patient, whose scores follow the logistic model exactly."""
    draw = np.random.default_rng(seed)
    scores = draw.normal(0.02, 0.12, count)
    positive = draw.random(count) < 1 / (1 + np.exp(-(scores / temperature + BIAS)))
    return ScoredLabels(np.arange(count) // 2, scores, positive)


def fitted(**changes: object) -> FindingCalibration:
    values = {"temperature": 0.05, "bias": -1.0, "threshold": 0.4, "band": (0.3, 0.5), "positives": 20, "negatives": 30}
    return FindingCalibration(**(values | {"prompts_sha256": hash_prompts(PAIR)} | changes))  # type: ignore[arg-type]


def calibration(**changes: object) -> Calibration:
    values = {"fingerprint": "a" * 64, "date": "2025-01-31", "sample": "site.csv", "sample_sha256": "b" * 64}
    more = {"studies": 50, "patients": 40, "level": "frontal", "findings": {"Edema": fitted()}}
    return Calibration(**(values | more | {"left_out": {"Fracture": "too few cases"}} | changes))  # type: ignore[arg-type]


# Fitting


def test_known_parameters_come_back() -> None:
    cases = sample(20_000)
    platt = fit_platt(cases.scores, cases.positive)
    assert platt.temperature == pytest.approx(TEMPERATURE, rel=0.05)
    assert platt.bias == pytest.approx(BIAS, abs=0.05)


def test_a_fit_is_at_the_minimum_of_its_loss() -> None:
    cases = sample(80)
    count, others = int(cases.positive.sum()), int((~cases.positive).sum())
    targets = np.where(cases.positive, (count + 1) / (count + 2), 1 / (others + 2))
    spread = cases.scores.std()

    def loss(slope: float, bias: float) -> float:
        p = 1 / (1 + np.exp(-(slope * cases.scores + bias)))
        return float(-(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum() + 0.5 * (slope * spread) ** 2)

    platt = fit_platt(cases.scores, cases.positive)
    slope, bias = 1 / platt.temperature, platt.bias
    around = [loss(slope + a, bias + b) for a in (-0.05, 0, 0.05) for b in (-0.01, 0, 0.01)]
    assert loss(slope, bias) == min(around)


def test_a_sample_that_scores_part_stays_finite() -> None:
    scores = np.concatenate([np.linspace(-0.2, -0.1, 12), np.linspace(0.1, 0.2, 12)])
    platt = fit_platt(scores, np.arange(24) >= 12)
    found = platt(scores)
    assert 0.001 < found.min() < 0.1 and 0.9 < found.max() < 0.999


def test_too_few_cases_and_scores_that_mislead_are_left_out() -> None:
    cases = sample(400)
    few = np.flatnonzero(cases.positive)[:9].tolist() + np.flatnonzero(~cases.positive).tolist()
    given = {
        "Edema": cases,
        "Fracture": ScoredLabels(cases.patients[few], cases.scores[few], cases.positive[few]),
        "Nodule": ScoredLabels(cases.patients, -cases.scores, cases.positive),
        "Device": ScoredLabels(cases.patients, np.ones(400), cases.positive),
    }
    fit = calibrate_findings(given, dict.fromkeys(given, PAIR))
    assert set(fit.fitted) == {"Edema"}
    assert fit.left_out["Fracture"].startswith("too few cases: 9 with the finding")
    assert all("do not reliably rise" in fit.left_out[name] for name in ("Nodule", "Device"))


def test_a_threshold_is_the_best_of_all() -> None:
    cases = sample(120)
    scores, positive = np.round(cases.scores, 2), cases.positive
    threshold = _threshold(scores, positive, None)

    def youden(at: float) -> float:
        return float((scores[positive] >= at).mean() - (scores[~positive] >= at).mean())

    assert youden(threshold) == pytest.approx(max(youden(at) for at in np.linspace(-0.5, 0.5, 2001)))
    assert threshold not in scores
    for wanted in (0.8, 0.95, 1.0):
        reached = _threshold(scores, positive, wanted)
        assert (scores[positive] >= reached).mean() >= wanted
        higher = min(score for score in scores if score > reached) + 1e-9
        assert (scores[positive] >= higher).mean() < wanted  # the highest that reaches it


def test_the_band_holds_the_threshold_and_narrows_with_the_sample() -> None:
    widths = []
    for count in (100, 4000):
        # At a wanted sensitivity: the best Youden index is at times as unsteady in a large sample as in a small one.
        (found,) = calibrate_findings({"Edema": sample(count)}, {"Edema": PAIR}, sensitivity=0.9).fitted.values()
        assert 0 < found.band[0] <= found.threshold <= found.band[1] < 1
        widths.append(found.band[1] - found.band[0])
    assert widths[0] > 2 * widths[1]


def test_folds_keep_patients_whole_and_share_out_the_positive() -> None:
    patients, positive = np.arange(100) // 4, np.arange(100) % 20 < 3
    fold_of = patient_folds(patients, positive)
    for patient in range(25):
        assert len(set(fold_of[patients == patient])) == 1
    assert all(positive[fold_of == fold].any() for fold in range(5))


def test_figures_are_those_of_fits_on_other_patients() -> None:
    cases = sample(200)
    after = calibrate_findings({"Edema": cases}, {"Edema": PAIR}).after
    fold_of = patient_folds(cases.patients, cases.positive)
    for fold in range(5):
        held = fold_of == fold
        platt = fit_platt(cases.scores[~held], cases.positive[~held])
        assert after.probabilities["Edema"].scores[held] == pytest.approx(platt(cases.scores[held]))
    brier = np.mean((after.probabilities["Edema"].scores - cases.positive) ** 2)
    assert after.measures["brier: Edema"].compute(np.arange(200)) == pytest.approx(brier)


def test_scores_that_may_be_chance_are_left_out() -> None:
    draw = np.random.default_rng(0)
    for _ in range(5):
        cases = ScoredLabels(np.arange(100), draw.standard_normal(100) * 0.1, draw.random(100) < 0.3)
        fit = calibrate_findings({"Edema": cases}, {"Edema": PAIR})
        assert not fit.fitted and "do not reliably rise" in fit.left_out["Edema"]


def test_what_is_left_undecided_would_be_wrong_more_often() -> None:
    (found,) = calibrate_findings({"Edema": sample(300, seed=1)}, {"Edema": PAIR}).fitted.values()
    fresh = sample(5000, seed=2)
    decisions = np.array([found.apply(float(score)).decision for score in fresh.scores])
    called = np.array([found.probability(float(score)) >= found.threshold for score in fresh.scores])
    right = called == fresh.positive
    unsure = decisions == "uncertain"
    assert 0.01 < unsure.mean() < 0.5
    assert right[~unsure].mean() > right[unsure].mean() + 0.1
    assert (decisions[~unsure] == np.where(called[~unsure], "present", "absent")).all()


def test_calibrating_makes_probabilities_right() -> None:
    fit = calibrate_findings({"Edema": sample(1000)}, {"Edema": PAIR})
    every = np.arange(1000)
    for name in ("brier: Edema", "calibration_error: Edema"):
        assert fit.after.measures[name].compute(every) < fit.before.measures[name].compute(every)
    assert fit.after.measures["calibration_error: Edema"].compute(every) < 0.05
    assert fit.after.measures["sensitivity: Edema"].compute(every) > 0.7


def test_calibration_error_is_the_gap_of_each_tenth() -> None:
    draw = np.random.default_rng(0)
    p = draw.random(95)
    positive = draw.random(95) < p**2
    order, gaps, start = sorted(range(95), key=lambda n: p[n]), 0.0, 0
    for size in [10] * 5 + [9] * 5:
        part = order[start : start + size]
        gaps += abs(sum(p[n] for n in part) - sum(positive[n] for n in part))
        start += size
    assert _calibration_error(p, positive) == pytest.approx(gaps / 95)


# Using it


def test_scores_become_probabilities_and_decisions() -> None:
    found = fitted()
    assert found.apply(0.05).probability == pytest.approx(0.5) and found.probability(1e3) == 1.0
    assert found.probability(-1e3) == 0.0
    assert [found.apply(score).decision for score in (-0.2, 0.03, 0.2)] == ["absent", "uncertain", "present"]
    sharp = fitted(band=(0.4, 0.4))
    assert [sharp.apply(score).decision for score in (0.0, 0.1)] == ["absent", "present"]


def test_other_findings_and_other_prompts_are_not_calibrated() -> None:
    known = calibration()
    found = known.apply("Edema", 0.2, PAIR)
    assert found is not None and found.decision == "present"
    assert known.apply("Fracture", 0.2, PAIR) is None
    assert known.apply("Edema", 0.2, PromptPair(PAIR.positive, ("Lungs without edema.",))) is None


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert Calibration.load(tmp_path, "a" * 64) is None
    calibration().save(tmp_path)
    assert Calibration.load(tmp_path, "a" * 64) == calibration()
    assert [path.name for path in tmp_path.iterdir()] == ["calibration.json"]


def test_a_calibration_of_other_encoders_or_broken_is_refused(tmp_path: Path) -> None:
    path = calibration().save(tmp_path)
    with pytest.raises(CheckpointError, match="was fitted for encoders aaaaaaaaaaaa, these are cccccccccccc"):
        Calibration.load(tmp_path, "c" * 64)
    content = json.loads(path.read_text())
    for change in (
        {"format": 2},
        {"findings": []},
        {"surprise": 1},
        {"findings": {"Edema": content["findings"]["Edema"] | {"temperature": -1}}},
        {"findings": {"Edema": content["findings"]["Edema"] | {"threshold": 0.9}}},
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(CheckpointError, match="is no calibration"):
            Calibration.load(tmp_path, "a" * 64)
    path.write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Calibration.load(tmp_path, "a" * 64)


def test_reading_a_calibration_needs_no_torch() -> None:
    code = "import sys, model.calibration; sys.exit(bool({'torch', 'transformers', 'timm'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
