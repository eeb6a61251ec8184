"""Accuracy and F1 where a threshold must be chosen: on nine of ten folds, judged on the tenth."""

from collections.abc import Callable
from functools import partial

import numpy as np

from .outcome import Measure

__all__ = ["FOLDS", "accuracy", "cross_validated", "f1", "stratified_folds"]

FOLDS = 10
STEPS = np.arange(201) / 200  # 0, 0.005 .. 1


def accuracy(predicted: np.ndarray, positive: np.ndarray) -> float:
    return float((predicted == positive).mean())


def f1(predicted: np.ndarray, positive: np.ndarray) -> float:
    """0 where nothing is positive and nothing is called so."""
    called = int(predicted.sum()) + int(positive.sum())
    return 2 * int((predicted & positive).sum()) / called if called else 0.0


def stratified_folds(positive: np.ndarray, folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """The fold of every row (R,): each class is dealt out evenly, at random by the seed."""
    draw = np.random.RandomState(seed)  # the generator that published evaluations seed
    fold_of = np.empty(len(positive), int)
    dealt = np.sort(positive.astype(int))  # counts of a class differ by at most one between folds, totals as well
    for label in (False, True):
        sizes = [int((dealt[fold::folds] == label).sum()) for fold in range(folds)]
        fold_of[positive == label] = draw.permutation(np.repeat(np.arange(folds), sizes))
    return fold_of


def cross_validated(patients: np.ndarray, scores: np.ndarray, positive: np.ndarray) -> dict[str, Measure]:
    """Accuracy and F1, each the mean over ten folds, each with the threshold that is best for it on the other nine.

    scores (R,) in 0..1; a case is called positive at or above the threshold; of equally good thresholds the lowest.
    Thresholds are not chosen anew when patients are resampled.
    """
    fold_of = stratified_folds(positive)
    measures = {}
    for name, figure in (("accuracy", accuracy), ("f1", f1)):
        predicted = np.empty(len(scores), bool)
        for fold in range(FOLDS):
            rest = fold_of != fold
            found = [figure(scores[rest] >= step, positive[rest]) for step in STEPS]
            predicted[~rest] = scores[~rest] >= STEPS[int(np.argmax(found))]
        compute = partial(_mean_over_folds, figure, predicted, positive, fold_of)
        measures[name] = Measure(patients, compute, None, len(scores))
    return measures


def _mean_over_folds(
    figure: Callable[[np.ndarray, np.ndarray], float],
    predicted: np.ndarray,
    positive: np.ndarray,
    fold_of: np.ndarray,
    rows: np.ndarray,
) -> float:
    parts = (rows[fold_of[rows] == fold] for fold in range(FOLDS))
    return float(np.mean([figure(predicted[part], positive[part]) for part in parts if len(part)]))
