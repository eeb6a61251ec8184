"""What a part must hold before it may answer.

Axes: N rows, D width.
"""

from typing import Final

import numpy as np

from model.errors import ArchiveError

from ..engines import RECALL_DEPTH, RecallTooLow, VectorIndex, exact_floor, recall_of, sample_queries
from .rows import Rows

__all__ = ["MINIMUM_RECALL", "SAMPLE", "check_part"]

MINIMUM_RECALL: Final = 0.99
SAMPLE: Final = 256  # queries whose answers are compared with exact search
SELF_SEARCHES: Final = 4096  # rows that look for themselves: every row of a small archive
BLOCK: Final = 65_536
TWIN: Final = 1e-9  # a vector as near as the row itself may stand in for it
SEED: Final = 1  # not the engine's: it must not be measured by the queries that it was set by


def check_part(kind: str, index: VectorIndex, rows: Rows, others: np.ndarray | None) -> float:
    """Recall@10 of an index as it was opened again. Raises ArchiveError build-check-failed, RecallTooLow.

    Every row must be there with its vector, bit for bit, and nothing else; rows, evenly spread, must find themselves.
    others (M, D): vectors of the other kind, which are asked too.
    """
    if len(index) != len(rows.ids):
        raise _failed(f"The {kind} index holds {len(index)} rows, expected {len(rows.ids)}.")
    for start in range(0, len(rows.ids), BLOCK):
        part = slice(start, start + BLOCK)
        try:
            same = np.array_equal(index.vectors(rows.ids[part]), rows.vectors[part])
        except KeyError as error:
            raise _failed(f"The {kind} index does not hold the rows of the database: {error}.") from error
        if not same:
            raise _failed(f"The {kind} index holds other vectors than the database.")
    for row in np.unique(np.linspace(0, len(rows.ids) - 1, min(SELF_SEARCHES, len(rows.ids))).astype(np.int64)):
        vector = np.asarray(rows.vectors[row])
        ids, scores = index.search(vector, 1)
        own = min(1.0, float(vector.astype(np.float64) @ vector.astype(np.float64)))
        if not len(ids) or (ids[0] != rows.ids[row] and scores[0] < own - TWIN):
            raise _failed(f"Study row {rows.ids[row]} does not find its own {kind}.")
    sample = sample_queries(rows.ids, rows.vectors, others, SAMPLE, SEED)
    recall = recall_of(index, sample, exact_floor(rows.vectors, sample, RECALL_DEPTH))
    if recall < MINIMUM_RECALL:
        raise RecallTooLow(f"Recall@{RECALL_DEPTH} of the {kind} index is {recall:.3f}, expected {MINIMUM_RECALL}.")
    return recall


def _failed(message: str) -> ArchiveError:
    return ArchiveError(message, "build-check-failed")
