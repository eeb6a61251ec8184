"""A report to the findings it mentions, sentence by sentence, and to what it says of each as a whole."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ..text import sentence_spans
from .assertion import ABSENT, PRESENT, UNCERTAIN, Assertion, assertion_of, clauses, masked
from .lexicon import FINDINGS, NO_FINDING, NOT_MEANT, OTHER, SIGNS, TERMS
from .sides import Laterality, joined, side_of
from .structures import described

__all__ = ["Mention", "ReportFinding", "find_mentions", "report_findings"]

_SIDELESS: Final = frozenset(("Cardiomegaly", "Enlarged Cardiomediastinum", NO_FINDING, OTHER))
_STRENGTH: Final = (PRESENT, UNCERTAIN, ABSENT)
_NORMAL_CHEST: Final = re.compile(
    r"\b(?:(?:normal|unremarkable|negative|clear) (?:portable |frontal |two[- ]view |pa and lateral )?"
    r"(?:chest|study|exam(?:ination)?|radiographs?)(?: of the chest)?"
    r"|chest (?:is )?within normal limits|no (?:radiographic )?abnormalit(?:y|ies)"
    r"|(?:no|nothing|without|negative for) (?:\w+ ){0,3}?(?:acute|active) (?:\w+[ /-]){0,3}"
    r"(?:disease|abnormalit(?:y|ies)|process(?:es)?|findings?|patholog(?:y|ies)|changes|chest|thorax)"
    r"|nothing acute)\b"
)
LONGEST: Final = 2_000  # characters: a longer clause is no sentence, and reading it takes the square of its length
_COLON: Final = re.compile(r"\s*:\s*")


@dataclass(frozen=True)
class Mention:
    """One naming of a finding. start, end: its sentence in the text given."""

    finding: str
    assertion: Assertion
    laterality: Laterality | None
    start: int
    end: int


@dataclass(frozen=True)
class ReportFinding:
    """What a report says of a finding as a whole."""

    finding: str
    assertion: Assertion
    laterality: Laterality | None = None


def find_mentions(text: str) -> list[Mention]:
    """Every finding that an English text names, asserted, denied or suspected, in reading order.

    The findings are those of ``FINDINGS`` and ``OTHER``; No Finding only where a text calls the chest normal.
    Texts in another language must not be given: their words would be read as if they were English.
    """
    return [
        Mention(finding, assertion, side, start, end)
        for start, end in sentence_spans(text)
        for finding, assertion, side in _of_sentence(_plain(text[start:end]))
    ]


def report_findings(texts: Iterable[str]) -> list[ReportFinding]:
    """What the parts of one English report, such as findings and impression, say together.

    One row a finding: present where it is asserted anywhere, else uncertain where it is suspected, else absent; the
    side is that of the mentions that decide. No Finding stands first: present where nothing but support devices is
    present or uncertain and something is called normal or is denied, absent where something abnormal is named. No row
    at all where the report says nothing that is understood.
    """
    said: dict[str, dict[Assertion, set[Laterality]]] = defaultdict(lambda: defaultdict(set))
    for text in texts:
        for mention in find_mentions(text):
            said[mention.finding][mention.assertion].update(filter(None, [mention.laterality]))
    decided = {
        finding: next((assertion, joined(found[assertion])) for assertion in _STRENGTH if assertion in found)
        for finding, found in said.items()
    }
    rows = [ReportFinding(name, *decided[name]) for name in FINDINGS if name in decided and name != NO_FINDING]
    if not decided:
        return []
    abnormal = any(
        assertion != ABSENT for name, (assertion, _) in decided.items() if name not in (NO_FINDING, "Support Devices")
    )
    return [ReportFinding(NO_FINDING, ABSENT if abnormal else PRESENT), *rows]


def _plain(sentence: str) -> str:
    """Lower case with single blanks for line breaks within a statement, and straight apostrophes."""
    return re.sub(r"\n(?=[ \t]*[a-z])", " ", sentence).lower().replace("\t", " ").replace("\u2019", "'")


def _of_sentence(sentence: str) -> Iterator[tuple[str, Assertion, Laterality | None]]:
    for low, high in clauses(sentence):
        if high - low > LONGEST:
            continue
        clause = masked(sentence[low:high])
        for finding, start, end, sign in _terms(clause):
            if _is_heading(finding, clause, start, end):
                continue
            assertion = assertion_of(clause, start, end)
            if assertion is None:
                continue
            if sign and assertion == PRESENT:
                assertion = UNCERTAIN
            yield finding, assertion, None if finding in _SIDELESS else side_of(clause, start, end)
        for what in described(clause):
            if what.denies:
                for finding in what.findings:
                    yield finding, ABSENT, None if finding in _SIDELESS else side_of(clause, what.start, what.end)
            elif (assertion := assertion_of(clause, what.start, what.end)) is not None:
                if assertion == PRESENT and "borderline" in clause[what.start : what.end]:
                    assertion = UNCERTAIN
                yield what.findings[0], assertion, None
        if _NORMAL_CHEST.search(clause):
            yield NO_FINDING, PRESENT, None


def _is_heading(finding: str, clause: str, start: int, end: int) -> bool:
    """Whether a term only says what comes next ("Lines and tubes: no lines or tubes"); one that is answered ("Pleural
    effusion: none", "Pneumothorax: small left") is a statement."""
    rest = _COLON.match(clause, end)
    if rest is None or clause[:start].strip(" 0123456789.)-"):
        return False
    if TERMS[finding].search(clause, rest.end()):
        return True
    return finding == "Support Devices" and not re.match(r"(?:none|no|absent|negative)\b\W*$", clause[rest.end() :])


def _terms(clause: str) -> Iterator[tuple[str, int, int, bool]]:
    """(finding, start, end, whether only a sign of it) of every term."""
    meant = NOT_MEANT.sub(lambda found: " " * len(found.group()), clause)
    for table, sign in ((TERMS, False), (SIGNS, True)):
        for finding, pattern in table.items():
            for found in pattern.finditer(clause if finding == OTHER else meant):
                yield finding, found.start(), found.end(), sign
