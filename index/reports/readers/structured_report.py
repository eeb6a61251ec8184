"""DICOM structured reports (PS3.3 A.35, C.17.3) to text: the content tree, read as a page would show it.

    study          the one study of Current Requested Procedure Evidence, else the object's own
    text           TEXT, CODE and NUM items that the document contains, under the headings of their containers
    version        Completion, Verification and Preliminary Flag, Predecessor Documents; time of the content

Observers, persons and what an item was inferred from are left out.
"""

import warnings
from collections.abc import Iterator
from typing import Any, Final

from pydicom import Dataset
from pydicom.uid import BasicTextSRStorage, Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from ...dicom import Refusal, clean, describe_dicom
from ..language import primary_language
from ..texts import ReportText
from ..versions import CORRECTED, FINAL, PRELIMINARY
from .blocks import Block, compose, section_of_concept
from .times import parse_timestamp

__all__ = ["is_structured_report", "report_of_dataset"]

MAX_DEPTH: Final = 32  # of the content tree
MAX_ITEMS: Final = 20_000

# Documents that people wrote; not measurements of detectors, doses or computer-aided detection.
_CLASSES: Final = (BasicTextSRStorage, EnhancedSRStorage, ComprehensiveSRStorage, Comprehensive3DSRStorage)
_RELATIONS: Final = ("CONTAINS", "HAS PROPERTIES", "")  # PS3.3 C.17.3.2.4: the others say of whom, by whom, from what
# Containers and items named for what they are, not for what they tell
_NO_HEADINGS: Final = ("REPORT TEXT", "REPORT", "TEXT", "SECTION HEADING", "DOCUMENT TITLE", "NARRATIVE SUMMARY")


def is_structured_report(dataset: Dataset) -> bool:
    """Whether an object is a report as text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(dataset.get("SOPClassUID", "")) in _CLASSES
    except Exception:  # pydicom raises many kinds on broken values
        return False


def report_of_dataset(dataset: Dataset, source: str) -> ReportText:
    """The report in a structured report object, refused where it has no text. Raises nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that break the rules of their kind
        return _report(dataset, source)


def _report(dataset: Dataset, source: str) -> ReportText:
    facts = describe_dicom(dataset)
    try:
        written = _words(dataset, "ContentDate") + _words(dataset, "ContentTime")
        about = ReportText(
            source,
            study_instance_uid=_study_uid(dataset) or facts.study_instance_uid,
            accession_number=facts.accession_number,
            patient_id=facts.patient_id,
            stage=_stage(dataset),
            issued_at=parse_timestamp(written, _words(dataset, "TimezoneOffsetFromUTC")),
            language=_language(dataset),
        )
        return compose(list(_blocks(dataset)), about)
    except Exception as error:  # pydicom raises many kinds on broken values
        why = Refusal("bad-structured-report", f"The content tree cannot be read ({type(error).__name__}).")
        return ReportText(source, patient_id=facts.patient_id, refusal=why)


def _blocks(document: Dataset) -> Iterator[Block]:
    title = section_of_concept(*_concept(document, "ConceptNameCodeSequence"))
    waiting: list[tuple[Dataset, str | None, str, int]] = [(document, title or None, "", 0)]
    read = 0
    while waiting:
        item, section, heading, depth = waiting.pop()
        read += 1
        if read > MAX_ITEMS or depth > MAX_DEPTH:
            raise ValueError("the content tree is too large")
        if depth:
            code, meaning = _concept(item, "ConceptNameCodeSequence")
            found = section_of_concept(code, meaning)
            kind = _words(item, "ValueType")
            if found is not None:
                section, heading = found, meaning
            elif kind == "CONTAINER" and meaning and meaning.upper() not in _NO_HEADINGS:
                section, heading = section or "", meaning
            if text := _value(item, kind, meaning):
                yield Block(text, section, heading)
        children = [
            child for child in _items(item, "ContentSequence") if _words(child, "RelationshipType") in _RELATIONS
        ]
        waiting += [(child, section, heading, depth + 1) for child in reversed(children)]


def _value(item: Dataset, kind: str, meaning: str) -> str:
    if kind == "TEXT":
        return _words(item, "TextValue")
    if kind == "CODE":
        return _concept(item, "ConceptCodeSequence")[1]
    if kind == "NUM":
        for measured in _items(item, "MeasuredValueSequence"):
            unit = _concept(measured, "MeasurementUnitsCodeSequence")[1]
            return f"{meaning}: {_words(measured, 'NumericValue')} {unit}".strip()
    return ""


def _language(dataset: Dataset) -> str | None:
    """PS3.16 TID 1204: the language of the content item and its descendants, here of the whole document."""
    for item in _items(dataset, "ContentSequence"):
        if _concept(item, "ConceptNameCodeSequence")[0] == "121049":
            return primary_language(_concept(item, "ConceptCodeSequence")[0])
    return None


def _stage(dataset: Dataset) -> str:
    flag = _words(dataset, "PreliminaryFlag")  # PS3.3 C.17.2; newer than the other two, and plainer
    verified = _words(dataset, "VerificationFlag") == "VERIFIED"
    if flag == "PRELIMINARY" or _words(dataset, "CompletionFlag") == "PARTIAL" or not (flag or verified):
        return PRELIMINARY
    return CORRECTED if _items(dataset, "PredecessorDocumentsSequence") else FINAL


def _study_uid(dataset: Dataset) -> str | None:
    evidence = _items(dataset, "CurrentRequestedProcedureEvidenceSequence")
    studies = {_words(study, "StudyInstanceUID") for study in evidence}
    own = _words(dataset, "StudyInstanceUID")
    return studies.pop() if len(studies) == 1 and own not in studies else own


def _concept(item: Dataset, keyword: str) -> tuple[str, str]:
    """(code value, meaning) of a coded entry; empty where there is none."""
    for code in _items(item, keyword):
        return _words(code, "CodeValue") or _words(code, "LongCodeValue"), _words(code, "CodeMeaning")
    return "", ""


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    return [item for item in dataset.get(keyword) or () if isinstance(item, Dataset)]


def _words(dataset: Dataset, keyword: str) -> str:
    value: Any = dataset.get(keyword)
    return "" if value is None else clean(str(value))
