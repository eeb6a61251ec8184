"""Structures that a report calls normal or enlarged: "heart size is normal", "the lungs are clear"."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .lexicon import LUNG_FINDINGS

__all__ = ["Described", "described"]

_STRUCTURES: Final = {
    "cardiomediastinum": r"cardio-? ?mediastinal (?:silhouettes?|contours?|structures?|borders?|margins?|shadow)"
    r"|cardiomediastinum",
    "heart": r"hearts?(?: size| silhouette| shadow| contours?)?|(?:cardiac|heart) borders|cardiothoracic ratio"
    r"|cardiac(?: and)?(?: silhouettes?| size| contours?| shadow)?",
    "mediastinum": r"mediastinum|mediastinal(?: and hilar)?(?: contours?| silhouette| structures?| borders?| width)?",
    "lungs": r"lungs?(?: fields?| parenchyma| bases)?|pulmonary parenchyma",
    "vessels": r"(?:pulmonary |central )?vascul(?:arity|ature)|pulmonary vessels|vascular markings",
    "pleura": r"pleural? (?:spaces?|surfaces?)|pleura",
    "angles": r"(?:costophrenic|cp) (?:angles?|sulc(?:us|i)|recess(?:es)?)",
    "bones": r"(?:osseous|bony|skeletal) (?:structures?|thorax|elements?|skeleton|abnormalit(?:y|ies))?"
    r"|bones?|bony thorax|skeleton|ribs|rib cage",
}
# What a normal one denies, and what an enlarged one asserts
_DENIED: Final[dict[str, tuple[str, ...]]] = {
    "heart": ("Cardiomegaly",),
    "mediastinum": ("Enlarged Cardiomediastinum",),
    "cardiomediastinum": ("Enlarged Cardiomediastinum", "Cardiomegaly"),
    "lungs": LUNG_FINDINGS,
    "vessels": ("Edema",),
    "pleura": ("Pleural Effusion", "Pneumothorax"),
    "angles": ("Pleural Effusion",),
    "bones": ("Fracture",),
}
_ASSERTED: Final = {
    "heart": "Cardiomegaly",
    "mediastinum": "Enlarged Cardiomediastinum",
    "cardiomediastinum": "Enlarged Cardiomediastinum",
}
_STRUCTURE: Final = re.compile("|".join(rf"(?P<{name}>\b(?:{words})\b)" for name, words in _STRUCTURES.items()))
_PROPERTY: Final = re.compile(
    r"(?P<normal>\b(?:normal|unremarkable|not remarkable|within (?:the )?(?:normal )?limits|limits of normal|clear"
    r"|intact|sharp|not enlarged|not widened|midline)\b)"
    r"|(?P<enlarged>\b(?:enlarged|enlargement|widened|widening|prominent|prominence|cardiomegaly|large|increased"
    r"|borderline)\b)"
    r"|(?P<neutral>\b(?:stable|unchanged|obscured|shifted|calcified|tortuous|suboptimal|similar)\b)"
)
_CLEAR_OF: Final = re.compile(r"\s*(?:of|from)\b")
_VERB: Final = re.compile(r"\b(?:is|are|was|were|has|have|appears?|remains?|seen|there|with|without|no)\b|[,;]")


@dataclass(frozen=True)
class Described:
    """findings: what the description denies or asserts. start, end: structure and property together."""

    findings: tuple[str, ...]
    denies: bool
    start: int
    end: int


def described(clause: str) -> Iterator[Described]:
    """What a clause, in lower case, says of its structures."""
    properties = list(_PROPERTY.finditer(clause))
    if not properties:
        return
    for found in _STRUCTURE.finditer(clause):
        said = _property_of(found, properties, clause)
        if said is None or said.lastgroup == "neutral":
            continue
        name = str(found.lastgroup)
        start, end = min(found.start(), said.start()), max(found.end(), said.end())
        if said.lastgroup == "normal":
            if _fits(name, said.group(), clause[:start], clause[start:end], clause[said.end() :]):
                yield Described(_DENIED[name], True, start, end)
        elif name in _ASSERTED:
            yield Described((_ASSERTED[name],), False, start, end)


def _property_of(structure: re.Match[str], properties: list[re.Match[str]], clause: str) -> re.Match[str] | None:
    """The adjective right before a structure, else the first said after it, else one before it without a verb
    between ("normal heart size and mediastinal contours")."""
    before = [said for said in properties if said.end() <= structure.start()]
    after = next((said for said in properties if said.start() >= structure.end()), None)
    if before:
        between = clause[before[-1].end() : structure.start()]
        if not _VERB.search(between) and len(between.split()) <= 3 and " and " not in between:
            return before[-1]
    if after is not None and after.lastgroup == "neutral":  # "stable and unremarkable"
        then = next((said for said in properties if said.start() >= after.end()), None)
        if then is not None and clause[after.end() : then.start()].strip() in ("and", ","):
            after = then
    if after is not None and _is_said_of(clause[structure.end() : after.start()], clause[after.end() :]):
        return after
    if before and not _VERB.search(clause[before[-1].end() : structure.start()].replace(",", "")):
        return before[-1]
    return None


def _is_said_of(between: str, rest: str) -> bool:
    """Not of a heading whose statement is about something else: "Heart: prominent aortic arch"."""
    if ":" not in between:
        return True
    return len(between.split(":")[-1].split()) <= 2 and not re.match(r"\s+(?!in |with |and )\w", rest)


def _fits(name: str, word: str, before: str, inside: str, rest: str) -> bool:
    """Whether the word, said of that structure, denies anything: clear lungs do, "otherwise clear" ones do not."""
    if re.search(r"\b(?:otherwise|not|remainder|remaining|rest|except|abnormal)\b", inside.replace(word, "")):
        return False
    if re.search(r"\b(?:otherwise|remainder of|rest of|not)\W*(?:the )?$", before):
        return False
    if name == "lungs":
        return (
            word in ("clear", "normal", "unremarkable") and not _CLEAR_OF.match(rest) and "volume" not in inside + rest
        )
    return not (word == "clear" and _CLEAR_OF.match(rest)) or name == "pleura"
