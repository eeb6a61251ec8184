"""A query that no study of the archive resembles."""

import numpy as np

from index import Filters, Snapshot

from ..query import QueryStudy
from ..schemas import Notice

__all__ = ["archive_warnings"]


def archive_warnings(snapshot: Snapshot, study: QueryStudy, vector: np.ndarray) -> list[Notice]:
    """A warning where a study that was sent is farther from the archive than its own studies are from one another."""
    if study.film is None or not snapshot.rows("image"):
        return []
    others = study.without_its_patient(study.without_itself(Filters()))
    nearest = snapshot.search("image", vector, 1, others)
    if not nearest or not snapshot.info.scores.is_unlike(nearest[0].score):
        return []
    detail = (
        "The study is farther from every study here than 99 % of them are from their nearest: it may be no chest"
        " radiograph, or of a kind that the archive does not have. Hits may mean little."
    )
    return [Notice(code="query-unlike-archive", detail=detail)]
