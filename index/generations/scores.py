"""What scores are usual in an archive: quantiles over random pairs of studies of different patients.

They are measured when a generation is built and kept beside it. A report stands for a text query.

Axes: Q queries, C candidates, D width.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sqlalchemy as sa

from ..catalog import Catalog
from ..search.fusion import ASKED_WITH, IMAGE_WEIGHTS, AskedWith, Ranking, Scale
from ..tables import IMAGE, KINDS, REPORT, Study
from .nearest import nearest_of_others
from .rows import Rows

__all__ = ["ArchiveScores", "Quantiles", "measure_scores"]

SAMPLE: Final = 1_200  # studies asked with, and as many candidates: 1.4 million pairs
SEED: Final = 2
LEVELS: Final = (*range(1, 100), *(n / 10 for n in range(991, 1000)), *(n / 100 for n in range(9991, 10_000)))  # %
LEAST_ABOVE: Final = 20  # pairs above a level, for it to say anything
FUSED: Final = "fused"
NEAREST: Final = "nearest"  # the nearest of another patient by image, not random pairs


@dataclass(frozen=True)
class Quantiles:
    """values: scores, ascending, of the first of ``LEVELS``; fewer of them where the archive is small."""

    values: Sequence[float]
    scale: Scale

    def percentile(self, score: float) -> float:
        """Share of random pairs, in %, that score lower, to 0.01; 0 below the first level, and never above the last."""
        above = bisect_left(self.values, score)  # the first level that is not lower
        if above == 0:
            return 0.0
        if above == len(self.values):
            return round(LEVELS[above - 1], 2)
        low, high = self.values[above - 1], self.values[above]
        part = (score - low) / (high - low)
        return round(LEVELS[above - 1] + part * (LEVELS[above] - LEVELS[above - 1]), 2)


@dataclass(frozen=True)
class ArchiveScores:
    """By what is asked with and what is ranked by; what could not be measured is absent. measured: whether that was
    tried, as it is for every generation that is built now."""

    quantiles: Mapping[tuple[str, str], Quantiles]
    measured: bool

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "ArchiveScores":
        """What ``measure_scores`` gave; {} of a generation from before."""
        return cls(
            {
                (asked, by): Quantiles(found["values"], Scale(found["mean"], found["deviation"]))
                for asked, rankings in stored.items()
                for by, found in rankings.items()
            },
            bool(stored),
        )

    def ranking(self, asked: AskedWith, image_weight: float) -> Ranking:
        """The fused ranking on this archive's scales; bare cosines of both kinds where one was not measured, as a
        deviation above the mean and a cosine cannot be weighed against each other."""
        scales = {kind: self.quantiles[asked, kind].scale for kind in KINDS if (asked, kind) in self.quantiles}
        if len(scales) < len(KINDS):
            scales = dict.fromkeys(KINDS, Scale())
        return Ranking(FUSED, image_weight, scales)

    def percentile(self, asked: AskedWith, ranking: Ranking, score: float) -> float | None:
        """None where nothing was measured, or with another weight."""
        if ranking.by == FUSED and ranking.image_weight != IMAGE_WEIGHTS[asked]:
            return None
        found = self.quantiles.get((asked, ranking.by))
        return found.percentile(score) if found else None

    def is_unlike(self, nearest: float) -> bool:
        """Whether a study whose nearest image of another patient scores so is farther from the archive than 99 % of
        its own studies are. False where that was not measured."""
        found = self.quantiles.get(("image", NEAREST))
        return found is not None and found.percentile(nearest) == 0


def measure_scores(catalog: Catalog, rows: Mapping[str, Rows]) -> dict[str, dict[str, Any]]:
    """Fit for JSON: by what is asked with (image, text), by what is ranked by (image, report, fused), the quantiles,
    mean and deviation of the score; and of the nearest by image."""
    drawn = np.random.default_rng(SEED)
    every = np.unique(np.concatenate([each.ids for each in rows.values()]))
    candidates = drawn.permutation(every)[:SAMPLE]
    measured: dict[str, dict[str, Any]] = {}
    for asked in ASKED_WITH:
        kind = IMAGE if asked == "image" else REPORT
        if kind not in rows:
            continue
        queries = drawn.permutation(rows[kind].ids)[:SAMPLE]
        others = _of_others(catalog, queries, candidates)
        vectors = _vectors(rows[kind], queries)  # (Q, D)
        cosines = {each: vectors @ _vectors(rows[each], candidates).T for each in rows}  # (Q, C), NaN without a vector
        found = {each: _measured(values[others]) for each, values in cosines.items()}
        measured[asked] = {each: quantiles for each, quantiles in found.items() if quantiles}
        ranking = ArchiveScores.of(measured).ranking(asked, IMAGE_WEIGHTS[asked])
        fused = sum((ranking.part(each, values) for each, values in cosines.items()), np.zeros(others.shape))
        if quantiles := _measured(fused[others]):
            measured[asked][FUSED] = quantiles
    if IMAGE in rows and (nearest := _measured(nearest_of_others(catalog, rows[IMAGE], SEED))):
        measured["image"][NEAREST] = nearest
    return measured


def _measured(scores: np.ndarray) -> dict[str, Any] | None:
    known = np.sort(scores[~np.isnan(scores)])
    levels = [level for level in LEVELS if (1 - level / 100) * len(known) >= LEAST_ABOVE]
    if not levels:
        return None
    values = np.quantile(known, np.array(levels) / 100)
    deviation = float(known.std(dtype=np.float64))
    return {
        "values": [round(float(value), 6) for value in values],
        "mean": round(float(known.mean(dtype=np.float64)), 6),
        "deviation": round(deviation, 6) if deviation > 1e-6 else 1.0,
        "pairs": len(known),
    }


def _of_others(catalog: Catalog, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """bool (Q, C): whether the two studies are of different patients, both still known."""
    ids = np.union1d(queries, candidates).tolist()
    with catalog.session() as session:
        rows = session.execute(sa.select(Study.id, Study.patient_id).where(Study.id.in_(ids)))
        found = {row.id: row.patient_id for row in rows}
    of_query, of_candidate = (
        np.array([found.get(each, -1) for each in some.tolist()]) for some in (queries, candidates)
    )
    different: np.ndarray = of_query[:, None] != of_candidate[None, :]
    return different & (of_query >= 0)[:, None] & (of_candidate >= 0)[None, :]


def _vectors(rows: Rows, ids: np.ndarray) -> np.ndarray:
    """float32 (len(ids), D), NaN where a study has no row."""
    places = np.minimum(np.searchsorted(rows.ids, ids), len(rows.ids) - 1)
    there = rows.ids[places] == ids
    order = np.argsort(places)  # forwards through the file
    found = np.empty((len(ids), rows.vectors.shape[1]), np.float32)
    found[order] = rows.vectors[places[order]]
    found[~there] = np.nan
    return found
