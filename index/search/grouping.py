"""Reports that say the same: one hit stands for all of them.

Two reports are of one group when they have the same sentences, whatever their order, case, spaces and punctuation.
"""

import re
from typing import Final

from model.text import report_body, sentences

from ..records import ReportRecord

__all__ = ["report_key"]

_NOT_WORDS: Final = re.compile(r"[\W_]+")


def report_key(report: ReportRecord) -> frozenset[str]:
    """The sentences of a report; those of two reports that say the same are equal."""
    text = report_body(report.findings, report.impression, report.text)
    plain = (_NOT_WORDS.sub(" ", sentence).strip().casefold() for sentence in sentences(text))
    return frozenset(filter(None, plain))
