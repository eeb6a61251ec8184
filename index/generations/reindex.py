"""Moving an archive to another model: its embeddings are made beside those that serve, for hours, by whoever goes on.

Only that it is under way is written down, so that ``prune`` lets its embeddings be; what is left to do is a question to
the rows, as for any embedding job.
"""

import json
from dataclasses import asdict, dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..catalog import Catalog
from ..tables import Setting

__all__ = ["Reindex", "begin_reindex", "drop_reindex", "end_reindex", "reindex_under_way"]

NAME = "reindex"


@dataclass(frozen=True)
class Reindex:
    """model_path: where the encoders lie, as their administrator named them."""

    model_fingerprint: str
    model_path: str


def begin_reindex(catalog: Catalog, reindex: Reindex) -> None:
    """Written down; one that was under way for another model is given up."""
    with catalog.write() as session:
        session.merge(Setting(name=NAME, value=json.dumps(asdict(reindex))))


def reindex_under_way(catalog: Catalog) -> Reindex | None:
    with catalog.session() as session:
        found = session.get(Setting, NAME)
    return Reindex(**json.loads(found.value)) if found else None


def end_reindex(catalog: Catalog) -> None:
    """It is done."""
    with catalog.write() as session:
        drop_reindex(session)


def drop_reindex(session: Session) -> None:
    """It is done, or given up: in the transaction of whoever says so."""
    session.execute(sa.delete(Setting).where(Setting.name == NAME))
