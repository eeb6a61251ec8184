"""A report as given, and what is read from tables and texts; other formats are in ``report_readers``."""

import csv
import hashlib
import json
import re
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from model.errors import InputError
from model.report_sections import SECTIONS, parse_sections

from ..dicom import Refusal, clean
from .language import primary_language

__all__ = [
    "MAX_TEXT",
    "SECTIONS",
    "ReportText",
    "checked",
    "decoded",
    "derived_uid",
    "has_words",
    "is_uid",
    "parse_sections",
    "read_report_table",
    "read_table",
    "read_text",
    "report_of_row",
    "study_uid_of",
]

MAX_TEXT: Final = 2**20  # characters; longer is no report
TEXT_COLUMNS: Final = ("text", "report", "findings", "impression")
_NAMESPACE: Final = uuid.UUID("6f1f4f0e-5d0c-5a57-9d0a-a17a00000001")  # fixed for ever: derived UIDs hang on it


@dataclass(frozen=True)
class ReportText:
    """A report as given. source: the file, and the row where it has several. refusal: why it cannot be used.

    patient_id: as written, for matching only; the archive keeps its pseudonym.
    numbering, number: what its sender calls it, and in which counting; None where only its study names it.
    stage: preliminary, final or corrected. issued_at: when this version was, in any zone. withdrawn: it no longer
    holds; then it has no text. All three as far as the sender says.
    language: primary tag of BCP 47, where the source says it.
    by_name: only the name of its file says that this is a report; it is one if the archive has a study of that name.
    """

    source: str
    text: str = ""
    study_instance_uid: str | None = None
    accession_number: str | None = None
    patient_id: str | None = field(default=None, repr=False)
    indication: str | None = None
    comparison: str | None = None
    findings: str | None = None
    impression: str | None = None
    refusal: Refusal | None = None
    by_name: bool = False
    numbering: str | None = None
    number: str | None = None
    stage: str | None = None
    issued_at: datetime | None = None
    withdrawn: bool = False
    language: str | None = None

    @property
    def sha256(self) -> str:
        parts = [self.text, *(getattr(self, name) or "" for name in SECTIONS)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read_report_table(path: Path) -> list[ReportText]:
    """The reports of a CSV or JSON Lines file; a row that cannot be used comes with its ``refusal``.

    Raises InputError: no-such-file, bad-table (also a table in which no column could hold a report).
    """
    rows = list(read_table(path))
    columns = {name for _, row in rows if not isinstance(row, ReportText) for name in row}
    if columns and not columns & set(TEXT_COLUMNS):
        found = ", ".join(sorted(columns)[:20])
        message = f"{path} has no report: expected a column {', '.join(TEXT_COLUMNS)}, found {found}."
        raise InputError(message, "bad-table")
    return [row if isinstance(row, ReportText) else report_of_row(row, f"{path}#{number}") for number, row in rows]


def read_table(path: Path, required: Collection[str] = ()) -> Iterator[tuple[int, dict[str, str] | ReportText]]:
    """(row number from 1, columns by lower-case name) of a CSV or JSON Lines file; a refused report for a broken line.

    Raises InputError: no-such-file, bad-table.
    """
    try:
        text = decoded(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "no-such-file") from error
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        yield from _json_lines(path, text)
        return
    csv.field_size_limit(16 * MAX_TEXT)
    reader = csv.DictReader(text.splitlines(keepends=True), restkey="", restval="")
    try:
        names = {name: clean(name or "").lower() for name in reader.fieldnames or ()}
        if not any(names.values()) or not set(required) <= set(names.values()):
            message = f"{path} needs a header row with {', '.join(required) or 'column names'}; found {list(names)}."
            raise InputError(message, "bad-table")
        for number, row in enumerate(reader, start=1):
            yield number, {names[name]: clean(value) for name, value in row.items() if name in names and name}
    except csv.Error as error:
        raise InputError(f"{path} is no CSV table: {error}.", "bad-table") from error


def report_of_row(row: Mapping[str, str], source: str) -> ReportText:
    """A report from named columns: ids, and either a whole text (``text`` or ``report``) or sections."""
    study_id = row.get("study_id") or row.get("uid")  # Open-i's tables name a study by a small number, uid
    uid = row.get("study_instance_uid") or (study_uid_of(study_id) if study_id else None)
    accession = row.get("accession_number") or row.get("accession") or None
    report = _composed(row, source)
    patient_id = row.get("patient_id") or None
    language = primary_language(row.get("language"))
    report = replace(
        report, study_instance_uid=uid, accession_number=accession, patient_id=patient_id, language=language
    )
    return checked(report)


def checked(report: ReportText) -> ReportText:
    """The report, refused where it cannot be used, and without text where it is withdrawn.

    Slugs: too-large, empty-report, missing-identifier (a withdrawn report may go by its number alone), bad-identifier.
    """
    why = report.refusal or _unusable(report)
    nothing: dict[str, Any] = dict.fromkeys(SECTIONS)
    if why is None:
        return replace(report, text="", **nothing) if report.withdrawn else report
    uid, accession = ((value or "")[:64] or None for value in (report.study_instance_uid, report.accession_number))
    report = replace(report, study_instance_uid=uid, accession_number=accession, refusal=why)
    return replace(report, text=report.text[:MAX_TEXT], **nothing) if why.slug == "too-large" else report


def _unusable(report: ReportText) -> Refusal | None:
    uid, accession = report.study_instance_uid, report.accession_number
    if len(report.text) > MAX_TEXT:
        return Refusal("too-large", f"{len(report.text)} characters are too long for a report.")
    if not report.withdrawn and not has_words(report.text):
        return Refusal("empty-report", "The report has no words.")
    if not uid and not accession and not (report.withdrawn and report.number):
        message = "Expected study_instance_uid, study_id or accession_number, found none."
        return Refusal("missing-identifier", message)
    for name, value in (("study_instance_uid", uid), ("accession_number", accession)):
        if value and len(value) > 64:
            return Refusal("bad-identifier", f"Expected a {name} of at most 64 characters, found {len(value)}.")
    return None


def read_text(path: Path) -> ReportText:
    """A report named by its study: ``<accession number or study instance UID>.txt``."""
    stem = clean(path.stem)
    ids: dict[str, Any] = {"study_instance_uid": stem} if is_uid(stem) else {"accession_number": stem[:64]}
    try:
        if path.stat().st_size > MAX_TEXT:
            return ReportText(str(path), **ids, refusal=Refusal("too-large", "The file is too long for a report."))
        text = decoded(path.read_bytes())
    except OSError as error:
        return ReportText(str(path), **ids, refusal=Refusal("unreadable", f"The file cannot be read: {error}."))
    return checked(replace(_composed({"text": clean(text)}, str(path)), **ids))


def has_words(text: str) -> bool:
    """Whether a text says anything."""
    return re.search(r"\w", text) is not None


def is_uid(value: str) -> bool:
    """Whether the value has the form of a UID (PS3.5 9.1)."""
    return len(value) <= 64 and re.fullmatch(r"[0-2](\.(0|[1-9]\d*))+", value) is not None


def study_uid_of(study_id: str) -> str:
    """The study instance UID of a given id: itself when it is one, else a derived one."""
    return study_id if is_uid(study_id) else derived_uid("study", study_id)


def derived_uid(*parts: str) -> str:
    """A UID that is always the same for the same parts (PS3.5 B.2: a UUID as an integer under 2.25)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(31).join(parts)).int}"


def _composed(row: Mapping[str, str], source: str) -> ReportText:
    whole = row.get("report") or row.get("text") or ""
    given = {name: row[name] for name in SECTIONS if has_words(row.get(name, ""))}
    # Beside a whole text, a lone `findings` column is a data set's label ("Pneumonia"), not a section.
    if ("text" in row or "report" in row) and "impression" not in row:
        given = {}
    if not whole:
        whole = "\n".join(f"{name.upper()}: {body}" for name, body in given.items())
    sections = given or parse_sections(whole)
    indication, comparison, findings, impression = (sections.get(name) for name in SECTIONS)
    return ReportText(source, whole, None, None, None, indication, comparison, findings, impression)


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, str] | ReportText]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"expected an object, found {type(row).__name__}")
            if odd := [name for name in row if name.lower() in TEXT_COLUMNS and isinstance(row[name], (list, dict))]:
                raise ValueError(f"expected text in {', '.join(odd)}, found a {type(row[odd[0]]).__name__}")
        except (ValueError, RecursionError) as error:
            why = Refusal("bad-json", f"Line {number} is no report as a JSON object: {error}.")
            yield number, ReportText(f"{path}#{number}", text=clean(line)[:MAX_TEXT], refusal=why)
            continue
        yield number, {str(name).lower(): "" if value is None else clean(str(value)) for name, value in row.items()}


def decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")  # what spreadsheets on Windows write
