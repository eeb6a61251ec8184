"""Rows of the study table to one ``TrainingBatch``: slots, augmentation, masking.

Axes: B studies, H side in px, T tokens.
"""

import random
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..alta import SLOTS, ALTAConfig
from ..image import ImageTransform
from ..losses import TrainingBatch
from ..text import ReportTokenizer, report_body, sentences
from .augment import Augmentation, draw_augmentation
from .studies import TrainingStudies

__all__ = ["BatchMaker", "report_keys"]


class BatchMaker:
    """Makes a batch from rows and a seed alone."""

    def __init__(
        self,
        studies: TrainingStudies,
        tokenizer: ReportTokenizer,
        config: ALTAConfig,
        transform: ImageTransform,
        one_section: float,  # share of texts cut to one section
        same_report: Literal["negative", "identical", "identical_or_normal"] = "negative",
        device: torch.device | None = None,
    ) -> None:
        self.studies = studies
        self.tokenizer = tokenizer
        self.config = config
        self.transform = transform
        self.one_section = one_section
        self.keys = None if same_report == "negative" else report_keys(studies, same_report == "identical_or_normal")
        self.device = device or torch.device("cpu")

    def __call__(self, rows: np.ndarray, seed: int, augmentation: float | None) -> TrainingBatch:
        """The studies at ``rows``; ``augmentation`` is the strength of the affine part, None shows them as they are."""
        draw = torch.Generator().manual_seed(seed)
        chance = random.Random(seed)
        frontal_change, lateral_change = _augmentations(len(rows), draw, augmentation)
        target = self._pictures("current_frontal", rows, frontal_change)
        side = self.config.image.size
        prior_frontal = F.interpolate(
            self._pictures("prior_frontal", rows, frontal_change),
            (side, side),
            mode="bicubic",
            antialias=True,
        )
        current_lateral = self._pictures("current_lateral", rows, lateral_change)
        prior_lateral = self._pictures("prior_lateral", rows, lateral_change)
        others = torch.stack([current_lateral, prior_frontal, prior_lateral], 1)  # (B, 3, 1, H, H)

        texts = [self.text(row, chance) for row in rows]
        tokens = self.tokenizer(texts)
        input_ids, attention_mask = (
            torch.from_numpy(tokens.input_ids),
            torch.from_numpy(tokens.attention_mask),
        )
        masked_input_ids, labels = self._mask(input_ids, draw)
        return TrainingBatch(
            target=target,
            others=others,
            present=torch.from_numpy(self.studies.present[rows]),
            input_ids=input_ids,
            attention_mask=attention_mask,
            masked_input_ids=masked_input_ids,
            labels=labels,
            noise=torch.rand(len(rows), len(SLOTS), self.config.image.patches, generator=draw),
            report_key=None if self.keys is None else torch.from_numpy(self.keys[rows]),
        ).to(self.device)

    def _pictures(self, slot: str, rows: np.ndarray, change: Augmentation | None) -> Tensor:
        pixels = torch.from_numpy(self.studies.slot_pictures(slot, rows)).to(self.device)
        pixels = pixels.float()[:, None] / 255  # (B, 1, side, side)
        return ((change.to(self.device)(pixels) if change else pixels) - self.transform.mean) / self.transform.std

    def text(self, row: int, chance: random.Random) -> str:
        """One drawing of a study's report: cut to a section or not, its sentences in a new order."""
        findings, impression = self.studies.findings[row], self.studies.impression[row]
        if chance.random() < self.one_section:
            findings, impression = (findings, "") if chance.random() < 0.5 else ("", impression)
        body = report_body(findings, impression) or self.studies.body(row)
        parts: Sequence[str] = sentences(body)
        return " ".join(chance.sample(parts, len(parts)))

    def _mask(self, input_ids: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        special = torch.isin(input_ids, torch.tensor(self.tokenizer.special_ids))
        chosen = (torch.rand(input_ids.shape, generator=draw) < self.config.text.mask_ratio) & ~special
        masked = torch.where(chosen, self.tokenizer.mask_id, input_ids)
        return masked, torch.where(chosen, input_ids, -100)


def report_keys(studies: TrainingStudies, normal_alike: bool) -> np.ndarray:
    """int64 (N,): equal where two studies' reports read the same, or both are known to show no finding."""
    numbers: dict[str, int] = {}
    keys = np.empty(len(studies), np.int64)
    for row in range(len(studies)):
        normal = normal_alike and studies.labels[row] == frozenset()
        name = "" if normal else " ".join(studies.body(row).lower().split())
        keys[row] = numbers.setdefault(name, len(numbers))
    return keys


def _augmentations(
    count: int, draw: torch.Generator, strength: float | None
) -> tuple[Augmentation | None, Augmentation | None]:
    """One for the frontal images of a study, one for the lateral ones."""
    if strength is None:
        return None, None
    return draw_augmentation(count, draw, strength), draw_augmentation(count, draw, strength)
