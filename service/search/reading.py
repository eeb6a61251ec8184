"""What the reports of a page's hits say: the sentences that speak for the query, and their findings together.

Axes: N sentences, D width.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from index import SearchHit
from index.known_texts import KnownTexts
from index.reports.language import ENGLISH
from index.search.evidence import best_sentences, report_sentences
from index.search.summary import summarise_findings
from model.findings import ReportFinding, report_findings

from ..inference import Inference
from ..schemas import Evidence, FindingCount, FindingLabel, FindingsSummary, Hit, Notice

__all__ = ["add_evidence", "add_labels"]

# What one answer may cost the text encoder: 10 hits of 12 sentences, less those that were encoded before.
HITS: Final = 10
SENTENCES_READ: Final = 12
SENTENCES_SHOWN: Final = 3
SENTENCES_KNOWN: Final = 20_000  # whose findings are not read again, as reports repeat them


def add_evidence(
    inference: Inference, query: np.ndarray, found: Sequence[SearchHit], hits: Sequence[Hit]
) -> list[Notice]:
    """Give the first ``HITS`` hits the sentences of their reports that are nearest to the query, float32 (D,).

    All sentences are encoded in one call, those that were met before not again. Where there are new ones and queries
    wait to be encoded, queries come first: the hits stay without, and the warning that is returned says so.
    """
    read = [report_sentences(hit.study.report, SENTENCES_READ) if hit.study.report else [] for hit in found[:HITS]]
    texts = [sentence.text for sentences in read for sentence in sentences]
    if not texts:
        return []
    embeddings = inference.spare_texts(texts)
    if embeddings is None:
        return [
            Notice(code="no-evidence", detail="Queries wait to be encoded: no sentences were compared with this one.")
        ]
    start = 0
    for one, hit, sentences in zip(found, hits, read, strict=False):
        english = one.study.report is not None and one.study.report.language == ENGLISH
        of_hit = embeddings[start : start + len(sentences)]
        start += len(sentences)
        for place, score in best_sentences(query, of_hit, SENTENCES_SHOWN):
            said = sentences[place]
            labels = list(_labels_of(said.text)) if english else []
            hit.evidence.append(Evidence(text=said.text, score=score, labels=labels, start=said.start, end=said.end))
    return []


def add_labels(found: Sequence[SearchHit], hits: Sequence[Hit]) -> FindingsSummary:
    """Give each hit the findings of its report, as they are stored; returns what they come to."""
    for one, hit in zip(found, hits, strict=True):
        hit.labels = _labels(one.labels or ())
    read = [one.labels for one in found if one.labels is not None]
    counts = summarise_findings(read)
    return FindingsSummary(reports_read=len(read), findings=[FindingCount(**vars(count)) for count in counts])


_known: Final = KnownTexts[tuple[FindingLabel, ...]](SENTENCES_KNOWN)


def _labels_of(sentence: str) -> tuple[FindingLabel, ...]:
    return _known.of((sentence,), lambda: tuple(_labels(report_findings([sentence])[1:])))  # the first is No Finding


def _labels(rows: Sequence[ReportFinding]) -> list[FindingLabel]:
    return list(map(_label, rows))


@lru_cache(1024)  # more than there are: an answer has a hundred, of a few kinds
def _label(row: ReportFinding) -> FindingLabel:
    return FindingLabel(**vars(row))
