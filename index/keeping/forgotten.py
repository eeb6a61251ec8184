"""Who was forgotten: kept as pseudonyms, so that what comes again under one of them is refused.

A patient is named by a Patient ID, with the issuer of that ID where images name one (PS3.3 C.7.1.1: optional). What
names no patient is known by its study: pseudonyms of the study instance UIDs and accession numbers are kept too.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..batches import batched
from ..catalog import Catalog
from ..dicom import InstanceFacts, Refusal
from ..reports.texts import ReportText
from ..tables import ForgottenPatient, Instance, Patient, Report

__all__ = [
    "FORGOTTEN",
    "NamedPatient",
    "Pseudonym",
    "accession_pseudonym",
    "discard_refused",
    "forgotten_among",
    "forgotten_refusal",
    "image_keys",
    "remember_patient",
    "study_pseudonym",
    "without_forgotten",
]

FORGOTTEN: Final = "forgotten-patient"

# In the place of an issuer, which holds no control character.
_ANY_ISSUER: Final = "\x1fany issuer"
_OTHER_ISSUER: Final = "\x1fan issuer that reports do not name"
_STUDY: Final = "\x1fstudy of a forgotten patient"
_ACCESSION: Final = "\x1faccession number of a forgotten patient"

Pseudonym = Callable[[str, str], str]  # (id, issuer) to 64 hexadecimal digits, as ``Catalog.patient_key``


@dataclass(frozen=True)
class NamedPatient:
    """Whom an administrator means. issuer: None when not said, "" for images that name none."""

    patient_id: str = field(repr=False)
    issuer: str | None = field(default=None, repr=False)

    def key(self, pseudonym: Pseudonym) -> str:
        """What stands for the whole deed."""
        return pseudonym(self.patient_id, _ANY_ISSUER if self.issuer is None else self.issuer)

    def id_key(self, pseudonym: Pseudonym) -> str:
        """The pseudonym of the Patient ID alone, as images without an issuer and reports have it."""
        return pseudonym(self.patient_id, "")

    def refused_keys(self, pseudonym: Pseudonym, studies: Iterable[str], accessions: Iterable[str]) -> set[str]:
        """Every pseudonym under which something of this patient could come again."""
        keys = {self.key(pseudonym)}
        if self.issuer:
            keys.add(pseudonym(self.patient_id, _OTHER_ISSUER))
        keys.update(study_pseudonym(pseudonym, uid) for uid in studies)
        keys.update(accession_pseudonym(pseudonym, number) for number in accessions)
        return keys


def study_pseudonym(pseudonym: Pseudonym, study_instance_uid: str) -> str:
    return pseudonym(study_instance_uid, _STUDY)


def accession_pseudonym(pseudonym: Pseudonym, accession_number: str) -> str:
    return pseudonym(accession_number, _ACCESSION)


def image_keys(catalog: Catalog, facts: InstanceFacts) -> set[str]:
    """The pseudonyms of an image, of which none may be forgotten."""
    if not (facts.patient_id or "").strip():
        return {study_pseudonym(catalog.patient_key, facts.study_instance_uid or "")}
    assert facts.patient_id is not None
    return {catalog.patient_key(facts.patient_id, issuer) for issuer in (facts.issuer or "", _ANY_ISSUER)}


def forgotten_among(session: Session, keys: Iterable[str]) -> set[str]:
    """Those of the pseudonyms that are forgotten."""
    found: set[str] = set()
    for batch in batched(set(keys), 500):
        found.update(session.scalars(sa.select(ForgottenPatient.key).where(ForgottenPatient.key.in_(batch))))
    return found


def forgotten_refusal() -> Refusal:
    return Refusal(FORGOTTEN, "The patient was forgotten. `alta archive remember` lets them in again.")


def without_forgotten(catalog: Catalog, session: Session, reports: Sequence[ReportText]) -> list[ReportText]:
    """The reports; of those of forgotten patients nothing but where they were met, refused."""
    keys = [_report_keys(catalog, report) for report in reports]
    forgotten = forgotten_among(session, {key for found in keys for key in found.all})
    if not forgotten:
        return list(reports)
    named = {found.patient for found in keys if found.patient}
    query = sa.select(Patient.key, Patient.id_key).where(sa.or_(Patient.key.in_(named), Patient.id_key.in_(named)))
    living = {key for row in session.execute(query) for key in row if key}
    return [
        ReportText(report.source, refusal=forgotten_refusal()) if found.hit(forgotten, living) else report
        for report, found in zip(reports, keys, strict=True)
    ]


@dataclass(frozen=True)
class _ReportKeys:
    """patient: of the Patient ID, which reports name without its issuer; None for a report that names nobody."""

    patient: str | None
    named: frozenset[str]
    other_issuer: str | None
    study: frozenset[str]

    @property
    def all(self) -> set[str]:
        return {*self.named, *self.study, *filter(None, [self.other_issuer])}

    def hit(self, forgotten: set[str], living: set[str]) -> bool:
        if self.patient is None:
            return bool(self.study & forgotten)
        if self.named & forgotten:
            return True
        # The ID was forgotten under one issuer; who has it under another may still get reports.
        return self.other_issuer in forgotten and (self.patient not in living or bool(self.study & forgotten))


def _report_keys(catalog: Catalog, report: ReportText) -> _ReportKeys:
    study = set()
    if report.study_instance_uid:
        study.add(study_pseudonym(catalog.patient_key, report.study_instance_uid))
    if report.accession_number and not report.study_instance_uid:
        study.add(accession_pseudonym(catalog.patient_key, report.accession_number))
    patient = (report.patient_id or "").strip()
    if not patient:
        return _ReportKeys(None, frozenset(), None, frozenset(study))
    own = catalog.patient_key(patient)
    named = frozenset({own, catalog.patient_key(patient, _ANY_ISSUER)})
    return _ReportKeys(own, named, catalog.patient_key(patient, _OTHER_ISSUER), frozenset(study))


def discard_refused(catalog: Catalog, kept: Mapping[str, Path], reasons: Collection[str]) -> None:
    """Remove those of the archive's own files, by path key, that were refused for one of these reasons."""
    with catalog.session() as session:
        query = sa.select(Instance.path_key).where(Instance.reason.in_(reasons), Instance.path_key.in_(list(kept)))
        refused = session.scalars(query).all()
    for key in refused:
        kept[key].unlink(missing_ok=True)


def remember_patient(catalog: Catalog, patient: NamedPatient) -> bool:
    """Let a forgotten patient in again, named as when they were forgotten; whether they were.

    What was refused because someone was forgotten is judged anew by the next ingest.
    """
    with catalog.write() as session:
        key = patient.key(catalog.patient_key)
        gone = session.execute(sa.delete(ForgottenPatient).where(ForgottenPatient.patient == key))
        if not gone.rowcount:  # type: ignore[attr-defined]
            return False
        for table in (Instance, Report):
            session.execute(sa.delete(table).where(table.reason == FORGOTTEN))
    return True
