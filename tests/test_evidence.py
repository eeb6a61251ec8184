"""The sentences of a report that speak for a query."""

import numpy as np

from index import ReportRecord
from index.search.evidence import Sentence, best_sentences, report_sentences
from tests.fakes import FakeEncoder

TEXT = (
    "INDICATION: Cough. No effusion?\n\nFINDINGS: The heart is enlarged.  There is a small\nright effusion.\n\n"
    "IMPRESSION: 1. Small right effusion. 2. The heart is enlarged."
)
REPORT = ReportRecord(
    TEXT,
    findings="The heart is enlarged.  There is a small\nright effusion.",
    impression="1. Small right effusion. 2. The heart is enlarged.",
)


def test_sentences_are_those_of_findings_and_impression_where_they_stand_in_the_text() -> None:
    found = report_sentences(REPORT, 20)
    assert [sentence.text for sentence in found] == [
        "The heart is enlarged.",
        "There is a small right effusion.",
        "1. Small right effusion.",
        "2. The heart is enlarged.",
    ]
    for sentence in found:
        assert " ".join(TEXT[sentence.start : sentence.end].split()) == sentence.text


def test_a_report_without_sections_is_read_whole() -> None:
    assert [sentence.text for sentence in report_sentences(ReportRecord("Clear lungs. No effusion."), 20)] == [
        "Clear lungs.",
        "No effusion.",
    ]


def test_repeated_and_wordless_sentences_are_left_out_and_the_first_kept() -> None:
    found = report_sentences(ReportRecord("Clear lungs. CLEAR LUNGS. 1. 12/3. Edema. Effusion."), 2)
    assert [sentence.text for sentence in found] == ["Clear lungs.", "Edema."]


def test_a_section_in_other_spaces_than_the_text_has_no_place_in_it() -> None:
    report = ReportRecord("FINDINGS: Clear\tlungs. No effusion.", findings="Clear lungs. No effusion.")
    assert list(report_sentences(report, 20)) == [
        Sentence("Clear lungs.", None, None),
        Sentence("No effusion.", 23, 35),
    ]


def test_the_best_are_the_nearest_in_order() -> None:
    encoder = FakeEncoder()
    texts = ["The heart is enlarged.", "small right effusion", "right effusion", "right effusion"]
    query = encoder.encode_texts(["small right effusion"])[0]
    best = best_sentences(query, encoder.encode_texts(texts), 3)
    assert [place for place, _ in best] == [1, 2, 3]
    assert np.isclose(best[0][1], 1, atol=1e-5)
    assert best[1][1] == best[2][1]
