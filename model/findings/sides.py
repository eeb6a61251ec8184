"""The side of a finding, from the words around its name."""

import re
from typing import Final, Literal

__all__ = ["BILATERAL", "LEFT", "RIGHT", "Laterality", "joined", "side_of"]

Laterality = Literal["left", "right", "bilateral"]
LEFT: Final = "left"
RIGHT: Final = "right"
BILATERAL: Final = "bilateral"

_SIDE: Final = re.compile(
    r"\b(?:(?P<left>left|lingular?)|(?P<right>right)"
    r"|(?P<both>bilateral(?:ly)?|both|bibasilar|bibasal|biapical))\b"
    r"(?! (?:atri\w*|ventric\w*|heart|hemidiaphragm|cardiac|paratracheal stripe|internal jugular))"
)
_LINK: Final = re.compile(
    r",(?! (?:left|right|bilateral)\W*$)|\bwithout\b|\band\b|\bwith\b|\bor\b|\bwhich\b|\bversus\b"
)
_PLACE: Final = re.compile(r"\s*(?:in|at|on|within|over)\b[^,]*,")
_SAME: Final = re.compile(r"(?:left|right)(?:-sided)?\s*(?:and|,)\s*$|^\s*(?:and|,)\s*(?:left|right)")


def side_of(clause: str, start: int, end: int) -> Laterality | None:
    """The side that a clause, in lower case, gives the term at start..end; None where it gives none or several.

    The words of the term's own phrase decide; failing them the place that the clause begins with ("in the left base").
    """
    low, high = _phrase(clause, start, end)
    near = joined({_name(found) for found in _SIDE.finditer(clause, low, high)})
    if near is not None:
        return near
    place = _PLACE.match(clause)
    return joined({_name(found) for found in _SIDE.finditer(place.group())}) if place else None


def joined(sides: set[Laterality]) -> Laterality | None:
    """One side of several: left and right together are bilateral."""
    if not sides:
        return None
    return sides.copy().pop() if len(sides) == 1 else BILATERAL


def _phrase(clause: str, start: int, end: int) -> tuple[int, int]:
    """From the link before a term to the link after it; a link between two sides ("left and right") is none."""
    low, high = 0, len(clause)
    for link in _LINK.finditer(clause):
        around = clause[max(0, link.start() - 12) : link.end()], clause[link.start() : link.end() + 8]
        if _SAME.search(around[0]) and _SAME.search(around[1]):
            continue
        if link.end() <= start:
            low = link.end()
        elif link.start() >= end:
            high = link.start()
            break
    return low, high


def _name(found: re.Match[str]) -> Laterality:
    return LEFT if found["left"] else RIGHT if found["right"] else BILATERAL
