"""The Store Instances Response Module (PS3.18 annex I) as DICOM JSON (PS3.18 annex F)."""

from collections.abc import Sequence
from typing import Any, Final

from .receiver import Stored

__all__ = ["CANNOT_UNDERSTAND", "FAILURE_REASONS", "OTHER_STUDY", "PROCESSING_FAILURE", "response_module", "status_of"]

RETRIEVE_URL: Final = "00081190"
FAILURE_REASON: Final = "00081197"
FAILED_SOP_SEQUENCE: Final = "00081198"
REFERENCED_SOP_SEQUENCE: Final = "00081199"
OTHER_FAILURES_SEQUENCE: Final = "0008119A"
REFERENCED_SOP_CLASS_UID: Final = "00081150"
REFERENCED_SOP_INSTANCE_UID: Final = "00081155"

# PS3.18 table I.2-2
OUT_OF_RESOURCES: Final = 0xA700
NOT_OF_ITS_CLASS: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000
TRANSFER_SYNTAX_NOT_SUPPORTED: Final = 0xC122
PROCESSING_FAILURE: Final = 0x0110
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
OTHER_STUDY: Final = 0xC409  # ours, as the table allows: in the address is another study

FAILURE_REASONS: Final = {
    **dict.fromkeys(("storage-full", "too-large", "too-many-pixels", "too-much-memory"), OUT_OF_RESOURCES),
    **dict.fromkeys(("bad-uid", "bad-identifier", "missing-identifier"), NOT_OF_ITS_CLASS),
    **dict.fromkeys(("not-dicom", "truncated", "undecodable", "wrong-media-type"), CANNOT_UNDERSTAND),
    **dict.fromkeys(("unsupported-transfer-syntax", "no-transfer-syntax"), TRANSFER_SYNTAX_NOT_SUPPORTED),
    **dict.fromkeys(
        ("wrong-modality", "for-processing", "no-pixel-data", "multi-frame", "unsupported-photometric"),
        SOP_CLASS_NOT_SUPPORTED,
    ),
    "other-study": OTHER_STUDY,
}


def status_of(stored: Sequence[Stored]) -> int:
    """PS3.18 table 10.5.3-1: 200 all stored, 202 some, 409 none."""
    successes = sum(item.refusal is None for item in stored)
    return 200 if successes == len(stored) else 202 if successes else 409


def response_module(stored: Sequence[Stored]) -> dict[str, Any]:
    """One item an instance. Addresses to retrieve it from are empty: the service gives no instances out."""
    done, failed, other = [], [], []
    for item in stored:
        if item.refusal is None:
            done.append(_reference(item) | {RETRIEVE_URL: {"vr": "UR"}})
            continue
        code = FAILURE_REASONS.get(item.refusal, PROCESSING_FAILURE)
        reason = {FAILURE_REASON: {"vr": "US", "Value": [code]}}
        if item.reference is None:
            other.append(reason)
        else:
            failed.append(_reference(item) | reason)
    module: dict[str, Any] = {RETRIEVE_URL: {"vr": "UR"}}
    for tag, items in (
        (FAILED_SOP_SEQUENCE, failed),
        (REFERENCED_SOP_SEQUENCE, done),
        (OTHER_FAILURES_SEQUENCE, other),
    ):
        if items:
            module[tag] = {"vr": "SQ", "Value": items}
    return dict(sorted(module.items()))


def _reference(item: Stored) -> dict[str, Any]:
    assert item.reference is not None
    return {
        REFERENCED_SOP_CLASS_UID: {"vr": "UI", "Value": [item.reference.sop_class_uid]},
        REFERENCED_SOP_INSTANCE_UID: {"vr": "UI", "Value": [item.reference.sop_instance_uid]},
    }
