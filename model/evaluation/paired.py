"""Paired retrieval: how early a study's own report comes, and a report's own study. Identical reports are merged."""

from dataclasses import dataclass

import numpy as np

from .comparison import compare
from .metrics import Interval, hit_ranks
from .outcome import Measure, Outcome, measure_ranks

__all__ = ["PairedFigures", "distinct_texts", "evaluate_paired", "measure_paired"]

QUERIES = 1024  # ranked at once: of an archive the whole matrix would not fit into memory


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
    text_of = distinct_texts(texts)
    merged = np.unique(np.unique(text_of, return_index=True)[1])  # of reports that read the same the first
    to_text = _measure(patients, images, text_of, reports[merged], text_of[merged])
    to_image = _measure(patients, reports, text_of, images, text_of)
    return {f"image_to_text_{name}": measure for name, measure in to_text.items()} | {
        f"text_to_image_{name}": measure for name, measure in to_image.items()
    }


def distinct_texts(texts: list[str]) -> np.ndarray:
    """(N,) numbers, the same for texts that read the same but for case and spaces."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(" ".join(text.lower().split()), len(numbers)) for text in texts], int)


def _measure(
    patients: np.ndarray, queries: np.ndarray, asked: np.ndarray, gallery: np.ndarray, offered: np.ndarray
) -> dict[str, Measure]:
    """asked and offered: number of the text of each query and of each gallery item; equal ones are a hit."""
    parts = [slice(start, start + QUERIES) for start in range(0, len(queries), QUERIES)]
    ranks = [hit_ranks(queries[part] @ gallery.T, asked[part, None] == offered) for part in parts]
    return measure_ranks(patients, np.concatenate(ranks), len(gallery), np.bincount(offered)[asked])
