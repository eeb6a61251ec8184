"""The findings that an English radiology report names: asserted, denied or suspected, and on which side."""

from .assertion import ABSENT, PRESENT, UNCERTAIN, Assertion
from .lexicon import FINDINGS, NO_FINDING
from .reading import Mention, ReportFinding, find_mentions, report_findings
from .sides import BILATERAL, LEFT, RIGHT, Laterality

__all__ = [
    "ABSENT",
    "BILATERAL",
    "FINDINGS",
    "LABELLER_VERSION",
    "LEFT",
    "NO_FINDING",
    "PRESENT",
    "RIGHT",
    "UNCERTAIN",
    "Assertion",
    "Laterality",
    "Mention",
    "ReportFinding",
    "find_mentions",
    "report_findings",
]

LABELLER_VERSION = 2  # a change of any rule that changes what is read raises it: the archive then reads again
