"""The concepts of the documents: those of DICOM and SNOMED CT where there is one of exactly that meaning, else ours."""

from collections.abc import Mapping
from typing import Final

from pydicom.sr.coding import Code

from index.returns.own import CODES

__all__ = [
    "DECISION",
    "DECISIONS",
    "FHIR_SYSTEMS",
    "FINDINGS",
    "NO_UNITS",
    "PERCENT",
    "PERCENTILE",
    "PROBABILITY",
    "PROCEDURE",
    "RANK",
    "REPORT",
    "SCHEME",
    "SCORE",
    "SIMILAR",
    "SIMILARITY",
    "SIMILAR_STUDY",
    "STUDY_UID",
]

SCHEME: Final = "99ALTA"  # private (PS3.16 section 8): its meanings are those of docs/integrations.md

FHIR_SYSTEMS: Final[Mapping[str, str]] = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
    SCHEME: CODES,
}


def _own(value: str, meaning: str) -> Code:
    return Code(value, SCHEME, meaning)


# The built-in findings are CheXpert's, some of which are wider than any one concept of SNOMED CT.
FINDINGS: Final[Mapping[str, Code]] = {
    "No Finding": _own("no-finding", "No finding of the others"),
    "Enlarged Cardiomediastinum": _own("enlarged-cardiomediastinum", "Enlarged cardiomediastinum"),
    "Cardiomegaly": Code("8186001", "SCT", "Cardiomegaly"),
    "Lung Opacity": _own("lung-opacity", "Lung opacity"),
    "Lung Lesion": _own("lung-lesion", "Lung nodule or mass"),
    "Edema": Code("19242006", "SCT", "Pulmonary edema"),
    "Consolidation": Code("95436008", "SCT", "Consolidation of lung"),
    "Pneumonia": Code("233604007", "SCT", "Pneumonia"),
    "Atelectasis": Code("46621007", "SCT", "Atelectasis"),
    "Pneumothorax": Code("36118008", "SCT", "Pneumothorax"),
    "Pleural Effusion": Code("60046008", "SCT", "Pleural effusion"),
    "Pleural Other": _own("pleural-other", "Pleural abnormality other than effusion"),
    "Fracture": Code("125605004", "SCT", "Fracture of bone"),
    "Support Devices": _own("support-devices", "Support device in place"),
}

REPORT: Final = _own("findings-and-similar-studies", "Zero-shot findings and similar past studies")
SCORE: Final = _own("zero-shot-score", "Zero-shot score, no probability")
PROBABILITY: Final = Code("122157", "DCM", "Probability")
DECISION: Final = _own("decision", "Decision by the calibration's thresholds")
DECISIONS: Final[Mapping[str, Code]] = {
    "present": Code("52101004", "SCT", "Present"),
    "absent": Code("272519000", "SCT", "Absent"),
    "uncertain": Code("64957009", "SCT", "Uncertain"),
}
SIMILAR: Final = _own("similar-studies", "Similar past studies of other patients")
SIMILAR_STUDY: Final = _own("similar-study", "Similar past study of another patient")
STUDY_UID: Final = Code("110180", "DCM", "Study Instance UID")
RANK: Final = _own("rank", "Rank among similar studies")
SIMILARITY: Final = _own("similarity", "Similarity, by which studies are ranked")
PERCENTILE: Final = Code("121415", "DCM", "Percentile Ranking of measurement")
PROCEDURE: Final = Code("168537006", "SCT", "Plain radiography")
NO_UNITS: Final = Code("1", "UCUM", "no units")
PERCENT: Final = Code("%", "UCUM", "Percent")
