"""Fused ranking: a candidate study counts by its image and by its report, as the search fuses them.

Axes: Q queries, each also a candidate by its study; D embedding.
"""

import numpy as np

from .outcome import Measure, measure_precision

__all__ = ["WEIGHTS", "measure_fused"]

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the candidate's image; the rest is its report's
DEPTHS = (5, 10)


def measure_fused(
    images: np.ndarray, reports: np.ndarray, patients: np.ndarray, relevant: np.ndarray
) -> dict[str, Measure]:
    """P@5 and P@10 of studies by class, for image and text queries, at every weight. images, reports (Q, D).

    A query never finds its own study, nor another of its patient: those are no candidates. ``image_to_image`` is the
    image query at weight 1.
    """
    own = patients[:, None] == patients[None, :]
    measures: dict[str, Measure] = {}
    for prefix, queries in (("", images), ("text_", reports)):
        to_image, to_report = queries @ images.T, queries @ reports.T
        for weight in WEIGHTS:
            fused = weight * to_image + (1 - weight) * to_report
            found = _without_own(fused, relevant, own, patients)
            measures |= {f"{prefix}fused_{weight:g}_{name}": measure for name, measure in found.items()}
    alone = {f"image_to_image_p{k}": measures[f"fused_1_p{k}"] for k in DEPTHS if f"fused_1_p{k}" in measures}
    return alone | measures


def _without_own(
    similarity: np.ndarray, relevant: np.ndarray, own: np.ndarray, patients: np.ndarray
) -> dict[str, Measure]:
    candidates = int((~own).sum(axis=1).min())  # of the query with the fewest
    depths = tuple(k for k in DEPTHS if k <= candidates)
    measures, _ = measure_precision(patients, np.where(own, -np.inf, similarity), relevant & ~own, depths)
    chance = float(((relevant & ~own).sum(axis=1) / np.maximum((~own).sum(axis=1), 1)).mean())
    return {
        name: Measure(measure.patients, measure.compute, chance, measure.over) for name, measure in measures.items()
    }
