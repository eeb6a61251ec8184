"""The parts of a structured report to one ``ReportText``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from model.report_sections import SECTIONS, parse_sections, section_of

from ...dicom import clean
from ..texts import ReportText, checked, has_words

__all__ = ["Block", "compose", "section_of_concept"]

# LOINC, and PS3.16 CID 7001 (report headings) with the concepts of single elements that they hold
_SECTION_OF_CODE: Final = {
    **dict.fromkeys(("59776-5", "121070", "121071"), "findings"),
    **dict.fromkeys(("19005-8", "121072", "121073", "121076", "121077", "121111"), "impression"),
    **dict.fromkeys(("18785-6", "11329-0", "55752-0", "121060", "121109", "111401", "122139"), "indication"),
    **dict.fromkeys(("18834-2", "121068", "121069", "111424", "121066"), "comparison"),
    **dict.fromkeys(("55111-9", "18783-1", "121064", "121065", "121074", "121075"), ""),
}


@dataclass(frozen=True)
class Block:
    """A part of a report. section: one of ``SECTIONS``; "" for another part under its ``heading``, such as the
    technique; None for text that says itself which sections it has."""

    text: str
    section: str | None = None
    heading: str = ""


def section_of_concept(code: str, meaning: str) -> str | None:
    """The section of a coded heading: by its code, else by its words. See ``Block.section``."""
    found = _SECTION_OF_CODE.get(code.strip())
    return section_of(meaning) if found is None else found


def compose(blocks: Sequence[Block], about: ReportText) -> ReportText:
    """``about`` with the text of the blocks and the sections that they are or have, checked."""
    blocks = [replace(block, text=clean(block.text)) for block in blocks if has_words(block.text)]
    marked: dict[str, list[str]] = {}
    free = "\n".join(block.text for block in blocks if block.section is None)
    for block in blocks:
        if block.section:
            marked.setdefault(block.section, []).append(block.text)
    sections = parse_sections(free)
    if free and not sections and "impression" in marked and "findings" not in marked:
        sections = {"findings": free}  # a report's text beside its impression
    sections |= {name: "\n".join(texts) for name, texts in marked.items()}
    indication, comparison, findings, impression = (sections.get(name) for name in SECTIONS)
    return checked(
        replace(
            about,
            text="\n".join(_lines(blocks)),
            indication=indication,
            comparison=comparison,
            findings=findings,
            impression=impression,
        )
    )


def _lines(blocks: Sequence[Block]) -> list[str]:
    """The text as a reader would see it: a heading once, before the first of the blocks that it stands over."""
    lines = []
    before = ""
    for block in blocks:
        heading = (block.section or clean(block.heading)).upper() if block.section is not None else ""
        lines.append(f"{heading}: {block.text}" if heading and heading != before else block.text)
        before = heading
    return lines
