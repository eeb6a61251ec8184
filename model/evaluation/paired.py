"""Paired retrieval: how early a study's own report comes, and a report's own study. Identical reports are merged."""

from dataclasses import dataclass

import numpy as np

from .metrics import Interval, bootstrap, bootstrap_mean, hit_ranks

__all__ = ["PairedFigures", "evaluate_paired"]


@dataclass(frozen=True)
class PairedFigures:
    """Figures by name with intervals, and what drawing at random would give."""

    figures: dict[str, Interval]
    chance: dict[str, float]


def evaluate_paired(images: np.ndarray, reports: np.ndarray, texts: list[str], patients: np.ndarray) -> PairedFigures:
    """R@1/5/10 and median rank both ways. images and reports (N, D) of length 1, row by row a pair.

    A hit is the own pair or one whose report reads the same.
    """
    names = np.array([" ".join(text.lower().split()) for text in texts])
    relevant = names[:, None] == names[None, :]
    figures: dict[str, Interval] = {}
    chance: dict[str, float] = {}
    for direction, similarity in (("image_to_text", images @ reports.T), ("text_to_image", reports @ images.T)):
        ranks = hit_ranks(similarity, relevant)
        for k in (1, 5, 10):
            figures[f"{direction}_r{k}"] = bootstrap_mean(patients, ranks <= k)
            chance[f"{direction}_r{k}"] = float(np.mean([_at_random(len(texts), own, k) for own in relevant.sum(1)]))
        figures[f"{direction}_median_rank"] = bootstrap(patients, lambda rows, r=ranks: float(np.median(r[rows])))  # type: ignore[misc]
        chance[f"{direction}_median_rank"] = float(np.median([(len(texts) + 1) / (own + 1) for own in relevant.sum(1)]))
    return PairedFigures(figures, chance)


def _at_random(count: int, relevant: int, k: int) -> float:
    """Probability that k of ``count`` drawn without replacement hold one of ``relevant``."""
    missed = 1.0
    for drawn in range(min(k, count)):
        missed *= max(0, count - relevant - drawn) / (count - drawn)
    return 1 - missed
