"""What a protocol finds out about one encoder, before any resampling, so that encoders can be compared in pairs.

Axes: R rows (studies, queries or pairs), K depth of a ranking.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from .metrics import auroc, hit_ranks, precisions

__all__ = [
    "Measure",
    "Outcome",
    "PrecisionCurve",
    "ScoredLabels",
    "area",
    "mean",
    "measure_pairs",
    "measure_precision",
    "measure_ranks",
]


@dataclass(frozen=True)
class Measure:
    """One figure, computable on any rows. patients (R,); compute(rows) gives NaN where the figure is undefined.

    chance: what knowing nothing gives, None where that means nothing; over: on how many rows the figure speaks.
    """

    patients: np.ndarray
    compute: Callable[[np.ndarray], float]
    chance: float | None = None
    over: int | None = None


@dataclass(frozen=True)
class PrecisionCurve:
    """values (R, K): precision at every depth from 1, a row a query."""

    patients: np.ndarray
    values: np.ndarray
    chance: float


@dataclass(frozen=True)
class ScoredLabels:
    """scores (R,), higher speaks for positive; positive (R,) bool."""

    patients: np.ndarray
    scores: np.ndarray
    positive: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """measures by name, in the order in which they are shown; notes, those ``of_encoder`` on this encoder alone.
    What is there to be drawn: precision; scored; and probabilities, whose scores are probabilities of being positive.
    """

    measures: dict[str, Measure]
    notes: tuple[str, ...] = ()
    precision: Mapping[str, PrecisionCurve] = field(default_factory=dict)
    scored: Mapping[str, ScoredLabels] = field(default_factory=dict)
    probabilities: Mapping[str, ScoredLabels] = field(default_factory=dict)
    of_encoder: tuple[str, ...] = ()


def mean(patients: np.ndarray, values: np.ndarray, chance: float | None = None) -> Measure:
    """The mean of values (R,)."""
    return Measure(
        patients, lambda rows: float(values[rows].mean()) if len(rows) else float("nan"), chance, len(values)
    )


def area(scored: ScoredLabels) -> Measure:
    """The AUROC."""
    scores, positive = scored.scores, scored.positive
    return Measure(scored.patients, lambda rows: auroc(scores[rows], positive[rows]), 0.5, len(scores))


def measure_precision(
    patients: np.ndarray, similarity: np.ndarray, relevant: np.ndarray, depths: tuple[int, ...]
) -> tuple[dict[str, Measure], PrecisionCurve]:
    """P@k for every k of ``depths`` that the gallery can fill. similarity, relevant (R, G).

    The gallery is ranked in an order that a fixed seed shuffles: a list sorted by class gives ties to no class.
    """
    order = np.random.default_rng(0).permutation(similarity.shape[1])
    filled = [k for k in depths if k <= similarity.shape[1]]
    values = precisions(similarity[:, order], relevant[:, order], max(filled, default=1))
    chance = float(relevant.mean())
    measures = {f"p{k}": mean(patients, values[:, k - 1], chance) for k in filled}
    return measures, PrecisionCurve(patients, values, chance)


def measure_pairs(
    patients: np.ndarray, similarity: np.ndarray, relevant: np.ndarray, depths: tuple[int, ...] = (1, 5, 10)
) -> dict[str, Measure]:
    """R@k, mean and median rank of the first relevant item, and what drawing at random gives. (R, G) each."""
    return measure_ranks(patients, hit_ranks(similarity, relevant), relevant.shape[1], relevant.sum(axis=1), depths)


def measure_ranks(
    patients: np.ndarray, ranks: np.ndarray, gallery: int, own: np.ndarray, depths: tuple[int, ...] = (1, 5, 10)
) -> dict[str, Measure]:
    """The figures of ``measure_pairs`` from the ranks (R,); own (R,): how many of the gallery are relevant."""
    measures = {}
    for k in depths:
        counts, times = np.unique(own, return_counts=True)
        chance = float(np.average([_at_random(gallery, count, k) for count in counts.tolist()], weights=times))
        measures[f"r{k}"] = mean(patients, ranks <= k, chance)
    expected = (gallery + 1) / (own + 1)  # rank of the first of ``own`` among ``gallery`` in random order
    measures["mean_rank"] = mean(patients, ranks, float(expected.mean()))
    measures["median_rank"] = Measure(
        patients, lambda rows: float(np.median(ranks[rows])), float(np.median(expected)), len(ranks)
    )
    return measures


def _at_random(count: int, relevant: int, k: int) -> float:
    """Probability that k of ``count`` drawn without replacement hold one of ``relevant``."""
    missed = 1.0
    for drawn in range(min(k, count)):
        missed *= max(0, count - relevant - drawn) / (count - drawn)
    return 1 - missed
