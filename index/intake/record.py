"""Examined files to rows: which are accepted, whose study they belong to, what that makes stale.

Runs inside the caller's transaction, one file after the other in a fixed order, so a run that was killed and
started again ends in the same rows.
"""

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from ..catalog import Catalog
from ..dicom import InstanceFacts, Refusal, clean
from ..keeping.deleted import deleted_among, deleted_refusal
from ..keeping.forgotten import forgotten_among, forgotten_refusal, image_keys
from ..tables import ACCEPTED, AS_REPORT, REFUSED, EmbeddingRemoval, Instance, Patient, Study
from .examine import Examined
from .identity import common_key, id_key_of, patient_key_of
from .study_sources import refresh_sources

__all__ = ["Recorded", "corrections", "path_key", "record"]

_COPIED = (
    "modality",
    "view_position",
    "view",
    "view_source",
    "rows",
    "columns",
    "instance_number",
    "acquired",
    "derived",
    "sop_instance_uid",
)
OTHER_PATIENT: Final = "conflicting-patient"
_STUDY_FIELDS = ("accession_number", "study_date", "study_time", "study_order", "description", "institution")


@dataclass
class Recorded:
    """What one batch changed. refused: the slug of each refused file.

    studies: ids of those that are new or are named otherwise now, by patient or accession number; accessions: numbers
    that they had until now. Reports that name them have to be matched.
    """

    accepted: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: list[str] = field(default_factory=list)
    studies_new: int = 0
    studies: set[int] = field(default_factory=set)
    accessions: set[str] = field(default_factory=set)


def path_key(path: Path) -> str:
    """A path of any length and encoding as 64 hexadecimal digits."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()


def record(catalog: Catalog, session: Session, batch: Sequence[Examined]) -> Recorded:
    """Write one row for every examined file and bring the studies they touch up to date."""
    recorder = _Recorder(catalog, session, batch)
    with session.no_autoflush:  # a flush halfway through a file would hide that its row was modified
        for item in batch:
            recorder.add(item)
    refresh_sources(session, recorder.touched)
    recorder.done.studies.update(study.id for study in recorder.named)
    return recorder.done


class _Recorder:
    def __init__(self, catalog: Catalog, session: Session, batch: Sequence[Examined]) -> None:
        self._catalog = catalog
        self._session = session
        self.done = Recorded()
        self.touched: set[int] = set()  # patients
        self.named: set[Study] = set()  # new, or under another patient or accession number
        self._last_id: int | None = None  # of a study, on SQLite
        self._retired = False  # whether the file being added takes the place of another
        self._superseded = False  # which held another version of the instance
        keys = [path_key(item.source.path) for item in batch]
        facts = [item.facts for item in batch if item.facts]
        self._replacing = [item.facts for item in batch if item.facts and item.source.replaces and not item.refusal]
        self._rows = {r.path_key: r for r in session.scalars(sa.select(Instance).where(Instance.path_key.in_(keys)))}
        images = [fact.sop_instance_uid for fact in facts]
        query = sa.select(Instance).where(Instance.status == ACCEPTED, Instance.sop_instance_uid.in_(images))
        self._holders = {row.sop_instance_uid: row for row in session.scalars(query)}
        uids = [fact.study_instance_uid for fact in facts]
        self._studies = {
            study.study_instance_uid: study
            for study in session.scalars(sa.select(Study).where(Study.study_instance_uid.in_(uids)))
        }
        patients = [patient_key_of(catalog, fact) for fact in facts]
        self._patients = {p.key: p for p in session.scalars(sa.select(Patient).where(Patient.key.in_(patients)))}
        self._deleted = deleted_among(catalog, session, uids)
        self._forgotten = forgotten_among(session, {key for fact in facts for key in image_keys(catalog, fact)})

    def add(self, item: Examined) -> None:
        key = path_key(item.source.path)
        row = self._rows.get(key)
        was_accepted = row is not None and row.status == ACCEPTED
        if row is None:
            row = self._rows[key] = Instance(path_key=key, path=_shown(item.source.path), status=REFUSED)
        self._touch(row)
        self._retired = self._superseded = False
        forgotten = item.facts is not None and not self._forgotten.isdisjoint(image_keys(self._catalog, item.facts))
        if forgotten:
            why: Refusal | None = forgotten_refusal()
        elif item.facts is not None and item.facts.study_instance_uid in self._deleted:
            why = deleted_refusal()
        else:
            why = item.refusal or (None if item.report else self._conflict(item, row))
        row.size, row.modified_ns = item.size, item.modified_ns
        row.sha256, row.pixels_sha256 = item.sha256, item.pixels_sha256
        if forgotten:
            self._leave_nothing(row)
        elif item.facts:
            self._copy_facts(item.facts, row, why is None and item.report is None)
        if why:
            self._refuse(row, why)
        elif item.report:
            self._set_aside(row, AS_REPORT)
        else:
            self._accept(row, item, was_accepted)
        self._session.add(row)
        self._session.flush()
        self._touch(row)

    def _accept(self, row: Instance, item: Examined, was_accepted: bool) -> None:
        facts = item.facts
        assert facts is not None
        # The same file or instance again: what it says now counts, such as a corrected date.
        study = self._study_of(facts, overwrite=was_accepted or self._retired)
        row.study, row.status, row.reason, row.detail = study, ACCEPTED, None, None
        changed = self._session.is_modified(row) or self._session.is_modified(study)
        if was_accepted and not changed:
            self.done.unchanged += 1
        elif was_accepted or self._superseded:
            self.done.updated += 1
        else:
            self.done.accepted += 1
        self._holders[facts.sop_instance_uid] = row

    def _refuse(self, row: Instance, why: Refusal) -> None:
        self._set_aside(row, REFUSED, why.slug, clean(why.message))
        self.done.refused.append(why.slug)

    def _set_aside(self, row: Instance, status: str, reason: str | None = None, detail: str | None = None) -> None:
        if self._holders.get(row.sop_instance_uid) is row:
            del self._holders[row.sop_instance_uid]
        row.study, row.status, row.reason, row.detail = None, status, reason, detail

    def _conflict(self, item: Examined, row: Instance) -> Refusal | None:
        """Why a usable image cannot be taken beside what the archive already holds."""
        facts = item.facts
        assert facts is not None
        holder = self._holders.get(facts.sop_instance_uid)
        holder = None if holder is row else holder
        there = holder is not None and os.path.exists(holder.path)
        if holder is not None and there:
            same = holder.sha256 == item.sha256 or self._says_the_same(item, facts, holder)
            if same or not item.source.replaces:
                words = "is already archived from" if same else "is archived with different content from"
                message = f"SOP instance {facts.sop_instance_uid} {words} {holder.path}."
                return Refusal("duplicate" if same else "conflicting", message)
        study = self._studies.get(facts.study_instance_uid or "")
        if study is not None and not self._may_belong(facts, study, row, holder):
            message = f"Study {facts.study_instance_uid} is archived under another patient."
            return Refusal(OTHER_PATIENT, message)
        if holder is not None:
            self._touch(holder)
            if there:
                self._superseded = True
                self._retire(holder, "superseded", f"The same instance came again with other content: {row.path}.")
            else:
                self._retire(holder, "file-missing", f"The file is gone; the same instance was found at {row.path}.")
        return None

    def _says_the_same(self, item: Examined, facts: InstanceFacts, holder: Instance) -> bool:
        """Whether a file would change nothing: the same object sent by another system differs in its file meta
        information (PS3.10 7.1), and may come in another transfer syntax."""
        study = holder.study
        if study is None or item.pixels_sha256 is None or item.pixels_sha256 != holder.pixels_sha256:
            return False
        if holder.patient_key != (patient_key_of(self._catalog, facts) if facts.patient_id else None):
            return False
        if (
            facts.study_instance_uid != study.study_instance_uid
            or common_key(self._catalog, facts, study) != study.patient.key
        ):
            return False
        of_study = _study_values(facts)
        return all(getattr(facts, name) == getattr(holder, name) for name in _COPIED) and all(
            value in (None, getattr(study, name)) for name, value in of_study.items()
        )

    def _retire(self, holder: Instance, reason: str, detail: str) -> None:
        holder.study, holder.status, holder.reason, holder.detail = None, REFUSED, reason, detail
        self._retired = True
        self._session.flush()  # before the new row, or two accepted ones meet in the unique index

    def _may_belong(self, facts: InstanceFacts, study: Study, row: Instance, holder: Instance | None) -> bool:
        if common_key(self._catalog, facts, study) is not None:
            return True
        own = [image.id for image in (row, holder) if image is not None and image.id is not None]
        others = sa.select(Instance.sop_instance_uid).where(
            Instance.study_id == study.id, Instance.status == ACCEPTED, Instance.id.not_in(own)
        )
        # A corrected file may move its study to the right patient when nothing else vouches for the old one: no other
        # image, or only such as were sent anew for the right one too.
        vouching = set(self._session.scalars(others)) if own else {None}
        key = patient_key_of(self._catalog, facts)
        if vouching:
            vouching -= {
                item.sop_instance_uid for item in self._replacing if patient_key_of(self._catalog, item) == key
            }
        if vouching:
            waiting = corrections(sa.select(Instance.sop_instance_uid), [study.id])
            vouching -= set(self._session.scalars(waiting.where(Instance.patient_key == key)))
        return not vouching

    def _study_of(self, facts: InstanceFacts, overwrite: bool) -> Study:
        uid = facts.study_instance_uid
        assert uid is not None
        study = self._studies.get(uid)
        key = patient_key_of(self._catalog, facts)
        if study is None:
            patient = self._patient(key, facts)
            study = Study(id=self._new_id(), study_instance_uid=uid, modality=facts.modality, patient=patient)
            self._studies[uid] = study
            self._session.add(study)
            self.named.add(study)
            self.done.studies_new += 1
        elif study.patient.key != (found := common_key(self._catalog, facts, study) or key):
            self.touched.add(study.patient_id)
            self.named.add(study)
            study.patient = self._patient(found, facts)
        number = study.accession_number
        for name, value in _study_values(facts).items():
            if value is not None and (overwrite or getattr(study, name) is None):
                setattr(study, name, value)
        if study.accession_number != number:
            self.named.add(study)
            self.done.accessions.update(filter(None, [number]))
        return study

    def _new_id(self) -> int | None:
        """SQLite gives the highest id again once its row was deleted: a search that has not heard of that yet would
        show the new study for the old one's embedding. None: the database never does."""
        if self._session.get_bind().dialect.name != "sqlite":
            return None
        if self._last_id is None:
            used = (sa.func.max(Study.id), sa.func.max(EmbeddingRemoval.study_id))
            self._last_id = max(self._session.scalar(sa.select(highest)) or 0 for highest in used)
        self._last_id += 1
        return self._last_id

    def _patient(self, key: str, facts: InstanceFacts) -> Patient:
        patient = self._patients.get(key)
        if patient is None:
            # The batch's own look-up does not know a patient that a study moves to.
            patient = self._session.scalar(sa.select(Patient).where(Patient.key == key)) or Patient(key=key)
            self._patients[key] = patient
            self._session.add(patient)
        patient.sex = patient.sex or facts.sex
        patient.id_key = id_key_of(self._catalog, facts)
        return patient

    def _copy_facts(self, facts: InstanceFacts, row: Instance, accepted: bool) -> None:
        if self._holders.get(row.sop_instance_uid) is row and facts.sop_instance_uid != row.sop_instance_uid:
            del self._holders[row.sop_instance_uid]
        row.patient_key = patient_key_of(self._catalog, facts) if facts.patient_id else None
        for name in _COPIED:
            value = getattr(facts, name)
            if not accepted and isinstance(value, str):
                value = value[: 64 if name == "sop_instance_uid" else 16]  # a refused file may hold anything
            setattr(row, name, value)

    def _leave_nothing(self, row: Instance) -> None:
        """Of a forgotten patient's file the archive knows where it lies, so that it can be removed there."""
        if self._holders.get(row.sop_instance_uid) is row:
            del self._holders[row.sop_instance_uid]
        for name in ("patient_key", "pixels_sha256", *_COPIED):
            setattr(row, name, None)

    def _touch(self, row: Instance) -> None:
        if row.study is not None and row.study.patient_id is not None:
            self.touched.add(row.study.patient_id)


def corrections(query: sa.Select[Any], study_ids: Collection[int]) -> sa.Select[Any]:
    """Of instances, those that came later than the archived ones of these studies, and were refused because they name
    another patient than the study had then; oldest first."""
    held = aliased(Instance)
    return (
        query.join(held, held.sop_instance_uid == Instance.sop_instance_uid)
        .where(held.study_id.in_(study_ids), held.status == ACCEPTED, Instance.updated_at >= held.updated_at)
        .where(Instance.status == REFUSED, Instance.reason == OTHER_PATIENT)
        .order_by(Instance.id)
    )


def _study_values(facts: InstanceFacts) -> dict[str, Any]:
    """What an image says about its study, by column."""
    return {name: getattr(facts, name) for name in _STUDY_FIELDS} | {
        "patient_sex": facts.sex,
        "patient_age": facts.age,
    }


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace").replace("\x00", "\\x00")
