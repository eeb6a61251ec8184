"""One page of a search: ranked, grouped by report, and going on where the page before it ended.

The groups are made from the first candidate on for every page, so that none of them appears twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import sqlalchemy as sa

from model.findings import ReportFinding

from ..records import StudyRecord, read_records
from ..tables import KINDS, Embedding, EmbeddingRemoval, Study
from .candidates import Candidates
from .delta import Seen
from .filters import NO_FILTERS, Filters
from .fusion import Ranking
from .grouping import report_key
from .ranking import Scored, rank_candidates
from .summary import read_labels

__all__ = ["DEEPEST", "Page", "Place", "Search", "SearchHit", "find_page", "unchanged_since"]

DEEPEST: Final = 2_000  # candidates that are looked at, over all pages
MARGIN: Final = 5  # candidates beyond those asked for, of which some may say the same
GROWTH: Final = 4
SHOWN_MEMBERS: Final = 5


@dataclass(frozen=True)
class Search:
    """What is searched for. vector: float32 (D,), length 1. seen: how far the database was read when the first page was
    found, for those after it."""

    vector: np.ndarray
    ranking: Ranking
    filters: Filters = NO_FILTERS
    group_reports: bool = True
    seen: Seen | None = None


@dataclass(frozen=True)
class Place:
    """Where a page ended: the last hit's score and study row. shown: hits up to there."""

    score: float
    study_id: int
    shown: int


@dataclass(frozen=True)
class SearchHit:
    """A hit. score: what it is ranked by; image, report: cosines, None without such an embedding.

    similar: other studies whose reports say the same, of those looked at; named: the UIDs of a few. labels: what its
    report says of findings, in the order of ``FINDINGS``; None where none was read.
    """

    score: float
    image: float | None
    report: float | None
    study_id: int
    study: StudyRecord
    similar: int
    named: tuple[str, ...]
    labels: tuple[ReportFinding, ...] | None


@dataclass(frozen=True)
class Page:
    """more: whether another page follows. cut: there are candidates beyond ``DEEPEST``, which are not looked at."""

    hits: list[SearchHit]
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
    keys: dict[int, bytes] = {}
    wanted = top_k + (after.shown if after else 0)
    count = min(wanted + max(MARGIN, wanted // 2), DEEPEST)
    while True:
        ranked = rank_candidates(candidates, search.ranking, search.vector, count)
        new = read_records(connection, [study_id for study_id in ranked.ids.tolist() if study_id not in records])
        records |= new
        if search.group_reports:
            keys |= {study_id: report_key(record.report) for study_id, record in new.items() if record.report}
        groups = _groups(ranked, records, keys)
        following = [place for place, group in enumerate(groups) if _is_after(ranked, group.place, after)]
        ended = len(ranked) < count
        if len(following) > top_k or ended or count >= DEEPEST:
            break
        count = min(GROWTH * count, DEEPEST)
    shown = [groups[place] for place in following[:top_k]]
    labels = read_labels(connection, [int(ranked.ids[group.place]) for group in shown])
    return Page(
        [_hit(ranked, group, labels) for group in shown],
        more=len(following) > top_k,
        cut=not ended and len(following) <= top_k,
    )


def unchanged_since(seen: Seen, fingerprint: str) -> list[sa.ColumnElement[bool]]:
    """Studies that were not embedded, nor lost an embedding, after that: what is new is on no later page, and what was
    on an earlier one does not come back with another score."""
    embedded = sa.select(Embedding.study_id).where(
        Embedding.model_fingerprint == fingerprint,
        Embedding.kind.in_(KINDS),  # for the index
        Embedding.id > seen.embedding_id,
    )
    removed = sa.select(EmbeddingRemoval.study_id).where(
        EmbeddingRemoval.model_fingerprint == fingerprint, EmbeddingRemoval.id > seen.removal_id
    )
    return [Study.id.not_in(embedded), Study.id.not_in(removed)]


def _groups(ranked: Scored, records: dict[int, StudyRecord], keys: dict[int, bytes]) -> list[_Group]:
    """Best first. A study without a key is a group of its own; one without a record was deleted since."""
    groups: list[_Group] = []
    first: dict[bytes, _Group] = {}
    for place, study_id in enumerate(ranked.ids.tolist()):
        record, key = records.get(study_id), keys.get(study_id)
        if record is None:
            continue
        if key and key in first:
            first[key].others.append(record.study_instance_uid)
            continue
        groups.append(_Group(place, record))
        if key:
            first[key] = groups[-1]
    return groups


def _is_after(ranked: Scored, place: int, after: Place | None) -> bool:
    if after is None:
        return True
    return (-ranked.scores[place], ranked.ids[place]) > (-after.score, after.study_id)


def _hit(ranked: Scored, group: _Group, labels: Mapping[int, tuple[ReportFinding, ...]]) -> SearchHit:
    place = group.place
    study_id = int(ranked.ids[place])
    return SearchHit(
        score=float(ranked.scores[place]),
        image=_known(ranked.image[place]),
        report=_known(ranked.report[place]),
        study_id=study_id,
        study=group.record,
        similar=len(group.others),
        named=tuple(group.others[:SHOWN_MEMBERS]),
        labels=labels.get(study_id),
    )


def _known(value: np.floating) -> float | None:
    return None if np.isnan(value) else float(value)
