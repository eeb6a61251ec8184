"""Findings and similar studies as a FHIR R4 DiagnosticReport, its Observations contained: one resource, sent whole.

The patient, the study and the order are named by their identifiers, as DICOM has them; the server's own resources of
them need not be known.
"""

import re
from typing import Any

from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.sr.coding import Code

from index.reports.texts import is_uid
from model.errors import InputError

from ..schemas import PairScore
from . import codes
from .material import Material, Similar

__all__ = ["SEVERAL_VALUES", "diagnostic_report"]

SEVERAL_VALUES = "several-values"  # of the image itself: trying again finds the same
DICOM_UID = "urn:dicom:uid"
URI = "urn:ietf:rfc:3986"
IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"


def diagnostic_report(material: Material, *, patient_system: str = "", accession_system: str = "") -> dict[str, Any]:
    """As JSON. Preliminary: nobody has seen it. One resource for all states of the study: a newer one replaces it.

    The systems are URIs of what the images' Patient IDs and accession numbers are unique in; where they are empty, the
    images' own issuers are. Raises InputError several-values; ValueError where another value cannot be in FHIR.
    """
    header = material.headers[0]
    observations = [
        _finding(finding, number) for number, finding in enumerate(material.result.findings.findings, start=1)
    ]
    observations += [_similar(one) for one in material.result.similar]
    # R4 Observation.device: which encoders they were, by the hash of their weights.
    device = f"ALTA retrieval {material.result.software}, encoders {material.result.fingerprint}"
    for observation in observations:
        observation["device"] = {"display": device}
    identity = material.lasting_uid("report")
    report: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "id": f"alta-{identity.removeprefix('2.25.')}",
        "contained": observations,
        "identifier": [{"system": URI, "value": f"urn:oid:{identity}"}],
        "status": "preliminary",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}]}],
        "code": _concept(codes.REPORT),
        "imagingStudy": [
            {"identifier": {"system": DICOM_UID, "value": f"urn:oid:{material.study.study_instance_uid}"}}
        ],
        "issued": material.made_at.isoformat(timespec="seconds"),
        "result": [{"reference": f"#{observation['id']}"} for observation in observations],
        "conclusion": material.statement,
    }
    told = bool(patient_system)
    patient_system = patient_system or _system(header.get("IssuerOfPatientIDQualifiersSequence"))
    if patient := _identifier(header, "PatientID", "MR", patient_system):
        # Where the route tells the system, an issuer that is several is left out.
        several = told and isinstance(header.get("IssuerOfPatientID"), MultiValue)
        if not several and (issuer := _text(header, "IssuerOfPatientID")):
            patient["assigner"] = {"display": issuer}
        report["subject"] = {"identifier": patient}
    accession_system = accession_system or _system(header.get("IssuerOfAccessionNumberSequence"))
    if accession := _identifier(header, "AccessionNumber", "ACSN", accession_system):
        report["basedOn"] = [{"type": "ServiceRequest", "identifier": accession}]
    if material.study.study_date:
        report["effectiveDateTime"] = material.study.study_date.isoformat()
    DiagnosticReport.model_validate(report)
    return report


def _finding(finding: PairScore, number: int) -> dict[str, Any]:
    parts = [_part(codes.SCORE, finding.score, codes.NO_UNITS)]
    if finding.probability is not None:
        parts.append(_part(codes.PROBABILITY, finding.probability, codes.NO_UNITS))
    observation: dict[str, Any] = {
        "resourceType": "Observation",
        "id": f"finding-{number}",
        "status": "preliminary",
        "code": {**_concept(codes.FINDINGS[finding.name]), "text": finding.name},
        "component": parts,
    }
    if finding.decision is not None:
        observation["valueCodeableConcept"] = _concept(codes.DECISIONS[finding.decision])
    return observation


def _similar(one: Similar) -> dict[str, Any]:
    parts = [
        {"code": _concept(codes.RANK), "valueInteger": one.rank},
        _part(codes.SIMILARITY, one.score, codes.NO_UNITS),
    ]
    if one.percentile is not None:
        parts.append(_part(codes.PERCENTILE, one.percentile, codes.PERCENT))
    return {
        "resourceType": "Observation",
        "id": f"similar-{one.rank}",
        "status": "preliminary",
        "code": _concept(codes.SIMILAR_STUDY),
        # R4 Observation.focus: what is observed where that is not the subject of the record.
        "focus": [{"identifier": {"system": DICOM_UID, "value": f"urn:oid:{one.study_instance_uid}"}}],
        "component": parts,
    }


def _part(code: Code, value: float, unit: Code) -> dict[str, Any]:
    quantity = {"value": round(value, 6), "system": codes.FHIR_SYSTEMS["UCUM"], "code": unit.value}
    return {"code": _concept(code), "valueQuantity": quantity}


def _concept(code: Code) -> dict[str, Any]:
    system = codes.FHIR_SYSTEMS[code.scheme_designator]
    return {"coding": [{"system": system, "code": code.value, "display": code.meaning}]}


def _identifier(header: Dataset, keyword: str, kind: str, system: str) -> dict[str, Any]:
    """Empty where the image has none."""
    value = _text(header, keyword)
    if not value:
        return {}
    found: dict[str, Any] = {"type": {"coding": [{"system": IDENTIFIER_TYPES, "code": kind}]}, "value": value}
    return found | ({"system": system} if system else {})


def _system(issuers: Any) -> str:
    """URI of a universal entity (PS3.3 10.14, 10.15), as far as its kind has one; else empty."""
    if not issuers:
        return ""
    value, kind = (_text(issuers[0], f"UniversalEntityID{name}") for name in ("", "Type"))
    if kind == "ISO" and is_uid(value):
        return f"urn:oid:{value}"
    if kind == "UUID" and re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", value):
        return f"urn:uuid:{value.lower()}"
    return value if kind == "URI" and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s|]+", value) else ""


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    if isinstance(value, MultiValue):  # a list would be nobody's identifier
        raise InputError(f"Expected one {keyword} in the image, found {len(value)}.", SEVERAL_VALUES)
    return str(value or "").strip(" \0")
