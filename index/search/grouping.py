"""Reports that say the same: one hit stands for all of them.

Two reports are of one group when they have the same sentences, whatever their order, list numbers, case, spaces and
punctuation. Not when a sentence differs: a third of such pairs, sampled among real reports that state the same
findings, hid one that no list of findings has, such as a scoliosis or an earlier operation.
"""

import re
from typing import Final

from model.text import report_body, sentences

from ..records import ReportRecord

__all__ = ["report_key"]

_NOT_WORDS: Final = re.compile(r"[\W_]+")
_LIST_NUMBER: Final = re.compile(r"^\d{1,2}[.)]\s+")


def report_key(report: ReportRecord) -> frozenset[str]:
    """The sentences of a report; those of two reports that say the same are equal. Empty for one without words."""
    text = report_body(report.findings, report.impression, report.text)
    bare = (_LIST_NUMBER.sub("", sentence) for sentence in sentences(text))
    return frozenset(filter(None, (_NOT_WORDS.sub(" ", sentence).strip().casefold() for sentence in bare)))
