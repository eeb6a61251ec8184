"""Free-text radiology reports to their sections."""

import re
from itertools import zip_longest
from typing import Final

__all__ = ["SECTIONS", "last_paragraphs", "parse_sections", "section_of"]

SECTIONS: Final = ("indication", "comparison", "findings", "impression")

_TITLE: Final = "FINAL REPORT"  # of the whole, not of its first paragraph
_HEADINGS: Final = {
    "indication": (
        "INDICATIONS?",
        "CLINICAL HISTORY",
        "CLINICAL INFORMATION",
        "CLINICAL INDICATIONS?",
        "HISTORY",
        "REASON FOR (?:THE )?(?:EXAM(?:INATION)?|STUDY)",
    ),
    "comparison": ("COMPARISONS?", "COMPARISON STUDY"),
    "findings": ("FINDINGS?",),
    "impression": (
        "IMPRESSIONS?",
        "CONCLUSIONS?",
        "FINDINGS? ?(?:AND|&|/) ?IMPRESSIONS?",
        "IMPRESSIONS? ?(?:AND|&|/) ?FINDINGS?",
    ),
    "": (
        "TECHNIQUE",
        "EXAMINATION",
        "EXAM",
        "PROCEDURE",
        r"RECOMMENDATION(?:S|\(S\))?",
        "NOTIFICATIONS?",  # to whom it was said, and when
        "WET READ",
        "ADDENDUM",
        _TITLE,
    ),
}
_SECTION_OF: Final = {name: section for section, names in _HEADINGS.items() for name in names}
_ANY: Final = "|".join(sorted(_SECTION_OF, key=len, reverse=True))
# A heading starts a line in any case, or stands inside one in capitals; "Findings:" within a sentence does not count.
# Without its colon it is one in capitals with a line for itself.
_HEADING: Final = re.compile(rf"(?:^[ \t]*(?i:({_ANY}))[ \t]*:|(?<=\s)({_ANY}):|^[ \t]*({_ANY})[ \t]*$)", re.MULTILINE)
_PARAGRAPHS: Final = re.compile(r"\n[ \t]*\n\s*")


def parse_sections(text: str) -> dict[str, str]:
    """The sections a report's headings mark: any of indication, comparison, findings, impression; {} without headings.

    A heading that comes twice (an addendum) adds to its section.
    """
    found: dict[str, str] = {}
    for words, body in _headed(text):
        section = section_of(words)
        if section and body:
            found[section] = f"{found[section]}\n{body}" if section in found else body
    return found


def section_of(heading: str) -> str | None:
    """The section that a heading names; "" for a heading of something else, None for words that are none."""
    words = heading.strip().rstrip(":").upper()
    return next((name for pattern, name in _SECTION_OF.items() if re.fullmatch(pattern, words)), None)


def last_paragraphs(text: str) -> str:
    """What follows the last heading that has more than its own paragraph: what was seen, where no heading says it.
    Empty without."""
    for words, body in reversed(_headed(text)):
        paragraphs = _PARAGRAPHS.split(body)
        if said := paragraphs if words == _TITLE else paragraphs[1:]:
            return "\n\n".join(said)
    return ""


def _headed(text: str) -> list[tuple[str, str]]:
    """(heading in capitals, what follows it up to the next)."""
    marks = list(_HEADING.finditer(text))
    return [
        (next(filter(None, mark.groups())).upper(), text[mark.end() : following.start() if following else None].strip())
        for mark, following in zip_longest(marks, marks[1:])
    ]
