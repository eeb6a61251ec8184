"""Retrieval and classification figures, with bootstrap intervals that resample patients.

Axes: Q queries, G gallery items. Similarities are (Q, G), larger is closer. Ties are broken by gallery order, as the
search does, so a gallery must not be sorted by class; a constant encoder then scores at chance.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = [
    "ROUNDS",
    "TIE_RULE",
    "Interval",
    "auroc",
    "bootstrap",
    "bootstrap_auroc",
    "bootstrap_mean",
    "hit_ranks",
    "interval_of",
    "precision_at_k",
    "precisions",
    "resample",
]

ROUNDS = 1000  # of every bootstrap
TIE_RULE = (
    "Ties: equal similarities rank in gallery order, which precision at k shuffles with a fixed seed; equal scores"
    " count half in an AUROC."
)


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval, NaN where nothing can be said of it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({'no interval' if np.isnan(self.low) else f'{self.low:.3f} to {self.high:.3f}'})"

    def as_list(self) -> list[float | None]:
        """[value, low, high] for JSON; None where undefined."""
        return [None if np.isnan(x) else round(x, 4) for x in (self.value, self.low, self.high)]


def precision_at_k(similarity: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Share of the first k that is relevant, per query: (Q,). relevant is (Q, G) bool."""
    first = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(relevant, first, axis=1).mean(axis=1)


def precisions(similarity: np.ndarray, relevant: np.ndarray, deepest: int) -> np.ndarray:
    """``precision_at_k`` for every k from 1 to ``deepest``, in one ranking: (Q, deepest)."""
    first = np.argsort(-similarity, axis=1, kind="stable")[:, :deepest]
    return np.cumsum(np.take_along_axis(relevant, first, axis=1), axis=1) / np.arange(1, first.shape[1] + 1)


def hit_ranks(similarity: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Rank, from 1, of the first relevant item of each query: (Q,); G + 1 where nothing is relevant."""
    # Counting what is closer, or as close and earlier, ranks like a stable sort and is linear in G.
    place = np.where(relevant, similarity, -np.inf).argmax(axis=1)[:, None]
    closest = np.take_along_axis(similarity, place, axis=1)
    earlier = (similarity == closest) & (np.arange(similarity.shape[1]) < place)
    ahead = ((similarity > closest) | earlier).sum(axis=1)
    return np.where(relevant.any(axis=1), ahead, similarity.shape[1]) + 1


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve; equal scores count half. NaN when one of the classes is empty."""
    positive = positive.astype(bool)
    count = int(positive.sum())
    if count in (0, len(positive)):
        return float("nan")
    _, place, repeats = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(repeats) - (repeats - 1) / 2)[place]  # mid-ranks, from 1
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(positive) - count)))


def resample(
    patients: np.ndarray, figure: Callable[[np.ndarray], float], rounds: int = ROUNDS, seed: int = 0
) -> np.ndarray:
    """``figure(rows)`` each time that patients, with all their rows, are drawn with replacement: (rounds,).

    The draws depend on patients, rounds and seed alone, so two figures over the same rows see the same patients and
    their samples may be subtracted. NaN where the figure is undefined, and all of them for a single patient: drawing
    him again tells nothing.
    """
    names, owner = np.unique(patients, return_inverse=True)
    if len(names) < 2:
        return np.full(rounds, np.nan)
    rows_of = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])
    draw = np.random.default_rng(seed)
    return np.array(
        [
            figure(np.concatenate([rows_of[number] for number in draw.integers(len(names), size=len(names))]))
            for _ in range(rounds)
        ],
        float,
    )


def interval_of(value: float, samples: np.ndarray) -> Interval:
    """95 % percentile interval; undefined samples are left out, and there is none where none is defined."""
    defined = samples[~np.isnan(samples)]
    low, high = np.percentile(defined, (2.5, 97.5)) if len(defined) else (np.nan, np.nan)
    return Interval(value, float(low), float(high))


def bootstrap(
    patients: np.ndarray, figure: Callable[[np.ndarray], float], rounds: int = ROUNDS, seed: int = 0
) -> Interval:
    """The figure over all rows with its interval over ``resample``.

    NaN when there are no rows, or when the figure is undefined on them.
    """
    if len(patients) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    samples = resample(patients, figure, rounds, seed)
    return interval_of(float(figure(np.arange(len(patients)))), samples)


def bootstrap_mean(patients: np.ndarray, values: np.ndarray) -> Interval:
    return bootstrap(patients, lambda rows: float(values[rows].mean()))


def bootstrap_auroc(patients: np.ndarray, scores: np.ndarray, positive: np.ndarray) -> Interval:
    return bootstrap(patients, lambda rows: auroc(scores[rows], positive[rows]))
