"""What a training run reads at random: pictures of a fixed size in memory-mapped arrays, and the reports.

Axes: N studies, F frontal and L lateral pictures, S slots.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..alta import SLOTS
from ..text import report_body

__all__ = ["ABSENT", "TrainingStudies", "open_pictures"]

ABSENT = -1


@dataclass(frozen=True)
class TrainingStudies:
    """Studies, and the pictures that their slots name.

    frontal (F, side, side) at the decoder's resolution and lateral (L, H, H) at the encoder's: uint8 in 0..255, placed
    by the run's ``ImageTransform``; slots (N, 4) int64: row of ``frontal`` (slots 0 and 2) or of ``lateral`` (1 and 3),
    ``ABSENT`` where there is no image; findings, impression, text: a report's sections, or its whole text where no
    section is known; labels: the findings that are known to be there, an empty set for none, None where unknown.
    """

    ids: list[str]
    patients: list[str]
    frontal: np.ndarray
    lateral: np.ndarray
    slots: np.ndarray
    findings: list[str]
    impression: list[str]
    text: list[str]
    labels: list[frozenset[str] | None]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int]) -> "TrainingStudies":
        """These studies; the pictures stay as they are."""
        return replace(
            self,
            ids=[self.ids[row] for row in rows],
            patients=[self.patients[row] for row in rows],
            slots=self.slots[rows],
            findings=[self.findings[row] for row in rows],
            impression=[self.impression[row] for row in rows],
            text=[self.text[row] for row in rows],
            labels=[self.labels[row] for row in rows],
        )

    @property
    def present(self) -> np.ndarray:
        """(N, 4) bool."""
        return self.slots != ABSENT

    def body(self, row: int) -> str:
        """What of a report is encoded."""
        return report_body(self.findings[row], self.impression[row], self.text[row])

    def slot_pictures(self, slot: str, rows: np.ndarray) -> np.ndarray:
        """uint8 (rows, side, side); zeros where the image is absent."""
        number = SLOTS.index(slot)
        source = self.lateral if number % 2 else self.frontal
        chosen = self.slots[rows, number]
        pictures = np.zeros((len(rows), *source.shape[1:]), np.uint8)
        known = chosen != ABSENT
        pictures[known] = source[chosen[known]]
        return pictures


def open_pictures(path: Path, shape: tuple[int, int, int]) -> np.memmap:
    """uint8, memory-mapped, new or as it was left. All of its disk is taken at once: a page that finds none later ends
    the process without a word. Raises OSError where there is too little."""
    pictures = np.lib.format.open_memmap(path, "r+" if path.exists() else "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):  # not on every system
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return pictures
