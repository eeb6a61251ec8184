"""The findings that an English radiology report names: asserted, denied or suspected, and on which side."""

from .assertion import ABSENT, PRESENT, UNCERTAIN, Assertion
from .lexicon import FINDINGS, NO_FINDING
from .reading import Mention, ReportFinding, find_mentions, report_findings
from .sides import Laterality

__all__ = [
    "ABSENT",
    "FINDINGS",
    "LABELLER_VERSION",
    "NO_FINDING",
    "PRESENT",
    "UNCERTAIN",
    "Assertion",
    "Laterality",
    "Mention",
    "ReportFinding",
    "find_mentions",
    "report_findings",
]

LABELLER_VERSION = 1  # a change of any rule that changes what is read raises it: the archive then reads again
