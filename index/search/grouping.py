"""Reports that say the same: one hit stands for all of them.

Two reports are of one group when they have the same sentences, whatever their order, list marks, case, spaces and
stops. Not when a sentence differs: a third of such pairs, sampled among real reports that state the same findings, hid
one that no list of findings has, such as a scoliosis or an earlier operation. Nor when a mark differs that may change
what is said ("Pneumothorax?", "(+)", "< 5 mm"), or what stands under a heading.
"""

import hashlib
import re
from typing import Final

from model.text import report_body, sentences

from ..known_texts import KnownTexts
from ..records import ReportRecord

__all__ = ["report_key"]

REPORTS_KNOWN: Final = 20_000  # that are not read again: the nearest reports of many queries are the same
_SAYS_NOTHING: Final = re.compile(r"""(?:[\s;:!*"'_]|[.,](?!\d))+""")  # 1.5 is not 15
_LIST_MARK: Final = re.compile(r"^(?:\d{1,2}[.)]|[-*•])\s+")
_STOPS: Final = (".", "!", "?")


_known: Final = KnownTexts[bytes](REPORTS_KNOWN)


def report_key(report: ReportRecord) -> bytes:
    """A hash of the sentences of a report: those of two reports that say the same are equal. Empty without words."""
    return _known.of((report.findings, report.impression, report.text), lambda: _hashed(_said(report)))


def _hashed(said: frozenset[str]) -> bytes:
    if not said:
        return b""
    digest = hashlib.sha256()
    for sentence in sorted(said):
        data = sentence.encode(errors="surrogatepass")
        digest.update(len(data).to_bytes(8) + data)
    return digest.digest()


def _said(report: ReportRecord) -> frozenset[str]:
    found, heading = [], ""
    for sentence in sentences(report_body(report.findings, report.impression, report.text)):
        said = f"{heading} {_LIST_MARK.sub('', sentence)}"
        stopped = sentence.endswith(_STOPS)
        heading = "" if stopped else said  # without a stop it is of what follows
        found += [said] if stopped else []
    bare = map(_bare, (*found, heading))
    return frozenset(said for said in bare if said)


def _bare(said: str) -> str:
    """Without what says nothing; empty where nothing is left."""
    bare = _SAYS_NOTHING.sub(" ", said).strip().casefold()
    return bare if any(map(str.isalnum, bare)) else ""
