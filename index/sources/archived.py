"""What a source that fetches asks the archive: what is there already, and which failures are over."""

from collections.abc import Collection, Iterable
from pathlib import Path

import sqlalchemy as sa

from ..batches import batched
from ..catalog import Catalog
from ..record import path_key
from ..tables import REFUSED, Instance

__all__ = ["forget_failures", "known_uids"]


def known_uids(catalog: Catalog, uids: Iterable[str]) -> set[str]:
    """Those SOP instance UIDs that have a row, accepted or refused."""
    known: set[str] = set()
    with catalog.session() as session:
        for batch in batched(uids, 500):
            query = sa.select(Instance.sop_instance_uid).where(Instance.sop_instance_uid.in_(batch))
            known.update(uid for uid in session.scalars(query) if uid is not None)
    return known


def forget_failures(catalog: Catalog, places: Iterable[Path], reasons: Collection[str]) -> None:
    """Delete the rows of what an earlier run could not fetch for one of the ``reasons``, and this run could."""
    for batch in batched(places, 500):
        ours = sa.and_(
            Instance.path_key.in_([path_key(place) for place in batch]),
            Instance.status == REFUSED,
            Instance.reason.in_(reasons),
        )
        with catalog.session() as session:
            if session.scalars(sa.select(Instance.id).where(ours)).first() is None:
                continue
        with catalog.write() as session:
            session.execute(sa.delete(Instance).where(ours))
