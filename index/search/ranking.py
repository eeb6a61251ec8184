"""How candidates are ranked: by their report, by their image, or by both.

Fused: w times the score of the candidate's image and 1 - w times that of its report, each the cosine on the scale of
the archive: deviations above the mean of random pairs. Cosines between images, and between images and texts, have
different means and spreads; on one scale a weight means the same for every encoder. A part that a candidate lacks
counts as that of a random pair, 0: it speaks neither for the candidate nor against it.

Axes: K candidates, D width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from ..tables import IMAGE, KINDS, REPORT
from .candidates import Candidates

__all__ = ["RankBy", "Ranking", "Scale", "Scored", "rank_candidates"]

RankBy = Literal["report", "image", "fused"]

FIRST_DEPTH: Final = 64  # candidates of each list, before it is known how many are needed
GROWTH: Final = 4


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


@dataclass(frozen=True)
class Scored:
    """Candidates, best first, equal scores by id: ids int64 (K,); the others float64 (K,).

    scores: what they are ranked by. image, report: cosines, NaN where a candidate has no such embedding.
    """

    ids: np.ndarray
    scores: np.ndarray
    image: np.ndarray
    report: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def rank_candidates(candidates: Candidates, ranking: Ranking, query: np.ndarray, count: int) -> Scored:
    """The ``count`` best; fewer only where there are fewer. query: float32 (D,), length 1."""
    if ranking.by == "fused":
        return _fused(candidates, ranking, query, count)
    ids, scores = candidates.nearest(ranking.by, query, count)
    order = np.argsort(ids)
    back = np.argsort(order)
    cosines = {
        kind: scores if kind == ranking.by else candidates.scores(kind, query, ids[order])[back] for kind in KINDS
    }
    return Scored(ids, scores, cosines[IMAGE], cosines[REPORT])


def _fused(candidates: Candidates, ranking: Ranking, query: np.ndarray, count: int) -> Scored:
    """Fagin's threshold algorithm (PODS 2001), by doubling: both lists grow until nothing that is in neither can be
    among the best, as its parts are at most the last of each list."""
    depth = max(FIRST_DEPTH, 2 * count)
    while True:
        lists = {kind: candidates.nearest(kind, query, depth) for kind in KINDS}
        ids = np.union1d(*(found for found, _ in lists.values()))
        cosines = {kind: candidates.scores(kind, query, ids) for kind in KINDS}
        scores = sum((ranking.part(kind, cosines[kind]) for kind in KINDS), np.zeros(len(ids)))
        best = np.lexsort((ids, -scores))[:count]
        ended = all(len(found) < depth for found, _ in lists.values())
        # An unseen candidate may also lack a part, which then adds 0.
        highest = sum(
            max(0.0, float(ranking.part(kind, last[-1:])[0])) if len(last) == depth else 0.0
            for kind, (_, last) in lists.items()
        )
        # Not at equality: the unseen one may be the older row.
        if ended or (len(best) == count and scores[best[-1]] > highest):
            return Scored(ids[best], scores[best], cosines[IMAGE][best], cosines[REPORT][best])
        depth *= GROWTH
