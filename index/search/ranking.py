"""The best candidates of a ranking, exactly.

Axes: K candidates, D width.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ..tables import IMAGE, KINDS, REPORT
from .candidates import Candidates
from .fusion import Ranking

__all__ = ["Scored", "rank_candidates"]

FIRST_DEPTH: Final = 64  # candidates of each list, before it is known how many are needed
GROWTH: Final = 4
DEEPEST: Final = 16_384  # of each list: a quarter of a gigabyte of vectors. Met only where thousands score alike


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
    """Fagin's threshold algorithm (PODS 2001), in steps: both lists grow until nothing that is in neither can be
    among the best, as its parts are at most the last of each list. At ``DEEPEST`` the best of those are taken."""
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
        if ended or depth >= DEEPEST or (len(best) == count and scores[best[-1]] > highest):
            return Scored(ids[best], scores[best], cosines[IMAGE][best], cosines[REPORT][best])
        depth = min(GROWTH * depth, DEEPEST)
