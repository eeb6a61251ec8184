"""HL7 version 2 as it comes: bytes to messages, and the text inside a field.

The ``hl7`` library takes a message apart. Framing and escape sequences are read here: files mix what the standard keeps
apart, and the library repeats a character as often as an escape sequence tells it to.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import hl7

from model.errors import InputError

from ...dicom import clean
from ..texts import decoded

__all__ = ["ENVELOPE", "Hl7Message", "Segment", "parse_message", "split_messages"]

ENVELOPE: Final = (b"FHS", b"BHS", b"BTS", b"FTS")  # HL7 2.5.1 chapter 2.10.3: batches of messages
_FRAMING: Final = bytes.maketrans(b"\x0b\x1c", b"\r\r")  # MLLP's marks around a message
_SEGMENT: Final = re.compile(rb"[A-Z][A-Z0-9]{2}(?:[^A-Za-z0-9\s]|$)")
_MAX_BLANK_LINES: Final = 2
_MAX_VALUES: Final = 300_000  # segments, fields and their parts: each is an object of the library, empty ones too

# HL7 table 0211
_CODECS: Final = {
    "": None,
    "ASCII": None,
    **{f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "GB 18030-2000": "gb18030",
    "BIG-5": "big5",
    "KS X 1001": "euc-kr",
}


class Segment:
    """A segment whose fields are read by the standard's numbers, as far as they are there."""

    def __init__(self, fields: Any, message: "Hl7Message") -> None:
        self._fields = fields
        self._message = message
        self.name = str(fields[0]).strip()

    def text(self, field: int, component: int = 1, subcomponent: int = 1, repetition: int = 1) -> str:
        """One value, unescaped; "" where there is none or it is the null of HL7, two quotation marks."""
        found: Any = self._fields
        for level, position in enumerate((field, repetition - 1, component - 1, subcomponent - 1)):
            if isinstance(found, str):
                if level and position:
                    return ""
                continue
            if position >= len(found):
                return ""
            found = found[position]
        value = clean(self._message.unescape(str(found)))
        return "" if value == '""' else value

    def repetitions(self, field: int) -> list[str]:
        """Each repetition whole, unescaped: for text in which a sender forgot to escape the separators."""
        if field >= len(self._fields):
            return []
        return [self._message.unescape(str(value)) for value in self._fields[field]]


class Hl7Message:
    """A message: its segments, and what its header says (MSH)."""

    def __init__(self, message: Any, codec: str) -> None:
        self._separators = str(message.separators) + "\r|~^&"[len(message.separators) :]
        self._escape = str(message.esc)
        self.codec = codec
        sequence = rf"{re.escape(self._escape)}([^{re.escape(self._escape)}\r\n]*){re.escape(self._escape)}"
        self._sequence = re.compile(sequence)
        self._bytes = re.compile(rf"(?:{re.escape(self._escape)}X(?:[0-9A-Fa-f]{{2}})+{re.escape(self._escape)})+")
        self.segments = [Segment(fields, self) for fields in message]
        self.header = self.segments[0]
        self.type = self.header.text(9)  # MSH-9.1 message code
        self.control_id = self.header.text(10)

    def unescape(self, text: str) -> str:
        """Escape sequences to what they stand for (HL7 2.5.1 chapter 2.7); those of no meaning to text vanish."""
        if self._escape not in text:
            return text
        return self._sequence.sub(self._meaning, self._bytes.sub(self._decode_bytes, text))

    def _decode_bytes(self, found: re.Match[str]) -> str:
        digits = "".join(re.findall(r"X([0-9A-Fa-f]+)", found[0]))
        text = bytes.fromhex(digits).decode(self.codec, "replace").replace("\r\n", "\n").replace("\r", "\n")
        return text.replace(self._escape, f"{self._escape}E{self._escape}")  # the second pass gives it back

    def _meaning(self, found: re.Match[str]) -> str:
        words = found[1]
        plain = {"F": 1, "R": 2, "S": 3, "T": 4}
        if words in plain:
            return self._separators[plain[words]]
        if words == "E":
            return self._escape
        command, count = words[:3], words[3:]
        if command in (".br", ".ce"):
            return "\n"
        if command == ".sp":
            return "\n" * min(int(count) if count.isdecimal() and len(count) < 3 else 1, _MAX_BLANK_LINES)
        if command in (".in", ".ti", ".sk"):
            return " "
        if words in ("H", "N", "") or command in (".fi", ".nf") or re.fullmatch(r"[CMZX][0-9A-Fa-f]*", words):
            return ""
        return found[0]  # no sequence: a path of Windows, say


def split_messages(data: bytes) -> Iterator[bytes]:
    """The messages of a file, each with carriage returns between its segments; what belongs to none comes by itself.

    Takes single messages, several, batches in their envelopes, and MLLP's framing. A line that is no segment belongs to
    the field before it: text with its own line ends.
    """
    lines: list[list[bytes]] = []  # segments, each in the pieces that are joined in the end
    for line in re.split(rb"\r\n|\r|\n", data.translate(_FRAMING).removeprefix(b"\xef\xbb\xbf")):
        if line.startswith(b"MSH") and lines:
            yield _joined(lines)
            lines = []
        if line[:3] in ENVELOPE and _SEGMENT.match(line):
            continue
        if _SEGMENT.match(line) or not lines:
            if line.strip():
                lines.append([line])
        else:
            lines[-1].append(line)
    if lines:
        yield _joined(lines)


def _joined(segments: list[list[bytes]]) -> bytes:
    return b"\r".join(b"\n".join(lines) for lines in segments)


def parse_message(data: bytes) -> Hl7Message:
    """One message. Raises InputError: bad-hl7, unsupported-character-set."""
    if not data.startswith(b"MSH") or len(data) < 9:
        raise InputError("Expected an HL7 message, which begins with MSH and its separators.", "bad-hl7")
    codec = _codec(data)
    separators = {b"\r", *(data[place : place + 1] for place in (3, 4, 5, 7))}
    if sum(data.count(separator) for separator in separators) > _MAX_VALUES:
        raise InputError(f"Expected a message of at most {_MAX_VALUES} values, found more.", "bad-hl7")
    try:
        text = decoded(data) if codec is None else data.decode(codec, "replace")
        return Hl7Message(hl7.parse(text), codec or "utf-8")
    except Exception as error:  # the library raises many kinds on broken messages
        raise InputError(f"The HL7 message cannot be parsed ({type(error).__name__}).", "bad-hl7") from error


def _codec(data: bytes) -> str | None:
    """From MSH-18 (its first repetition: the others need switches inside the text); None: not said."""
    header = data.partition(b"\r")[0]
    fields = header.split(header[3:4])
    given = fields[17] if len(fields) > 17 else b""
    name = re.split(rb"[~^]", given)[0].decode("ascii", "replace").strip().upper()
    if name not in _CODECS:
        message = f"Expected a character set in MSH-18 such as UNICODE UTF-8 or 8859/1, found {name[:40]!r}."
        raise InputError(message, "unsupported-character-set")
    return _CODECS[name]
