"""Fitting a calibration on a labelled sample of one site, and saying honestly how good it is.

Axis: R cases of one finding. score: cosine to the asserting prompts minus cosine to the denying ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..calibration import FindingCalibration, hash_prompts
from ..prompts import PromptPair
from .metrics import auroc, bootstrap, resample
from .outcome import Measure, Outcome, ScoredLabels

__all__ = ["FEWEST", "Fit", "Platt", "calibrate_findings", "equal_bins", "fit_platt", "patient_folds"]

FEWEST = 10  # cases of either kind; with fewer a finding is left as it is
FOLDS = 5
BAND_ROUNDS = 200
BINS = 10
RIDGE = 1.0  # on the slope over the standardised score, in cases: matters to samples of tens, not of hundreds


@dataclass(frozen=True)
class Platt:
    """probability = sigmoid(score / temperature + bias)."""

    temperature: float
    bias: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return _sigmoid(scores / self.temperature + self.bias)


@dataclass(frozen=True)
class Fit:
    """fitted by finding; left_out with reasons; before and after hold the cross-validated figures, to be compared."""

    fitted: dict[str, FindingCalibration]
    left_out: dict[str, str]
    before: Outcome
    after: Outcome


def calibrate_findings(
    scored: Mapping[str, ScoredLabels], prompts: Mapping[str, PromptPair], sensitivity: float | None = None
) -> Fit:
    """Every finding with at least ``FEWEST`` cases of either kind and an AUROC whose interval is above 0.5.

    sensitivity: the threshold reaches it on the sample; without one the threshold has the best Youden index. The band
    is the 95 % interval of the threshold when patients are drawn again.
    """
    fitted, left_out = {}, {}
    before: dict[str, Measure] = {}
    after: dict[str, Measure] = {}
    curves_before, curves_after = {}, {}
    for name, cases in scored.items():
        if reason := _unfit(cases):
            left_out[name] = reason
            continue
        platt, threshold, band = _fit(cases, sensitivity)
        fitted[name] = FindingCalibration(
            platt.temperature,
            platt.bias,
            threshold,
            band,
            int(cases.positive.sum()),
            int((~cases.positive).sum()),
            hash_prompts(prompts[name]),
        )
        held_out, decided = _cross_validate(cases, sensitivity)
        curves_before[name] = ScoredLabels(cases.patients, _sigmoid(cases.scores), cases.positive)
        curves_after[name] = ScoredLabels(cases.patients, held_out, cases.positive)
        for measures, curves in ((before, curves_before), (after, curves_after)):
            measures |= {f"{figure}: {name}": measure for figure, measure in _quality(curves[name]).items()}
        # Without a calibration nothing is decided, so these have no "before".
        nothing = {label: _undefined(cases.patients) for label in _decisions(cases, decided)}
        before |= {f"{label}: {name}": measure for label, measure in nothing.items()}
        after |= {f"{label}: {name}": measure for label, measure in _decisions(cases, decided).items()}
    return Fit(
        fitted,
        left_out,
        # No ROC: calibrating keeps the order, and probabilities of different folds are not to be ranked together.
        Outcome(before, probabilities=curves_before),
        Outcome(after, probabilities=curves_after),
    )


def fit_platt(scores: np.ndarray, positive: np.ndarray) -> Platt:
    """Logistic regression on the score by Newton's method, with Platt's smoothed targets and a small ridge.

    Smoothed targets keep separable samples finite. Raises ValueError when scores do not rise with the finding.
    """
    count, others = int(positive.sum()), int((~positive).sum())
    targets = np.where(positive, (count + 1) / (count + 2), 1 / (others + 2))
    centre, spread = float(scores.mean()), float(scores.std())
    if not spread:
        raise ValueError("all scores are equal")
    design = np.stack([(scores - centre) / spread, np.ones_like(scores)], axis=1).astype(float)  # (R, 2)
    penalty = np.array([RIDGE, 0.0])
    weights = np.array([0.0, np.log((count + 1) / (others + 1))])
    for _ in range(100):
        probability = _sigmoid(design @ weights)
        gradient = design.T @ (probability - targets) + penalty * weights
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step * min(1.0, 5 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-10:
            break
    slope = weights[0] / spread
    if slope <= 0:
        raise ValueError("scores do not rise with the finding")
    return Platt(float(1 / slope), float(weights[1] - slope * centre))


def patient_folds(patients: np.ndarray, positive: np.ndarray, folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """The fold of every case (R,): patients stay whole; those with a positive case are dealt out first, evenly."""
    names, owner = np.unique(patients, return_inverse=True)
    has = np.zeros(len(names), bool)
    np.logical_or.at(has, owner, positive)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(~has[order], kind="stable")]
    fold_of = np.empty(len(names), int)
    fold_of[order] = np.arange(len(names)) % folds
    return fold_of[owner]


def _unfit(cases: ScoredLabels) -> str | None:
    count, others = int(cases.positive.sum()), int((~cases.positive).sum())
    if min(count, others) < FEWEST:
        return f"too few cases: {count} with the finding, {others} without; at least {FEWEST} of each are needed"
    if len(np.unique(cases.patients[cases.positive])) < FOLDS:
        return f"too few patients with the finding; at least {FOLDS} are needed"
    ranked = bootstrap(cases.patients, lambda rows: auroc(cases.scores[rows], cases.positive[rows]), rounds=BAND_ROUNDS)
    if not ranked.low > 0.5:
        return f"scores do not reliably rise with the finding: AUROC {ranked}"
    return None


def _fit(cases: ScoredLabels, sensitivity: float | None) -> tuple[Platt, float, tuple[float, float]]:
    """The map, the threshold as a probability, and its interval: the map rises, so it carries thresholds over."""
    platt = fit_platt(cases.scores, cases.positive)
    threshold = _threshold(cases.scores, cases.positive, sensitivity)
    drawn = resample(
        cases.patients,
        lambda rows: _threshold(cases.scores[rows], cases.positive[rows], sensitivity),
        BAND_ROUNDS,
    )
    defined = drawn[~np.isnan(drawn)]
    low, high = np.percentile(defined, (2.5, 97.5)) if len(defined) else (threshold, threshold)
    edges = platt(np.array([min(low, threshold), threshold, max(high, threshold)]))
    return platt, float(edges[1]), (float(edges[0]), float(edges[2]))


def _threshold(scores: np.ndarray, positive: np.ndarray, sensitivity: float | None) -> float:
    """Cases at or above it are called positive. Between two scores, so that no case lies on it; NaN for one class."""
    if positive.all() or not positive.any():
        return float("nan")
    steps, place = np.unique(scores, return_inverse=True)  # ascending
    above = np.cumsum(np.bincount(place, positive, len(steps))[::-1])[::-1]  # positives at or above each step
    others = np.cumsum(np.bincount(place, ~positive, len(steps))[::-1])[::-1]
    found, alarms = above / positive.sum(), others / (~positive).sum()
    best = int(np.argmax(found - alarms)) if sensitivity is None else int(np.flatnonzero(found >= sensitivity)[-1])
    return float(steps[best] if best == 0 else (steps[best - 1] + steps[best]) / 2)


def _cross_validate(cases: ScoredLabels, sensitivity: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (R,) and decisions (R,), 1 present, 0 absent, NaN uncertain, each by a fit on other patients."""
    fold_of = patient_folds(cases.patients, cases.positive)
    probabilities, decided = np.empty(len(cases.scores)), np.empty(len(cases.scores))
    for fold in range(FOLDS):
        held = fold_of == fold
        rest = ScoredLabels(cases.patients[~held], cases.scores[~held], cases.positive[~held])
        try:
            platt, threshold, (low, high) = _fit(rest, sensitivity)
        except ValueError:  # a slope that is not there without these patients: then nothing is known
            probabilities[held], decided[held] = rest.positive.mean(), np.nan
            continue
        p = platt(cases.scores[held])
        probabilities[held] = p
        decided[held] = np.where((p >= low) & (p <= high) & (low < high), np.nan, p >= threshold)
    return probabilities, decided


def _quality(cases: ScoredLabels) -> dict[str, Measure]:
    probabilities, positive = cases.scores, cases.positive
    brier = (probabilities - positive) ** 2
    return {
        "brier": Measure(cases.patients, lambda rows: float(brier[rows].mean()), None, len(brier)),
        "calibration_error": Measure(
            cases.patients, lambda rows: _calibration_error(probabilities[rows], positive[rows]), None, len(brier)
        ),
    }


def _calibration_error(probabilities: np.ndarray, positive: np.ndarray) -> float:
    """Expected calibration error over ten bins of equally many cases. Resampling biases it upward."""
    gaps = [abs(probabilities[part].mean() - positive[part].mean()) * len(part) for part in equal_bins(probabilities)]
    return float(sum(gaps) / len(probabilities))


def equal_bins(probabilities: np.ndarray) -> list[np.ndarray]:
    """Rows of the lowest tenth, the next, and so on: bins of equally many cases are never empty."""
    return np.array_split(np.argsort(probabilities, kind="stable"), min(BINS, len(probabilities)))


def _decisions(cases: ScoredLabels, decided: np.ndarray) -> dict[str, Measure]:
    """How often the band abstains, and how often decisions are right where it does not."""

    def share(of: np.ndarray, right: np.ndarray) -> Measure:
        def compute(rows: np.ndarray) -> float:
            chosen = rows[of[rows]]
            return float(right[chosen].mean()) if len(chosen) else float("nan")

        return Measure(cases.patients, compute, None, int(of.sum()))

    sure = ~np.isnan(decided)
    return {
        "uncertain": share(np.ones(len(decided), bool), ~sure),
        "sensitivity": share(sure & cases.positive, decided == 1),
        "specificity": share(sure & ~cases.positive, decided == 0),
    }


def _undefined(patients: np.ndarray) -> Measure:
    return Measure(patients, lambda rows: float("nan"))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(logits, float)))
