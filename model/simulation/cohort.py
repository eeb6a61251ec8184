"""Patients and their studies, drawn from a seed: who they are, when they were imaged and how the studies were taken."""

import datetime
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from .anatomy import sample_acquisition, sample_anatomy
from .findings import Finding
from .history import next_findings
from .report import write_report
from .study import Report, SimulatedPatient, SimulatedStudy

__all__ = ["simulate_patient", "simulate_studies"]

_NO_REPORT = Report("", "", "", "")


def simulate_patient(seed: int, number: int) -> SimulatedPatient:
    """Patient `number` (0, 1, ...) of the cohort `seed`: the same two numbers always give the same patient.

    Patients are independent, and cohorts of different seeds share no patient, accession number or UID.
    """
    rng = np.random.default_rng([seed, number])
    sex: Literal["M", "F"] = "M" if rng.random() < 0.52 else "F"
    age = int(np.clip(rng.normal(61, 17), 18, 96))
    anatomy = sample_anatomy(rng, sex, age)
    date = datetime.date(2011, 1, 1) + datetime.timedelta(days=int(rng.integers(365 * 9)))
    first_date = date
    patient_id = "SIM" + _digest(seed, number, "patient")[:12].upper()
    studies: list[SimulatedStudy] = []
    prior: SimulatedStudy | None = None
    for index in range(int(rng.choice(4, p=(0.46, 0.28, 0.16, 0.10))) + 1):
        if prior is not None:
            date += datetime.timedelta(days=int(np.clip(rng.lognormal(3.6, 1.6), 1, 1500)))
        findings, resolved = next_findings(rng, prior)
        frontal_view, has_lateral = _views(rng, findings)
        findings = _lateral_only(rng, findings, prior, has_lateral)
        digest = _digest(seed, number, "study", index)
        study = SimulatedStudy(
            study_instance_uid=f"2.25.{int(digest[:32], 16)}",  # PS3.5 B.2: a UUID-derived UID
            patient_id=patient_id,
            accession_number="A" + digest[32:44].upper(),
            study_date=date,
            sex=sex,
            age=age + (date - first_date).days // 365,
            frontal_view=frontal_view,
            anatomy=anatomy,
            frontal=sample_acquisition(rng, frontal_view),
            lateral=sample_acquisition(rng, "LL") if has_lateral else None,
            findings=findings,
            resolved=resolved,
            report=_NO_REPORT,
        )
        study = replace(study, report=write_report(rng, study, prior))
        studies.append(study)
        prior = study
    return SimulatedPatient(patient_id=patient_id, sex=sex, studies=tuple(studies))


def simulate_studies(seed: int, count: int) -> Iterator[tuple[SimulatedStudy, SimulatedStudy | None]]:
    """The first `count` studies of the cohort `seed`, patient after patient, each with the study before it, or None."""
    number = 0
    while count > 0:
        prior: SimulatedStudy | None = None
        for study in simulate_patient(seed, number).studies[:count]:
            yield study, prior
            prior = study
            count -= 1
        number += 1


def _digest(*parts: object) -> str:
    return hashlib.sha256(":".join(map(str, parts)).encode()).hexdigest()


def _views(rng: np.random.Generator, findings: tuple[Finding, ...]) -> tuple[Literal["PA", "AP"], bool]:
    """The frontal view and whether a lateral is taken: the sicker the patient, the likelier a portable AP alone."""
    if any(finding.lateral_only for finding in findings):
        return "PA", True  # what was seen only on the lateral is followed up with one
    portable = 0.15
    for finding in findings:
        if finding.device in ("endotracheal tube", "nasogastric tube", "chest tube"):
            portable += 0.45
        elif finding.name in ("edema", "pneumothorax", "pleural effusion"):
            portable += 0.12
    if rng.random() < portable:
        return "AP", bool(rng.random() < 0.03)
    return "PA", bool(rng.random() < 0.6)


def _lateral_only(
    rng: np.random.Generator,
    findings: tuple[Finding, ...],
    prior: SimulatedStudy | None,
    has_lateral: bool,
) -> tuple[Finding, ...]:
    """Hides some new findings from the frontal view.

    Only where the prior also had a lateral, if there is a prior: otherwise nobody could call the finding new.
    """
    if not has_lateral or (prior is not None and not prior.has_lateral):
        return findings
    hidden: list[Finding] = []
    for finding in findings:
        alone = sum(other.name == finding.name for other in findings) == 1
        if finding.change in ("new", None) and alone and not finding.lateral_only and rng.random() < 0.24:
            depth = float(rng.uniform(0.4, 0.62))
            if finding.name == "pleural effusion" and finding.side != "bilateral":
                finding = replace(finding, lateral_only=True, severity=float(rng.uniform(0.14, 0.36)))
            elif finding.name in ("nodule", "consolidation"):
                place = (0.22, float(rng.uniform(0.78, 0.92)), depth)
                severity = float(np.clip(finding.severity, 0.3, 0.8))
                finding = replace(
                    finding,
                    lateral_only=True,
                    zone="lower",
                    place=place,
                    severity=severity,
                )
        hidden.append(finding)
    return tuple(hidden)
