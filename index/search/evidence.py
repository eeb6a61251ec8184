"""Which sentences of a report speak for a query: those whose embeddings are nearest to it.

Axes: N sentences, D width.
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from model.text import sentence_spans

from ..records import ReportRecord

__all__ = ["Sentence", "best_sentences", "report_sentences"]

_WORD: Final = re.compile(r"[^\W\d_]{3}")


@dataclass(frozen=True)
class Sentence:
    """text: with single blanks. start, end: its characters in the whole text of the report; None where the text has it
    in other words or spaces, as a report that came in parts may."""

    text: str
    start: int | None
    end: int | None


def report_sentences(report: ReportRecord, most: int) -> tuple[Sentence, ...]:
    """The first ``most`` sentences of what is embedded of a report, findings then impression; repeated ones once."""
    bodies = [body for body in (report.findings, report.impression) if body and body.strip()] or [report.text]
    found: dict[str, Sentence] = {}
    for body in bodies:
        offset = report.text.find(body)
        for start, end in sentence_spans(body):
            text = " ".join(body[start:end].split())
            if text.casefold() in found or not _WORD.search(text):
                continue
            if len(found) == most:
                break
            place = offset + start if offset >= 0 else report.text.find(body[start:end])
            known = place >= 0
            found[text.casefold()] = Sentence(text, place if known else None, place + end - start if known else None)
    return tuple(found.values())


def best_sentences(query: np.ndarray, embeddings: np.ndarray, count: int) -> list[tuple[int, float]]:
    """(place, cosine) of the ``count`` nearest, best first, equal ones in reading order.

    query: (D,); embeddings: (N, D); rows of length 1.
    """
    scores = (embeddings @ query).tolist()
    best = sorted(range(len(scores)), key=lambda place: -scores[place])
    return [(place, scores[place]) for place in best[:count]]
