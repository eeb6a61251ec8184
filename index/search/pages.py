"""One page of a search: ranked, grouped by report, and going on where the page before it ended.

The groups are made from the first candidate on for every page, so that none of them appears twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import sqlalchemy as sa

from ..records import StudyRecord, read_records
from ..tables import Embedding, EmbeddingRemoval, Study
from .candidates import Candidates
from .delta import Seen
from .filters import NO_FILTERS, Filters
from .fusion import Ranking
from .grouping import report_key
from .ranking import Scored, rank_candidates

__all__ = ["DEEPEST", "Page", "Place", "Search", "SearchHit", "find_page", "unchanged_since"]

DEEPEST: Final = 2_000  # candidates that are looked at, over all pages
SHOWN_MEMBERS: Final = 5


@dataclass(frozen=True)
class Search:
    """What is searched for. vector: float32 (D,), length 1. seen: how far the
    database was read when the first page was found, for those after it."""

    vector: np.ndarray
    ranking: Ranking
    filters: Filters = NO_FILTERS
    group_reports: bool = True
    seen: Seen | None = None


@dataclass(frozen=True)
class Place:
    """Where a page ended: the last hit's score and study row."""

    score: float
    study_id: int


@dataclass(frozen=True)
class SearchHit:
    """A hit. score: what it is ranked by; image, report: cosines, None without such an embedding.

    similar: other studies whose reports say the same, of those looked at; named: the UIDs of a few.
    """

    score: float
    image: float | None
    report: float | None
    study_id: int
    study: StudyRecord
    similar: int
    named: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """first_rank: of the first hit, from 1. more: whether another page follows. cut: candidates were left that are not
    looked at, ``DEEPEST`` being reached."""

    hits: list[SearchHit]
    first_rank: int
    more: bool
    cut: bool


class _Group:
    def __init__(self, place: int, record: StudyRecord) -> None:
        self.place, self.record = place, record
        self.others: list[str] = []


def find_page(
    connection: sa.Connection, candidates: Candidates, search: Search, top_k: int, after: Place | None = None
) -> Page:
    """The ``top_k`` hits after a place, or the first ones."""
    records: dict[int, StudyRecord] = {}
    count = 2 * top_k + 1
    while True:
        ranked = rank_candidates(candidates, search.ranking, search.vector, count)
        new = [study_id for study_id in ranked.ids.tolist() if study_id not in records]
        records |= read_records(connection, new)
        groups = list(_groups(ranked, records, search.group_reports))
        following = [place for place, group in enumerate(groups) if _is_after(ranked, group.place, after)]
        ended = len(ranked) < count
        if len(following) > top_k or ended or count >= DEEPEST:
            break
        count = min(4 * count, DEEPEST)
    shown = following[:top_k]
    return Page(
        [_hit(ranked, groups[place]) for place in shown],
        first_rank=shown[0] + 1 if shown else len(groups) + 1,
        more=len(following) > top_k,
        cut=not ended and len(following) <= top_k,
    )


def unchanged_since(seen: Seen, fingerprint: str) -> list[sa.ColumnElement[bool]]:
    """Studies that were not embedded, nor lost an embedding, after that: what is new is on no later page, and
    what was on an earlier one does not come back with another score."""
    embedded = sa.select(Embedding.study_id).where(
        Embedding.model_fingerprint == fingerprint, Embedding.id > seen.embedding_id
    )
    removed = sa.select(EmbeddingRemoval.study_id).where(
        EmbeddingRemoval.model_fingerprint == fingerprint, EmbeddingRemoval.id > seen.removal_id
    )
    return [Study.id.not_in(embedded), Study.id.not_in(removed)]


def _groups(ranked: Scored, records: dict[int, StudyRecord], by_report: bool) -> Iterator[_Group]:
    """Best first. A study without a report is a group of its own."""
    first: dict[frozenset[str], _Group] = {}
    groups = []
    for place, study_id in enumerate(ranked.ids.tolist()):
        record = records.get(study_id)
        if record is None:  # deleted since
            continue
        key = report_key(record.report) if by_report and record.report else frozenset()
        if key and key in first:
            first[key].others.append(record.study_instance_uid)
            continue
        group = _Group(place, record)
        groups.append(group)
        if key:
            first[key] = group
    return iter(groups)


def _is_after(ranked: Scored, place: int, after: Place | None) -> bool:
    if after is None:
        return True
    return (-ranked.scores[place], ranked.ids[place]) > (-after.score, after.study_id)


def _hit(ranked: Scored, group: _Group) -> SearchHit:
    place = group.place
    return SearchHit(
        score=float(ranked.scores[place]),
        image=_known(ranked.image[place]),
        report=_known(ranked.report[place]),
        study_id=int(ranked.ids[place]),
        study=group.record,
        similar=len(group.others),
        named=tuple(group.others[:SHOWN_MEMBERS]),
    )


def _known(value: np.floating) -> float | None:
    return None if np.isnan(value) else float(value)
