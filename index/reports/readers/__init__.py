"""Reports as hospitals have them, to ``ReportText``: tables, texts, HL7 v2, FHIR and DICOM structured reports.

A file is read for what its content says it is. What cannot be used comes as a report with its ``refusal``, beside those
that can; only a table that is no table of reports is an error.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from model.errors import ImageError, InputError
from model.image import read_dicom

from ...dicom import Refusal
from ..texts import ReportText, read_report_table, read_text
from .diagnostic_report import read_fhir, reports_of_resource
from .hl7_text import ENVELOPE, Hl7Message, parse_message, split_messages
from .oru import read_hl7, reports_of_message
from .structured_report import is_structured_report, report_of_dataset

__all__ = [
    "Hl7Message",
    "is_structured_report",
    "parse_message",
    "read_fhir",
    "read_hl7",
    "read_reports",
    "report_of_dataset",
    "reports_of_message",
    "reports_of_resource",
    "split_messages",
]

MAX_FILE_BYTES: Final = 512 * 2**20
TABLES: Final = (".csv", ".jsonl", ".ndjson")


def read_reports(path: Path, may_read: Callable[[Path], bool] | None = None) -> Iterator[ReportText]:
    """The reports of a file, or of every file under a folder, in the order of their names; hidden files are left out.

    CSV and JSON Lines tables by their extension; HL7 v2, FHIR JSON (also one resource a line, ``.ndjson``) and DICOM
    structured reports by their content; other ``.txt`` files are named by their study: ``<accession or UID>.txt``.
    may_read: asked of each file under a folder, which may be a link to anywhere; the others are passed over.
    Raises InputError: no-such-file, bad-table.
    """
    if not path.is_dir():
        yield from _read_file(path)
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            if not name.startswith(".") and (may_read is None or may_read(Path(folder, name))):
                yield from _read_file(Path(folder, name))


def _read_file(path: Path) -> Iterator[ReportText]:
    suffix = path.suffix.lower()
    try:
        if not path.is_file():
            raise InputError(f"There is no file {path}.", "no-such-file")
        with path.open("rb") as file:
            head = file.read(4096)
        size = path.stat().st_size
    except OSError as error:
        yield ReportText(str(path), refusal=Refusal("unreadable", f"The file cannot be read: {error.strerror}."))
        return
    if suffix in TABLES and not (suffix != ".csv" and b'"resourceType"' in head):
        yield from read_report_table(path)
    elif size > MAX_FILE_BYTES:
        why = Refusal("too-large", f"{size} bytes are over the limit of {MAX_FILE_BYTES}. Split the file.")
        yield ReportText(str(path), refusal=why)
    elif head[128:132] == b"DICM":
        yield _read_dicom(path)
    elif _is_hl7(head) or suffix == ".hl7":
        yield from read_hl7(path.read_bytes(), str(path))
    elif suffix in TABLES:  # FHIR bulk data: a resource a line
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            if line.strip():
                yield from read_fhir(line, f"{path}#{number}")
    elif suffix == ".json" or b'"resourceType"' in head:
        yield from read_fhir(path.read_bytes(), str(path))
    elif suffix == ".txt":
        yield read_text(path)
    else:
        message = "Expected a table, a text named by its study, HL7 v2, FHIR JSON or a DICOM structured report."
        yield ReportText(str(path), refusal=Refusal("not-a-report", message))


def _is_hl7(head: bytes) -> bool:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip(b"\x0b\r\n\t ")
    return start[:3] in (b"MSH", *ENVELOPE) and not start[3:4].isalnum()


def _read_dicom(path: Path) -> ReportText:
    try:
        dataset = read_dicom(path)
    except ImageError as error:
        return ReportText(str(path), refusal=Refusal(error.slug, error.message))
    if not is_structured_report(dataset):
        message = "Expected a DICOM structured report, found another object. Give folders of images as the source."
        return ReportText(str(path), refusal=Refusal("not-a-report", message))
    return report_of_dataset(dataset, str(path))
