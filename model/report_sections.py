"""Free-text radiology reports to their sections."""

import re
from itertools import zip_longest
from typing import Final

__all__ = ["SECTIONS", "parse_sections"]

SECTIONS: Final = ("indication", "comparison", "findings", "impression")

_HEADINGS: Final = {
    "indication": (
        "INDICATIONS?",
        "CLINICAL HISTORY",
        "CLINICAL INFORMATION",
        "HISTORY",
        "REASON FOR EXAM(?:INATION)?",
    ),
    "comparison": ("COMPARISONS?", "COMPARISON STUDY"),
    "findings": ("FINDINGS?",),
    "impression": ("IMPRESSIONS?", "CONCLUSIONS?"),
    "": ("TECHNIQUE", "EXAMINATION", "EXAM", "PROCEDURE", "RECOMMENDATIONS?", "ADDENDUM", "FINAL REPORT"),
}
_SECTION_OF: Final = {name: section for section, names in _HEADINGS.items() for name in names}
_ANY: Final = "|".join(sorted(_SECTION_OF, key=len, reverse=True))
# A heading starts a line in any case, or stands inside one in capitals; "Findings:" within a sentence does not count.
_HEADING: Final = re.compile(rf"(?:^[ \t]*(?i:({_ANY}))[ \t]*:|(?<=\s)({_ANY}):)", re.MULTILINE)


def parse_sections(text: str) -> dict[str, str]:
    """The sections a report's headings mark: any of indication, comparison, findings, impression; {} without headings.

    A heading that comes twice (an addendum) adds to its section.
    """
    found: dict[str, str] = {}
    marks = list(_HEADING.finditer(text))
    for mark, following in zip_longest(marks, marks[1:]):
        words = (mark.group(1) or mark.group(2)).upper()
        section = next(name for pattern, name in _SECTION_OF.items() if re.fullmatch(pattern, words))
        body = text[mark.end() : following.start() if following else len(text)].strip()
        if section and body:
            found[section] = f"{found[section]}\n{body}" if section in found else body
    return found
