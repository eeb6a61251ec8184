"""How candidates are ranked: by their report, by their image, or by both.

Fused: w times the score of the candidate's image and 1 - w times that of its report, each the cosine on the scale of
the archive: deviations above the mean of random pairs. Cosines between images, and between images and texts, have
different means and spreads; on one scale a weight means the same for every encoder. A part that a candidate lacks
counts as that of a random pair, 0: it speaks neither for the candidate nor against it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

import numpy as np

from ..tables import IMAGE, KINDS, REPORT

__all__ = ["ASKED_WITH", "IMAGE_WEIGHTS", "AskedWith", "RankBy", "Ranking", "Scale"]

RankBy = Literal["report", "image", "fused"]
AskedWith = Literal["image", "text"]

ASKED_WITH: Final[tuple[AskedWith, ...]] = get_args(AskedWith)

# Fitted on 1,000 simulated validation studies with the demo encoders (docs/results.md): the best of 0, 0.1, ... 1 by
# how far the findings of the first ten hits are those of the query. Little changes from 0 to 0.4.
IMAGE_WEIGHTS: Final[Mapping[AskedWith, float]] = {"image": 0.3, "text": 0.1}


@dataclass(frozen=True)
class Scale:
    """Cosines of random pairs of different patients."""

    mean: float = 0.0
    deviation: float = 1.0


@dataclass(frozen=True)
class Ranking:
    """image_weight, scales: of a fused ranking. The weight is that of the candidate's image, 0..1."""

    by: RankBy
    image_weight: float = 0.0
    scales: Mapping[str, Scale] = field(default_factory=lambda: dict.fromkeys(KINDS, Scale()))

    @property
    def weights(self) -> dict[str, float]:
        return {IMAGE: self.image_weight, REPORT: 1 - self.image_weight}

    def part(self, kind: str, cosines: np.ndarray) -> np.ndarray:
        """What a kind adds to the fused score; NaN, an embedding that is not there, adds nothing."""
        scale = self.scales[kind]
        return np.nan_to_num(self.weights[kind] * (cosines - scale.mean) / scale.deviation, nan=0.0)
