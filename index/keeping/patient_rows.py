"""Everything that one catalog holds of one patient: found, and erased in the caller's transaction.

Used on the archive and on each of its backups.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

from model.errors import ArchiveError

from ..batches import batched
from ..embedding.removal import remove_embeddings
from ..intake.study_sources import refresh_sources
from ..returns.queue import forget_made
from ..tables import (
    ACCEPTED,
    Embedding,
    EmbeddingFailure,
    ForgottenPatient,
    Instance,
    Patient,
    Report,
    ReportFinding,
    Study,
    StudyArrival,
    StudyReturn,
)
from .forgotten import NamedPatient, Pseudonym, accession_pseudonym, study_pseudonym

__all__ = ["KnownNames", "PatientRows", "erase", "find_forgotten_rows", "find_patient_rows"]

IN: Final = 500  # values in one query
NEUTRAL: Final = "It concerned a patient who was forgotten."


@dataclass
class PatientRows:
    """Row ids by table, and what names the patient outside of them."""

    keys: set[str] = field(default_factory=set)  # pseudonyms
    patients: list[int] = field(default_factory=list)
    studies: list[int] = field(default_factory=list)
    instances: list[int] = field(default_factory=list)
    reports: list[int] = field(default_factory=list)
    embeddings: int = 0
    study_uids: set[str] = field(default_factory=set)
    sop_uids: set[str] = field(default_factory=set)  # of images that no other patient has
    accessions: set[str] = field(default_factory=set)
    paths: list[str] = field(default_factory=list)

    @property
    def uids(self) -> set[str]:
        return self.study_uids | self.sop_uids

    def count(self) -> int:
        found = (self.patients, self.studies, self.instances, self.reports)
        return sum(map(len, found)) + self.embeddings


@dataclass(frozen=True)
class KnownNames:
    """What is known from elsewhere to be the patient's."""

    study_uids: Collection[str] = ()
    sop_uids: Collection[str] = ()
    accessions: Collection[str] = ()


NOTHING_KNOWN: Final = KnownNames()


def find_patient_rows(
    session: Session,
    patient: NamedPatient,
    pseudonym: Pseudonym,
    known: KnownNames = NOTHING_KNOWN,
    *,
    whole_studies: bool = False,
) -> PatientRows:
    """What a catalog holds of a patient; ``pseudonym`` is that of its own secret.

    known: for rows that do not name the patient, such as reports whose study is gone already and files that an older
    version refused. whole_studies: the known studies too, whoever has them here, as in a backup from before they were
    given to the right patient.
    Raises ArchiveError ambiguous-patient: several issuers gave the ID, and none is named.
    """
    found = PatientRows(
        study_uids=set(known.study_uids), sop_uids=set(known.sop_uids), accessions=set(known.accessions)
    )
    id_key = patient.id_key(pseudonym)
    _patient(session, patient, pseudonym, found)
    _studies(session, found, Study.patient_id, found.patients)
    if whole_studies:
        _studies(session, found, Study.study_instance_uid, sorted(known.study_uids))
    _instances(session, found)
    other = sa.select(Patient.id).where(sa.or_(Patient.key == id_key, Patient.id_key == id_key))
    shared = session.scalar(other.where(Patient.id.not_in(found.patients)).limit(1)) is not None
    found.reports = sorted(_reports(session, found, {id_key}, by_id=not shared))
    _count_embeddings(session, found)
    return found


def find_forgotten_rows(session: Session, pseudonym: Pseudonym, forgotten: set[str]) -> PatientRows:
    """What a catalog holds of patients of whom nothing is known but the pseudonyms under which they were forgotten."""
    found = PatientRows(keys=set(forgotten))
    found.patients = [row[0] for row in _rows(session, (Patient.id,), Patient.key, sorted(forgotten))]
    for column, pseudonyms, names in (
        (Study.study_instance_uid, study_pseudonym, found.study_uids),
        (Report.study_instance_uid, study_pseudonym, found.study_uids),
        (Report.accession_number, accession_pseudonym, found.accessions),
    ):
        for name in session.scalars(sa.select(column).where(column.is_not(None)).distinct()):
            if pseudonyms(pseudonym, str(name)) in forgotten:
                names.add(str(name))
    _studies(session, found, Study.patient_id, found.patients)
    _studies(session, found, Study.study_instance_uid, sorted(found.study_uids))
    _instances(session, found)
    found.reports = sorted(_reports(session, found, forgotten, by_id=True))
    _count_embeddings(session, found)
    return found


def erase(session: Session, rows: PatientRows, refuse: Iterable[str], deed: str) -> None:
    """Delete the rows, every mention of them in others, and refuse these pseudonyms from now on.

    deed: the pseudonym that keeps those of one deed together.
    """
    known = set(session.scalars(sa.select(ForgottenPatient.key)))
    session.add_all(ForgottenPatient(key=key, patient=deed) for key in sorted({*refuse, *rows.keys} - known))
    touched: set[int] = set()
    for batch in batched(rows.instances, IN):
        query = sa.select(Study.patient_id).join(Instance, Instance.study_id == Study.id).where(Instance.id.in_(batch))
        touched.update(session.scalars(query))
    for batch in batched(rows.studies, IN):
        remove_embeddings(session, Embedding.study_id.in_(batch))
        for table in (EmbeddingFailure, StudyArrival, StudyReturn):
            session.execute(sa.delete(table).where(table.study_id.in_(batch)))
    for batch in batched(rows.reports, IN):
        session.execute(sa.delete(ReportFinding).where(ReportFinding.report_id.in_(batch)))
    for column, ids in (
        (Report.id, rows.reports),
        (Instance.id, rows.instances),
        (Study.id, rows.studies),
        (Patient.id, rows.patients),
    ):
        for batch in batched(ids, IN):
            session.execute(sa.delete(column.class_).where(column.in_(batch)))
    refresh_sources(session, touched - set(rows.patients))
    _unmention(session, rows.uids)
    forget_made(session)


def _patient(session: Session, patient: NamedPatient, pseudonym: Pseudonym, found: PatientRows) -> None:
    id_key = patient.id_key(pseudonym)
    if patient.issuer is None:
        where = sa.or_(Patient.key == id_key, Patient.id_key == id_key)
        found.keys = {id_key}
    else:
        found.keys = {pseudonym(patient.patient_id, patient.issuer)}
        where = Patient.key.in_(found.keys)
    rows = session.execute(sa.select(Patient.id, Patient.key).where(where).order_by(Patient.id)).all()
    if len(rows) > 1:
        message = (
            f"{len(rows)} patients have this ID, from different issuers. Name one: --issuer NAME,"
            ' or --issuer "" for the images that name no issuer.'
        )
        raise ArchiveError(message, "ambiguous-patient")
    found.patients = [row.id for row in rows]
    found.keys.update(row.key for row in rows)


def _studies(
    session: Session, found: PatientRows, column: InstrumentedAttribute[Any], values: Sequence[object]
) -> None:
    columns = (Study.id, Study.study_instance_uid, Study.accession_number)
    for study_id, uid, accession in _rows(session, columns, column, values):
        found.studies = sorted({*found.studies, study_id})
        found.study_uids.add(uid)
        found.accessions.update(filter(None, [accession]))


def _count_embeddings(session: Session, found: PatientRows) -> None:
    for batch in batched(found.studies, IN):
        query = sa.select(sa.func.count()).select_from(Embedding).where(Embedding.study_id.in_(batch))
        found.embeddings += session.scalar(query) or 0


def _instances(session: Session, found: PatientRows) -> None:
    columns = (Instance.id, Instance.sop_instance_uid, Instance.path)
    ids: dict[int, tuple[str | None, str]] = {}
    own = set(found.sop_uids)
    for row_id, uid, path in _rows(session, columns, Instance.study_id, found.studies):
        ids[row_id] = (uid, path)
        own.update(filter(None, [uid]))
    for row_id, uid, path in _rows(session, columns, Instance.patient_key, sorted(found.keys)):
        ids[row_id] = (uid, path)
    # Refused before it was kept whom they name: by their SOP instance.
    nameless = (Instance.status != ACCEPTED, Instance.patient_key.is_(None))
    for row_id, uid, path in _rows(session, columns, Instance.sop_instance_uid, sorted(own), *nameless):
        ids[row_id] = (uid, path)
    found.instances = sorted(ids)
    found.paths = [ids[row_id][1] for row_id in found.instances]
    named = {uid for uid, _ in ids.values() if uid}
    accepted = Instance.status == ACCEPTED
    living = {
        uid
        for row_id, uid, _ in _rows(session, columns, Instance.sop_instance_uid, sorted(named), accepted)
        if row_id not in ids
    }
    found.sop_uids = (found.sop_uids | named) - living


def _reports(session: Session, found: PatientRows, id_keys: set[str], by_id: bool) -> set[int]:
    """id_keys: of the Patient ID, which reports name without its issuer. by_id: whether nobody else has it."""
    columns = (Report.id, Report.study_id, Report.study_instance_uid, Report.patient_key)
    ids = {row[0] for row in _rows(session, columns, Report.study_id, found.studies)}
    free = {None, *found.studies}  # matched to no study of another patient
    for row_id, study_id, _, _ in _rows(session, columns, Report.study_instance_uid, sorted(found.study_uids)):
        if study_id in free:
            ids.add(row_id)
    for row_id, study_id, uid, key in _rows(session, columns, Report.accession_number, sorted(found.accessions)):
        # One that names nobody may be this patient's, and must not become the report of another with this number.
        if study_id in free and uid is None and (key is None or key in id_keys):
            ids.add(row_id)
    if by_id:
        ids.update(row[0] for row in _rows(session, columns, Report.patient_key, sorted(id_keys)) if row[1] in free)
    return ids


def _unmention(session: Session, uids: set[str]) -> None:
    """Reasons of refused files and reports may name the study or the image that stood in their way."""
    if not uids:
        return
    named = re.compile("|".join(rf"(?<![\d.]){re.escape(uid)}(?!\.?\d)" for uid in uids))
    for table in (Instance, Report):
        query = sa.select(table.id, table.detail).where(table.detail.is_not(None))
        ids = [row.id for row in session.execute(query) if named.search(row.detail)]
        for batch in batched(ids, IN):
            session.execute(sa.update(table).where(table.id.in_(batch)).values(detail=NEUTRAL))


def _rows(
    session: Session,
    columns: Sequence[InstrumentedAttribute[Any]],
    column: InstrumentedAttribute[Any],
    values: Sequence[object],
    *where: sa.ColumnElement[bool],
) -> list[Any]:
    query = sa.select(*columns).where(*where)
    return [row for batch in batched(values, IN) for row in session.execute(query.where(column.in_(batch)))]
