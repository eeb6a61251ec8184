"""How near the nearest study of another patient is, for studies of the archive: what is farther is unlike all of it.

Axes: Q sampled studies, N rows, K neighbours, D width.
"""

from typing import Final

import numpy as np
import sqlalchemy as sa

from ..catalog import Catalog
from ..tables import Study
from .rows import Rows

__all__ = ["LEAST_STUDIES", "nearest_of_others"]

SAMPLE: Final = 400
LEAST_STUDIES: Final = 100  # below, the hundredth part that is farthest is no study at all
NEIGHBOURS: Final = 32  # of whom one is to be of another patient
BLOCK: Final = 16_384  # rows compared at once


def nearest_of_others(catalog: Catalog, rows: Rows, seed: int) -> np.ndarray:
    """float32 (at most SAMPLE,): cosines of studies drawn from ``rows`` to their nearest of another patient; empty
    where there are too few."""
    if len(rows.ids) < LEAST_STUDIES:
        return np.empty(0, np.float32)
    sample = np.sort(np.random.default_rng(seed).permutation(len(rows.ids))[:SAMPLE])
    cosines, neighbours = _nearest(rows.vectors, rows.vectors[sample])
    owners = _owners(catalog, np.union1d(rows.ids[sample], rows.ids[neighbours.ravel()]))
    found = []
    for own, near, scores in zip(rows.ids[sample].tolist(), rows.ids[neighbours].tolist(), cosines, strict=True):
        patient = owners.get(own)
        others = [score for study, score in zip(near, scores, strict=True) if owners.get(study, patient) != patient]
        found += [max(others)] if patient is not None and others else []
    return np.array(found, np.float32)


def _nearest(vectors: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines (Q, K) and places (Q, K) of the nearest rows, in no order."""
    best = np.empty((len(queries), 0), np.float32)
    places = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(vectors), BLOCK):
        block = np.asarray(vectors[start : start + BLOCK])
        best = np.concatenate([best, queries @ block.T], axis=1)  # (Q, K + BLOCK)
        here = np.broadcast_to(np.arange(start, start + len(block)), (len(queries), len(block)))
        places = np.concatenate([places, here], axis=1)
        if best.shape[1] > NEIGHBOURS:
            kept = np.argpartition(-best, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
            best, places = np.take_along_axis(best, kept, 1), np.take_along_axis(places, kept, 1)
    return best, places


def _owners(catalog: Catalog, studies: np.ndarray) -> dict[int, int]:
    """The patient's row of each study that is still known."""
    found: dict[int, int] = {}
    with catalog.session() as session:
        for start in range(0, len(studies), 1_000):
            part = studies[start : start + 1_000].tolist()
            rows = session.execute(sa.select(Study.id, Study.patient_id).where(Study.id.in_(part)))
            found |= {row.id: row.patient_id for row in rows}
    return found
