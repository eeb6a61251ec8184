"""Findings and similar studies as a FHIR R4 DiagnosticReport, its Observations contained: one resource, sent whole.

The patient, the study and the order are named by their identifiers, as DICOM has them; the server's own resources of
them need not be known.
"""

from typing import Any

from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from pydicom import Dataset
from pydicom.sr.coding import Code

from ..schemas import PairScore
from . import codes
from .material import Material, Similar

__all__ = ["diagnostic_report"]

DICOM_UID = "urn:dicom:uid"
URI = "urn:ietf:rfc:3986"
IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"


def diagnostic_report(material: Material) -> dict[str, Any]:
    """As JSON. Preliminary: nobody has seen it. Raises ValueError where a value of the image cannot be in FHIR."""
    header = material.headers[0]
    observations = [_finding(finding, number) for number, finding in enumerate(material.findings.findings, start=1)]
    observations += [_similar(one) for one in material.similar]
    identity = material.uid("document")
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
    if patient := _patient(header):
        report["subject"] = {"identifier": patient}
    if accession := _text(header, "AccessionNumber"):
        kind = {"coding": [{"system": IDENTIFIER_TYPES, "code": "ACSN"}]}
        report["basedOn"] = [{"type": "ServiceRequest", "identifier": {"type": kind, "value": accession}}]
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


def _patient(header: Dataset) -> dict[str, Any]:
    value = _text(header, "PatientID")
    if not value:
        return {}
    found: dict[str, Any] = {"type": {"coding": [{"system": IDENTIFIER_TYPES, "code": "MR"}]}, "value": value}
    if issuer := _text(header, "IssuerOfPatientID"):
        found["assigner"] = {"display": issuer}
    return found


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip(" \0")
