"""HL7 v2 ORU^R01 (unsolicited observation) to reports: one for each order (OBR) of a message.

study          ZDS-1, IPC-3, or an OBX of DCM 113014; else the accession number of IPC-1, OBR-18 or OBR-3
patient        PID-3, of several the one of type MR, PI or PT
text           OBX-5 of types TX, FT and ST; the section from OBX-3: its suffix (IMP, GDT), code or words
version        OBR-25 (table 0123), else OBX-11 (0085); its time from OBR-22, else MSH-7
number         OBR-3 or ORC-3, counted by whom it names, else by the sender (MSH-3, MSH-4)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from model.errors import InputError

from ...dicom import Refusal
from ..language import primary_language
from ..texts import ReportText, checked, is_uid
from ..versions import CORRECTED, FINAL, PRELIMINARY
from .blocks import Block, compose, section_of_concept
from .hl7_text import Hl7Message, Segment, parse_message, split_messages
from .times import parse_timestamp, zone_of

__all__ = ["read_hl7", "reports_of_message"]

_WITHDRAWN: Final = "withdrawn"
_PENDING: Final = "pending"
_STATES: Final = {  # OBR-25, table 0123
    "F": FINAL,
    "C": CORRECTED,
    **dict.fromkeys("PRAM", PRELIMINARY),  # M: corrected, not final
    "X": _WITHDRAWN,
    **dict.fromkeys("OISNYZ", _PENDING),
}
_LINE_STATES: Final = {**_STATES, "U": FINAL, "D": _WITHDRAWN, "W": _WITHDRAWN}  # OBX-11, table 0085
_TEXT_TYPES: Final = ("TX", "FT", "ST")
_DOCUMENT_TYPES: Final = ("ED", "RP")
_SUFFIXES: Final = {"IMP": "impression", "REC": "", "GDT": None}  # HL7 2.5.1 chapter 7.2.5
_STUDY_UID: Final = ("113014", "110180")  # DCM: DICOM Study, Study Instance UID
_PATIENT_ID_TYPES: Final = ("MR", "PI", "PT")


def read_hl7(data: bytes, source: str) -> Iterator[ReportText]:
    """The reports of a file of messages. A message that cannot be used is a refused report."""
    for number, message in enumerate(split_messages(data), start=1):
        place = f"{source}#{number}"
        try:
            yield from reports_of_message(parse_message(message), place)
        except InputError as error:
            yield ReportText(place, refusal=Refusal(error.slug, error.message))


def reports_of_message(message: Hl7Message, source: str) -> list[ReportText]:
    """The reports of one message. Raises InputError: wrong-message-type, no-report."""
    if message.type != "ORU":
        found = message.type[:20] or "none"
        raise InputError(f"Expected a message of type ORU, found {found!r}.", "wrong-message-type")
    orders = _orders(message)
    if not orders:
        raise InputError("The message has no order (OBR), so no report.", "no-report")
    several = len(orders) > 1
    return [_report(order, message, f"{source}.{n}" if several else source) for n, order in enumerate(orders, start=1)]


@dataclass
class _Order:
    """An OBR and what belongs to it."""

    request: Segment
    common: Segment | None
    patient: Segment | None
    observations: list[Segment] = field(default_factory=list)
    studies: list[Segment] = field(default_factory=list)  # ZDS, IPC

    @property
    def number(self) -> tuple[str, str]:
        """The filler order number, and whose numbers those are."""
        for segment, place in ((self.request, 3), (self.common, 3)):
            if segment and (number := segment.text(place)):
                return number, "^".join(filter(None, (segment.text(place, part) for part in (2, 3, 4))))
        return "", ""


def _orders(message: Hl7Message) -> list[_Order]:
    orders: dict[object, _Order] = {}
    patient = common = order = None
    for position, segment in enumerate(message.segments):
        if segment.name == "PID":
            patient, common, order = segment, None, None
        elif segment.name == "ORC":
            common, order = segment, None
        elif segment.name == "OBR":
            order = _Order(segment, common, patient)
            # Of one number: several procedures of one patient that were reported together.
            order = orders.setdefault((_patient_id(patient), order.number) if order.number[0] else position, order)
            common = None
        elif order and segment.name == "OBX":
            order.observations.append(segment)
        elif order and segment.name in ("ZDS", "IPC"):
            order.studies.append(segment)
    return list(orders.values())


def _report(order: _Order, message: Hl7Message, source: str) -> ReportText:
    header, request = message.header, order.request
    number, counted_by = order.number
    sender = "^".join((header.text(3), header.text(4)))
    state = _state(order)
    sent = header.text(7)
    about = ReportText(
        source,
        study_instance_uid=_study_uid(order),
        accession_number=_accession_number(order) or None,
        patient_id=_patient_id(order.patient),
        numbering=f"hl7 {counted_by or sender}" if number else None,
        number=number or None,
        stage=PRELIMINARY if state == _PENDING else state if state != _WITHDRAWN else None,
        issued_at=parse_timestamp(request.text(22), zone_of(sent)) or parse_timestamp(sent),
        withdrawn=state == _WITHDRAWN,
        language=primary_language(header.text(19)),  # HL7 v2.5 2.14.9.19, principal language of message
    )
    if about.withdrawn:
        return checked(about)
    lines = [line for line in order.observations if _LINE_STATES.get(line.text(11)) != _WITHDRAWN]
    report = compose([block for line in lines if (block := _block(line))], about)
    if report.refusal is None or report.refusal.slug != "empty-report":
        return report
    if any(line.text(2) in _DOCUMENT_TYPES for line in lines):
        why = "The report is a document such as a PDF, which is not read. Have it sent as text (TX, FT)."
        return _refused(report, "encapsulated-document", why)
    if state == _PENDING:
        return _refused(report, "no-report-yet", f"OBR-25 is {request.text(25)}: there is no result yet.")
    return report


def _state(order: _Order) -> str | None:
    """final, corrected, preliminary, withdrawn, pending; None where the sender says nothing that table 0123 knows."""
    if given := _STATES.get(order.request.text(25)):
        return given
    states = {_LINE_STATES.get(line.text(11)) for line in order.observations if line.text(2) in _TEXT_TYPES}
    if states == {_WITHDRAWN}:
        return _WITHDRAWN
    # One preliminary line leaves the report preliminary, one corrected line corrects it.
    return next((state for state in (PRELIMINARY, CORRECTED, FINAL) if state in states), None)


def _block(line: Segment) -> Block | None:
    if line.text(2) not in _TEXT_TYPES or _is_study_uid(line):
        return None
    text = "\n".join(line.repetitions(5))
    heading = line.text(3, 2) or line.text(3)
    suffix = line.text(3, 1, 2).upper()
    if suffix in _SUFFIXES:
        return Block(text, _SUFFIXES[suffix], "Recommendation")
    # A name that is no heading, such as the procedure's, stands over text that says itself what it is.
    return Block(text, section_of_concept(line.text(3), heading), heading)


def _study_uid(order: _Order) -> str | None:
    found = [segment.text(1 if segment.name == "ZDS" else 3) for segment in order.studies]
    found += [line.text(5) for line in order.observations if _is_study_uid(line)]
    return next(filter(is_uid, found), None)


def _is_study_uid(line: Segment) -> bool:
    return line.text(3) in _STUDY_UID


def _accession_number(order: _Order) -> str:
    found = [segment.text(1) for segment in order.studies if segment.name == "IPC"]
    return next(filter(None, [*found, order.request.text(18), order.number[0]]), "")


def _patient_id(patient: Segment | None) -> str | None:
    """PID-3 repeats for every numbering of patients; PatientID in DICOM is the medical record number."""
    if patient is None:
        return None
    count = range(1, len(patient.repetitions(3)) + 1)
    named = {patient.text(3, 5, repetition=n): patient.text(3, repetition=n) for n in reversed(count)}
    chosen = next((named[kind] for kind in _PATIENT_ID_TYPES if named.get(kind)), None)
    return chosen or next(filter(None, (patient.text(3, repetition=n) for n in count)), None)


def _refused(report: ReportText, slug: str, message: str) -> ReportText:
    return replace(report, refusal=Refusal(slug, message))
