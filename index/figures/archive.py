"""How much there is: studies and their files and reports, and how far the encoders have come with them.

Exact counts. Those of rows by state are read from an index alone; those of what is embedded read every study, so of
millions of studies they take seconds: whoever shows them keeps them for a while.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..catalog import Catalog
from ..embedding.pending import PASSING_REASONS, pending_counts
from ..tables import (
    ACCEPTED,
    IMAGE,
    KINDS,
    MATCHED,
    REFUSED,
    UNMATCHED,
    WITHDRAWN,
    EmbeddingFailure,
    Instance,
    Patient,
    Report,
    Study,
)

__all__ = ["ArchiveSize", "Embedded", "Refused", "archive_size", "embedded_counts", "refused_counts"]


@dataclass(frozen=True)
class ArchiveSize:
    """reports_waiting: for their study to come."""

    studies: int
    patients: int
    images: int
    files_refused: int
    reports_matched: int
    reports_waiting: int
    reports_withdrawn: int
    reports_refused: int


@dataclass(frozen=True)
class Embedded:
    """One kind, of one model. due: studies with something of that kind to embed; embedded: as they are now; missing:
    not yet, or changed since; failed: by reason, those that are not tried again by themselves."""

    due: int
    embedded: int
    missing: int
    failed: Mapping[str, int]


@dataclass(frozen=True)
class Refused:
    """By slug of the reason, the most frequent first."""

    files: Mapping[str, int]
    reports: Mapping[str, int]


def archive_size(catalog: Catalog) -> ArchiveSize:
    with catalog.snapshot() as session:
        images, reports = _by_status(session, Instance.status), _by_status(session, Report.status)
        return ArchiveSize(
            studies=_count(session, Study),
            patients=_count(session, Patient),
            images=images[ACCEPTED],
            files_refused=images[REFUSED],
            reports_matched=reports[MATCHED],
            reports_waiting=reports[UNMATCHED],
            reports_withdrawn=reports[WITHDRAWN],
            reports_refused=reports[REFUSED],
        )


def refused_counts(catalog: Catalog) -> Refused:
    with catalog.session() as session:
        files, reports = (_reasons(session, table) for table in (Instance, Report))
    return Refused(files, reports)


def embedded_counts(catalog: Catalog, fingerprint: str) -> dict[str, Embedded]:
    """By kind. What fails for a while, such as a disk that is not mounted, is missing and not failed."""
    missing = pending_counts(catalog, fingerprint)
    found = {}
    with catalog.snapshot() as session:
        for kind in KINDS:
            due = session.scalar(_due(kind).with_only_columns(sa.func.count())) or 0
            failed = _failures(session, kind, fingerprint)
            # Counted apart from one another: what is embedded in between must make no number negative.
            embedded = max(due - missing[kind] - sum(failed.values()), 0)
            found[kind] = Embedded(due, embedded, missing[kind], failed)
    return found


def _count(session: Session, table: type[Study] | type[Patient]) -> int:
    return session.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def _by_status(session: Session, status: sa.orm.InstrumentedAttribute[str]) -> Counter[str]:
    return Counter({row[0]: row[1] for row in session.execute(sa.select(status, sa.func.count()).group_by(status))})


def _reasons(session: Session, table: type[Instance] | type[Report]) -> dict[str, int]:
    query = sa.select(table.reason, sa.func.count()).where(table.status == REFUSED).group_by(table.reason)
    found = {reason or "": count for reason, count in session.execute(query)}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _due(kind: str) -> sa.Select[Study]:
    """Studies with something of a kind to embed."""
    if kind == IMAGE:
        return sa.select(Study).where(Study.image_source.is_not(None))
    return sa.select(Study).join(Report, sa.and_(Report.study_id == Study.id, Report.status == MATCHED))


def _failures(session: Session, kind: str, fingerprint: str) -> dict[str, int]:
    """Of sources as they are now: what changed since is missing again."""
    source = Study.image_source if kind == IMAGE else Report.sha256
    query = _due(kind).join(EmbeddingFailure, EmbeddingFailure.study_id == Study.id)
    query = query.where(
        EmbeddingFailure.kind == kind,
        EmbeddingFailure.model_fingerprint == fingerprint,
        EmbeddingFailure.source_hash == source,
        EmbeddingFailure.reason.not_in(PASSING_REASONS),
    )
    counts = query.with_only_columns(EmbeddingFailure.reason, sa.func.count()).group_by(EmbeddingFailure.reason)
    return {row[0]: row[1] for row in session.execute(counts)}
