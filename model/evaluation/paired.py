"""Paired retrieval: how early a study's own report comes, and a report's own study. Identical reports are merged."""

from dataclasses import dataclass

import numpy as np

from .comparison import compare
from .metrics import Interval
from .outcome import Measure, Outcome, measure_pairs

__all__ = ["PairedFigures", "evaluate_paired", "measure_paired", "same_text"]


@dataclass(frozen=True)
class PairedFigures:
    """Figures by name with intervals, and what drawing at random would give."""

    figures: dict[str, Interval]
    chance: dict[str, float]


def evaluate_paired(images: np.ndarray, reports: np.ndarray, texts: list[str], patients: np.ndarray) -> PairedFigures:
    """R@1/5/10, mean and median rank both ways. images and reports (N, D) of length 1, row by row a pair.

    A hit is the own pair or one whose report reads the same.
    """
    rows = compare({"": Outcome(measure_paired(images, reports, texts, patients))}).rows
    return PairedFigures(
        {row.name: row.intervals[""] for row in rows}, {row.name: row.chance for row in rows if row.chance is not None}
    )


def measure_paired(
    images: np.ndarray, reports: np.ndarray, texts: list[str], patients: np.ndarray
) -> dict[str, Measure]:
    """The figures of ``evaluate_paired``, before resampling."""
    relevant = same_text(texts)
    merged = np.unique(relevant.argmax(axis=1))  # reports that read the same are one of the gallery: the first of them
    to_text = measure_pairs(patients, images @ reports[merged].T, relevant[:, merged])
    to_image = measure_pairs(patients, reports @ images.T, relevant)
    return {f"image_to_text_{name}": measure for name, measure in to_text.items()} | {
        f"text_to_image_{name}": measure for name, measure in to_image.items()
    }


def same_text(texts: list[str]) -> np.ndarray:
    """(N, N) bool: which texts read the same but for case and spaces."""
    names = np.array([" ".join(text.lower().split()) for text in texts])
    return names[:, None] == names[None, :]
