"""Studies whose images are all of other views than frontal. The encoders read a study through its frontal image, so
these have no image embedding, and no search by image finds them."""

from dataclasses import replace
from typing import Final

import sqlalchemy as sa

from ..catalog import Catalog
from ..records import StudyRecord, read_records
from ..tables import ACCEPTED, Instance, Study

__all__ = ["count_without_frontal", "studies_without_frontal"]

_AT_ONCE: Final = 1_000  # each is a parameter of one statement
_HAS_IMAGES = sa.exists().where(Instance.study_id == Study.id, Instance.status == ACCEPTED)
_WHERE = (Study.image_source.is_(None), _HAS_IMAGES)


def count_without_frontal(catalog: Catalog) -> int:
    """How many there are. Reads every study's row, so of millions it takes seconds."""
    with catalog.session() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Study).where(*_WHERE)) or 0


def studies_without_frontal(catalog: Catalog, limit: int) -> list[StudyRecord]:
    """The first of them, as they came, without their reports."""
    with catalog.snapshot() as session:
        ids = session.scalars(sa.select(Study.id).where(*_WHERE).order_by(Study.id).limit(limit)).all()
        records: dict[int, StudyRecord] = {}
        for start in range(0, len(ids), _AT_ONCE):
            found = read_records(session.connection(), ids[start : start + _AT_ONCE])
            records |= {study: replace(record, report=None) for study, record in found.items()}
    return [records[study] for study in ids]
