"""Archived studies as callers see them, and where their images lie."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session, selectinload

from model.errors import ArchiveError, UnknownStudy

from .catalog import Catalog
from .dicom import InstanceFacts
from .priors import in_window, prior_window
from .records import StudyRecord, read_records
from .slots import CURRENT_SLOTS, PRIOR_SLOTS, arrange_slots, is_earlier
from .tables import ACCEPTED, IMAGE, Embedding, Instance, Patient, Study

__all__ = [
    "History",
    "SlotFiles",
    "StoredStudy",
    "find_accession",
    "find_study",
    "histories",
    "patient_keys",
    "prior_slots",
    "slot_instances",
    "stored_study",
    "study_slots",
]


SlotFiles = dict[str, Path]

MANY: Final = 100  # studies of one accession number that are counted


@dataclass(frozen=True)
class History:
    """One patient's studies, with the limit that holds for their priors."""

    studies: list[Study] = field(default_factory=list)
    within_days: int | None = None

    def __iter__(self) -> Iterator[Study]:
        return iter(self.studies)


@dataclass(frozen=True)
class StoredStudy:
    """An archived study to ask with.

    files: by slot, as they are embedded; empty without a frontal image. prior_uid: the study of the prior slots.
    embedding: float32 (D,), length 1, made from exactly these files; None where there is no such row. source: names
    these files with their content; None without a frontal image.
    """

    record: StudyRecord
    files: SlotFiles
    prior_uid: str | None
    embedding: np.ndarray | None
    source: str | None


def stored_study(catalog: Catalog, study_instance_uid: str, fingerprint: str) -> StoredStudy:
    """The archived study and what a model made of it. Raises UnknownStudy."""
    with catalog.snapshot() as session:
        study = _require(session, study_instance_uid)
        slots = slot_instances(histories(session, [study.patient_id])[study.patient_id], study)
        stored = sa.select(Embedding.vector).where(
            Embedding.study_id == study.id,
            Embedding.kind == IMAGE,
            Embedding.model_fingerprint == fingerprint,
            Embedding.source_hash == study.image_source,  # else it is of other files than these
        )
        vector = session.scalar(stored)
        prior = slots.get(PRIOR_SLOTS[0])
        return StoredStudy(
            read_records(session.connection(), [study.id])[study.id],
            {slot: Path(instance.path) for slot, instance in slots.items()},
            session.scalar(sa.select(Study.study_instance_uid).where(Study.id == prior.study_id)) if prior else None,
            None if vector is None else np.frombuffer(vector, "<f4"),
            study.image_source,
        )


def find_study(catalog: Catalog, study_instance_uid: str) -> StudyRecord:
    """The archived study. Raises UnknownStudy."""
    with catalog.session() as session:
        study = _require(session, study_instance_uid)
        return read_records(session.connection(), [study.id])[study.id]


def find_accession(
    catalog: Catalog, accession_number: str, institution: str | None = None, study_date: date | None = None
) -> str:
    """The StudyInstanceUID of the one study with an accession number, which is unique within one site at best;
    narrowed by what tells sites and years apart.

    Raises UnknownStudy; ArchiveError ambiguous-accession, which says how many there are and what would tell them apart.
    """
    query = sa.select(Study.study_instance_uid, Study.institution, Study.study_date)
    query = query.where(Study.accession_number == accession_number)
    if institution is not None:
        query = query.where(Study.institution == institution)
    if study_date is not None:
        query = query.where(Study.study_date == study_date)
    with catalog.session() as session:
        found = session.execute(query.limit(MANY)).all()
    if not found:
        raise UnknownStudy("The archive has no study with that accession number, institution and date.")
    if len(found) > 1:
        count = f"{MANY} or more" if len(found) == MANY else str(len(found))
        places, days = (len({row[column] for row in found}) for column in (1, 2))
        message = (
            f"{count} studies have that accession number, of {places} institutions and {days} dates. Narrow it with"
            " accession_institution or accession_date, or ask by StudyInstanceUID."
        )
        raise ArchiveError(message, "ambiguous-accession")
    return str(found[0].study_instance_uid)


def patient_keys(catalog: Catalog, study_instance_uids: Iterable[str]) -> set[str]:
    """The pseudonyms of the patients whose studies these are here; nothing for studies that are not here."""
    keys = sa.select(Patient.key).join(Study, Study.patient_id == Patient.id)
    with catalog.session() as session:
        return set(session.scalars(keys.where(Study.study_instance_uid.in_(list(study_instance_uids)))))


def study_slots(catalog: Catalog, study_instance_uid: str) -> SlotFiles:
    """The files of a study's slots, by slot name; absent slots are absent. Raises UnknownStudy.

    A study without a frontal image has its ``current_lateral`` here, to be looked at; it is not embedded.
    """
    with catalog.session() as session:
        study = _require(session, study_instance_uid)
        history = histories(session, [study.patient_id])[study.patient_id]
        instances = arrange_slots(study.instances) | slot_instances(history, study)
    return {slot: Path(instance.path) for slot, instance in instances.items()}


def prior_slots(catalog: Catalog, facts: InstanceFacts) -> SlotFiles:
    """``prior_frontal`` and ``prior_lateral`` for a query image whose study need not be archived.

    Empty when the patient is unknown, or no archived study is known to be earlier and recent enough.
    """
    if not facts.patient_id:
        return {}
    key = catalog.patient_key(facts.patient_id, facts.issuer or "")
    with catalog.session() as session:
        patient_id = session.scalar(sa.select(Patient.id).where(Patient.key == key))
        if patient_id is None:
            return {}
        history = histories(session, [patient_id]).get(patient_id, History())
    others = [study for study in history if study.study_instance_uid != facts.study_instance_uid]
    return {slot: Path(instance.path) for slot, instance in _prior(others, facts, history.within_days).items()}


def slot_instances(history: History, study: Study) -> dict[str, Instance]:
    """The instance in each filled slot of ``study``, one of the patient's ``history``; {} without a frontal image.

    The encoder reads a study through its frontal image: a lateral beside a prior's frontal would pass for a study
    that was never made.
    ``instances`` of every study in the history hold accepted ones only.
    """
    current = arrange_slots(study.instances)
    if "current_frontal" not in current:
        return {}
    return current | _prior([other for other in history if other.id != study.id], study, history.within_days)


def _prior(others: Iterable[Study], current: Study | InstanceFacts, within_days: int | None) -> dict[str, Instance]:
    """The slots of the latest earlier study that has a frontal image and is recent enough."""
    latest: Study | None = None
    for study in sorted(others, key=lambda other: other.study_instance_uid):
        known = is_earlier(study, current) and in_window(study, current, within_days)
        if known and "current_frontal" in arrange_slots(study.instances):
            # Where neither is known to be earlier, the higher UID: any choice, as long as it is always the same.
            latest = study if latest is None or not is_earlier(study, latest) else latest
    if latest is None:
        return {}
    slots = arrange_slots(latest.instances)
    return {prior: slots[name] for prior, name in zip(PRIOR_SLOTS, CURRENT_SLOTS, strict=True) if name in slots}


def histories(session: Session, patient_ids: Iterable[int]) -> dict[int, History]:
    """Every study of each patient, with its accepted instances."""
    window = prior_window(session)
    query = (
        sa.select(Study)
        .where(Study.patient_id.in_(list(patient_ids)))
        .options(selectinload(Study.instances.and_(Instance.status == ACCEPTED)))
        .order_by(Study.id)
        .execution_options(populate_existing=True)
    )
    found: dict[int, History] = {}
    for study in session.scalars(query):
        patient = study.patient_id
        found.setdefault(patient, History(within_days=window.of_patient(patient))).studies.append(study)
    return found


def _require(session: Session, study_instance_uid: str) -> Study:
    study = session.scalar(sa.select(Study).where(Study.study_instance_uid == study_instance_uid))
    if study is None:
        raise UnknownStudy(f"No study {study_instance_uid[:64]} is in the archive.")
    return study
