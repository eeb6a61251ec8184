"""Deleting one study: out of every answer at once, its own copies off the disk, and not back until it is restored.

One transaction marks the files, deletes the rows, writes removals for the searchers and makes the embeddings of later
studies stale whose prior it was. Then the archive's own copies go, which may be done twice: the marks of those that are
still there say so, and whoever deletes or restores next goes on. Files that others keep are never touched.

Index files and backups hold the study until they are made again; ``forget_patient`` is what reaches those.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from model.errors import UnknownStudy

from ..batches import batched
from ..catalog import Catalog
from ..embedding.removal import remove_embeddings
from ..intake.received import ReceivedStore
from ..intake.record import path_key
from ..intake.study_sources import refresh_sources
from ..reports.matching import match_reports
from ..returns.listing import SentResult, sent_results
from ..returns.queue import forget_made
from ..tables import (
    REFUSED,
    DeletedStudy,
    Embedding,
    EmbeddingFailure,
    Instance,
    Patient,
    Report,
    ReportFinding,
    Study,
    StudyArrival,
    StudyReturn,
)
from .deleted import DELETED, deleted_key, deleted_refusal

__all__ = ["Deletion", "delete_study", "preview_deletion", "restore_study"]


@dataclass(frozen=True)
class Deletion:
    """What was deleted, or would be. own_copies: files that the archive had itself. in_place: files that lie where
    others keep them, and stay. priors: studies that are embedded again, because this was their prior. sent_back:
    documents that receivers have: theirs to remove."""

    images: int = 0
    reports: int = 0
    embeddings: int = 0
    own_copies: int = 0
    in_place: int = 0
    priors: int = 0
    sent_back: Sequence[SentResult] = ()


class _Undone(Exception):
    """Ends a transaction that was only to be looked at."""


def preview_deletion(catalog: Catalog, study_instance_uid: str, store: ReceivedStore) -> Deletion:
    """What deleting would do; nothing is written. Raises UnknownStudy."""
    found = Deletion()
    with suppress(_Undone), catalog.write() as session:
        found = _delete(catalog, session, study_instance_uid, store)
        raise _Undone
    return found


def delete_study(catalog: Catalog, study_instance_uid: str, store: ReceivedStore) -> Deletion:
    """Delete a study; safe to kill and to run again. One that was deleted before is a deletion of nothing.

    Raises UnknownStudy.
    """
    with catalog.write() as session:
        deletion = _delete(catalog, session, study_instance_uid, store)
    with catalog.write() as session:
        _discard_copies(session, store)
    return deletion


def restore_study(catalog: Catalog, study_instance_uid: str, store: ReceivedStore) -> bool:
    """Let a deleted study in again; whether it was deleted. The next ingest takes in what lies in folders; what the
    archive had itself has to be sent or fetched again."""
    with catalog.write() as session:
        key = deleted_key(catalog, study_instance_uid)
        gone = session.execute(sa.delete(DeletedStudy).where(DeletedStudy.key == key))
        if not gone.rowcount:  # type: ignore[attr-defined]
            return False
        _discard_copies(session, store)  # before their marks go
        for table in (Instance, Report):  # the marks do not say of which study: of others they are made again
            session.execute(sa.delete(table).where(table.reason == DELETED))
    return True


def _delete(catalog: Catalog, session: Session, uid: str, store: ReceivedStore) -> Deletion:
    key = deleted_key(catalog, uid)
    deleted_before = session.get(DeletedStudy, key) is not None
    study = session.scalar(sa.select(Study).where(Study.study_instance_uid == uid))
    if study is None:
        if deleted_before:
            return Deletion()
        raise UnknownStudy(f"Study {uid} is not in the archive.")
    if not deleted_before:
        session.add(DeletedStudy(key=key))
    patient, number = study.patient, study.accession_number
    reports = session.scalars(
        sa.select(Report).where(sa.or_(Report.study_id == study.id, Report.study_instance_uid == uid))
    ).all()
    images = session.scalars(sa.select(Instance).where(Instance.study_id == study.id)).all()
    files = [*images, *_further_files(session, images, reports)]
    own = sum(store.owns(Path(file.path)) for file in files)
    why = deleted_refusal()
    for file in files:
        file.study, file.status, file.reason, file.detail = None, REFUSED, why.slug, why.message
    session.flush()
    ids = [report.id for report in reports]
    session.execute(sa.delete(ReportFinding).where(ReportFinding.report_id.in_(ids)))
    session.execute(sa.delete(Report).where(Report.id.in_(ids)))
    embeddings = remove_embeddings(session, Embedding.study_id == study.id)
    sent_back = sent_results(session, study.id)
    for table in (EmbeddingFailure, StudyArrival, StudyReturn):
        session.execute(sa.delete(table).where(table.study_id == study.id))
    forget_made(session)
    session.execute(sa.delete(Study).where(Study.id == study.id))
    session.expire_all()
    priors = refresh_sources(session, [patient.id])
    session.flush()
    if session.scalar(sa.select(Study.id).where(Study.patient_id == patient.id).limit(1)) is None:
        session.execute(sa.delete(Patient).where(Patient.id == patient.id))
    if number:  # which now may be that of one study alone
        match_reports(catalog, session, accessions=[number])
    return Deletion(len(images), len(reports), embeddings, own, len(files) - own, priors, sent_back)


def _further_files(session: Session, images: Sequence[Instance], reports: Sequence[Report]) -> list[Instance]:
    """Other files of the same instances, as duplicates and older versions are, and files that are the reports."""
    known = {image.id for image in images}
    found: dict[int, Instance] = {}
    for column, values in (
        (Instance.sop_instance_uid, {image.sop_instance_uid for image in images if image.sop_instance_uid}),
        (Instance.path_key, {path_key(Path(report.source)) for report in reports}),
    ):
        for batch in batched(sorted(values), 500):
            rows = session.scalars(sa.select(Instance).where(column.in_(batch)))
            found.update({row.id: row for row in rows if row.id not in known})
    return list(found.values())


def _discard_copies(session: Session, store: ReceivedStore) -> None:
    """Remove the archive's own files that are marked as deleted, then their marks.

    In one transaction: nobody restores a study and takes the same file in again between the two.
    """
    place = str((store.folder / "objects").absolute())
    marked = sa.select(Instance.id, Instance.path).where(
        Instance.reason == DELETED, Instance.path.startswith(place, autoescape=True)
    )
    rows = [row for row in session.execute(marked).all() if store.owns(Path(row.path))]
    for _, path in rows:
        Path(path).unlink(missing_ok=True)
    for batch in batched([row.id for row in rows], 500):
        session.execute(sa.delete(Instance).where(Instance.id.in_(batch)))
