"""What we send ourselves, so that a PACS which sends everything on does not make us read our own results as reports."""

from typing import Any, Final

from pydicom import Dataset

from ..dicom import Refusal, clean
from ..reports.texts import derived_uid

__all__ = ["CODES", "MANUFACTURER", "MODEL", "OWN_RESULT", "is_own_resource", "is_own_result", "own_result_refusal"]

MANUFACTURER: Final = "ALTA retrieval"
MODEL: Final = "Similar studies and zero-shot findings"
OWN_RESULT: Final = "own-result"
# Of our own codes in FHIR, where 99ALTA names them in DICOM; the same for ever.
CODES: Final = f"urn:oid:{derived_uid('codes')}"


def is_own_result(dataset: Dataset) -> bool:
    """Whether a structured report is one of ours: General Equipment, which those who pass it on leave as it is."""
    try:
        found = tuple(clean(str(dataset.get(keyword) or "")) for keyword in ("Manufacturer", "ManufacturerModelName"))
    except Exception:  # pydicom raises many kinds on broken values
        return False
    return found == (MANUFACTURER, MODEL)


def is_own_resource(coded: Any) -> bool:
    """Whether a CodeableConcept of FHIR has one of our codes."""
    return any(str(coding.system) == CODES for coding in getattr(coded, "coding", None) or [])


def own_result_refusal() -> Refusal:
    return Refusal(OWN_RESULT, "It is a result that this product made and sent; it is no report of a study.")
