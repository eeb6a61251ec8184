"""By which doors studies came, as rows of theirs."""

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..catalog import Catalog
from ..intake.arrival import Arrival
from ..jobs.ending import clock
from ..tables import ACCEPTED, Instance, StudyArrival

__all__ = ["note_arrivals"]


def note_arrivals(catalog: Catalog, arrived: Mapping[str, frozenset[Arrival]]) -> None:
    """Write by which doors the studies of these files came; by path key, of files that have their rows.

    Safe to repeat. A copy of what the archive has from elsewhere counts as its study's arrival, but only an image that
    is new, or changed, makes that newer.
    """
    if not arrived:
        return
    with catalog.session() as session:
        if not _missing(session, arrived):
            return
    with catalog.write() as session:
        moment = clock(session)  # by which the queue judges it
        for (study_id, arrival), row in _missing(session, arrived).items():
            if row is None:
                where = {"study_id": study_id, "door": arrival.door, "sender": arrival.sender}
                session.add(StudyArrival(**where, arrived_at=moment))
            else:
                row.arrived_at = moment


def _missing(
    session: Session, arrived: Mapping[str, frozenset[Arrival]]
) -> dict[tuple[int, Arrival], StudyArrival | None]:
    """What is to be written: the row to make newer, or None for one to make."""
    found = {row.path_key: row for row in session.scalars(sa.select(Instance).where(Instance.path_key.in_(arrived)))}
    copies = [row.sop_instance_uid for row in found.values() if row.reason == "duplicate"]
    query = sa.select(Instance).where(Instance.status == ACCEPTED, Instance.sop_instance_uid.in_(copies))
    holders = {row.sop_instance_uid: row for row in session.scalars(query)}
    studies: dict[int, list[Instance]] = {}
    wanted: set[tuple[int, Arrival]] = set()
    for key, arrivals in arrived.items():
        row = found.get(key)
        if row is not None and row.reason == "duplicate":
            row = holders.get(row.sop_instance_uid)
        if row is not None and row.study_id is not None:
            studies.setdefault(row.study_id, []).append(row)
            wanted.update((row.study_id, arrival) for arrival in arrivals)
    rows = session.scalars(sa.select(StudyArrival).where(StudyArrival.study_id.in_(studies)))
    known = {(row.study_id, Arrival(row.door, row.sender)): row for row in rows}
    missing: dict[tuple[int, Arrival], StudyArrival | None] = {}
    for one in wanted:
        before = known.get(one)
        if before is None or any(image.updated_at > before.arrived_at for image in studies[one[0]]):
            missing[one] = before
    return missing
