"""A generic table of studies: our columns, or those of the published training table."""

import csv
from collections.abc import Iterator
from pathlib import Path

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
SLOT_COLUMNS = ("current_frontal", "current_lateral", "prior_frontal", "prior_lateral")


def read_csv_studies(path: Path, images: Path | None = None) -> Iterator[StudyRow]:
    """Rows of ``path``; pictures are relative to ``images``, or to the table's folder.

    ``study_id`` may be absent (the row's number stands for it); ``patient_id`` may not: without it nobody could keep
    patients apart. Raises TableError that names line and column.
    """
    root = images or path.parent
    try:
        stream = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}.") from error
    with stream:
        reader = csv.DictReader(stream)
        names = {PUBLISHED.get(name, name): name for name in reader.fieldnames or ()}
        if "current_frontal" not in names:
            raise TableError(f"{path}: expected a column current_frontal or image_path, found neither.")
        if "patient_id" not in names:
            raise TableError(f"{path}: expected a column patient_id; splits keep a patient's studies together.")
        for number, row in enumerate(reader, start=1):
            values = {name: (row.get(names[name]) or "").strip() for name in COLUMNS if name in names}
            if not values["patient_id"]:
                raise TableError(f"{path}, line {reader.line_num}: patient_id is empty.")
            for slot in SLOT_COLUMNS:
                given = values.get(slot, "")
                values[slot] = "" if given in ABSENT else str((root / given).resolve())
            yield StudyRow(**{"study_id": str(number), **values})
