"""What a source that fetches asks the archive: what is there already, and which failures are over."""

from collections.abc import Collection, Iterable
from pathlib import Path

import sqlalchemy as sa

from ..batches import batched
from ..catalog import Catalog
from ..intake.received import ReceivedStore
from ..intake.record import path_key
from ..tables import REFUSED, Instance

__all__ = ["forget_failures", "known_uids"]


def known_uids(catalog: Catalog, store: ReceivedStore, uids: Iterable[str]) -> set[str]:
    """Those SOP instance UIDs that the archive has, or has refused when they were in its ``store``.

    A file refused elsewhere says nothing of the object: a copy in some folder may be cut off, and this one whole.
    """
    known: set[str] = set()
    with catalog.session() as session:
        for batch in batched(uids, 500):
            query = sa.select(Instance.sop_instance_uid, Instance.status, Instance.path)
            for uid, status, path in session.execute(query.where(Instance.sop_instance_uid.in_(batch))):
                if uid is not None and (status != REFUSED or store.owns(Path(path))):
                    known.add(uid)
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
