"""A generic table of studies: our columns, or those of the published training table."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from ...alta import SLOTS
from ...csv_file import read_csv
from .assemble import report_note
from .split import named_split
from .table import COLUMNS, StudyRow, TableError

__all__ = ["read_csv_studies"]

PUBLISHED = {
    "image_path": "current_frontal",
    "auxview_image_path": "current_lateral",
    "last_image_path": "prior_frontal",
    "last_auxview_image_path": "prior_lateral",
    "report": "text",
}
ABSENT = ("-1", "")  # the published table writes -1


def read_csv_studies(path: Path, images: Path | None = None) -> Iterator[StudyRow]:
    """Rows of ``path``, a patient's together; pictures are relative to ``images``, or to the table's folder.

    ``study_id`` may be absent or empty (the row's number stands for it); ``patient_id`` may not: without it nobody
    could keep patients apart. Of a whole report the sections are taken that its headings mark. Raises TableError that
    names line and column.
    """
    root = images or path.parent
    by_patient: dict[str, list[StudyRow]] = defaultdict(list)
    for number, (line, row) in enumerate(read_csv(path), start=1):
        named = {PUBLISHED.get(name, name): value for name, value in row.items()}
        if "current_frontal" not in named:
            raise TableError(f"{path}: expected a column current_frontal or image_path, found neither.")
        if "patient_id" not in named:
            raise TableError(f"{path}: expected a column patient_id; splits keep a patient's studies together.")
        values = {name: named[name] for name in COLUMNS if name in named}
        if not values["patient_id"]:
            raise TableError(f"{path}, line {line}: patient_id is empty.")
        values["split"] = named_split(values.get("split", ""), f"{path}, line {line}")
        for slot in SLOTS:
            given = values.get(slot, "")
            values[slot] = "" if given in ABSENT else str((root / given).resolve())
        values["study_id"] = values.get("study_id") or str(number)
        note = report_note(values.get("text", ""), values.get("findings", ""), values.get("impression", ""))
        sections = {"findings": note.findings, "impression": note.impression, "text": note.text}
        by_patient[values["patient_id"]].append(StudyRow(**{**values, **sections}))
    for rows in by_patient.values():
        yield from rows
