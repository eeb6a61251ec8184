"""What the sender of an HL7 message is told: AA once its reports are committed, AE with the reason, or AR.

The message itself is not kept. It names the patient, whom the archive knows by a pseudonym only; what is refused stands
in the list of refused reports, under the message's control ID.
"""

import logging
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from model.errors import InputError

from ..catalog import Catalog
from ..dicom import clean
from ..reports.readers import Hl7Message, parse_message, reports_of_message, split_messages
from ..reports.sent import ReportOutcome, take_reports

__all__ = ["acknowledge", "answer_message"]

logger = logging.getLogger(__name__)

# HL7 table 0357, message error conditions
UNREADABLE: Final = "100^Segment sequence error^HL70357"
REQUIRED: Final = "101^Required field missing^HL70357"
UNSUPPORTED: Final = "200^Unsupported message type^HL70357"
INTERNAL: Final = "207^Application internal error^HL70357"

MAX_NAMES: Final = 100  # characters of a sender's name in the source of a report


@dataclass(frozen=True)
class _Answer:
    """code: AA, AE or AR (table 0008). condition: of table 0357."""

    code: str
    text: str = ""
    condition: str = ""


def answer_message(catalog: Catalog, data: bytes) -> bytes:
    """Take in the reports of one message and return the acknowledgement. Raises nothing."""
    try:
        found = _take(catalog, data)
    except Exception as error:  # the sender keeps its message and sends it again
        logger.error("an HL7 message could not be stored: %s", type(error).__name__)
        found = _Answer("AE", "The archive cannot store the message now. Send it again later.", INTERNAL)
    return acknowledge(data, found.code, found.text, found.condition)


def acknowledge(data: bytes, code: str, text: str = "", condition: str = "") -> bytes:
    """An acknowledgement (ACK) of a message, which may be no more than its beginning, or no message at all.

    What it repeats of the header is repeated as it came, so that it needs no character set.
    """
    header = data.partition(b"\r")[0].partition(b"\n")[0]
    separator = header[3:4] if header.startswith(b"MSH") and len(header) > 8 else b"|"
    given = header.split(separator) if header.startswith(b"MSH") else []
    encoding = given[1] if len(given) > 1 and len(given[1]) >= 4 else b"^~\\&"
    component, escape = encoding[0:1], encoding[2:3]

    def field(number: int, absent: bytes = b"") -> bytes:
        """Of the message's header, MSH-1 being the separator."""
        return given[number - 1] if number <= len(given) and given[number - 1] else absent

    def said(words: str) -> bytes:
        safe = words.encode("ascii", "replace").replace(escape, b"/")
        for place, name in ((separator, b"F"), (component, b"S"), (encoding[1:2], b"R"), (encoding[3:4], b"T")):
            safe = safe.replace(place, escape + name + escape)
        return re.sub(rb"[\x00-\x1f]+", b" ", safe)

    def segment(*fields: bytes) -> bytes:
        return separator.join(fields).rstrip(separator) + b"\r"

    now = datetime.now(UTC).strftime("%Y%m%d%H%M%S+0000").encode()
    kind = component.join((b"ACK", b"R01", b"ACK"))
    answer = segment(
        *(b"MSH", encoding, field(5), field(6), field(3), field(4), now, b"", kind, uuid.uuid4().hex[:20].encode()),
        *(field(11, b"P"), field(12, b"2.5.1"), b"", b"", b"", b"", b"", field(18)),
    )
    answer += segment(b"MSA", code.encode(), field(10), said(text))
    if code != "AA":
        parts = component.join(said(part) for part in (condition or INTERNAL).split("^"))
        answer += segment(b"ERR", b"", b"", parts, b"E", b"", b"", b"", said(text))
    return answer


def _take(catalog: Catalog, data: bytes) -> _Answer:
    messages = list(split_messages(data))
    if len(messages) != 1:
        return _Answer("AR", f"Expected one message, found {len(messages)}.", UNREADABLE)
    try:
        message = parse_message(messages[0])
        reports = reports_of_message(message, _source(message))
    except InputError as error:
        if error.slug == "no-report":
            return _Answer("AE", error.message, REQUIRED)
        return _Answer("AR", error.message, UNSUPPORTED if error.slug == "wrong-message-type" else UNREADABLE)
    outcomes = take_reports(catalog, reports)
    logger.info("message %s: %s", message.control_id[:MAX_NAMES], ", ".join(outcome.status for outcome in outcomes))
    return _judged(outcomes)


def _judged(outcomes: Sequence[ReportOutcome]) -> _Answer:
    refused = [outcome for outcome in outcomes if outcome.refused]
    if not refused:
        return _Answer("AA", "; ".join(filter(None, (outcome.detail for outcome in outcomes))))
    reasons = "; ".join(f"{outcome.reason}: {outcome.detail}" for outcome in refused)
    some = "" if len(outcomes) == 1 else f"{len(refused)} of {len(outcomes)} reports are refused, the others taken. "
    return _Answer("AE", some + reasons, REQUIRED)


def _source(message: Hl7Message) -> str:
    names = (message.header.text(3), message.header.text(4), message.control_id)
    return " ".join(("hl7", *(clean(name)[:MAX_NAMES] for name in names if name)))
