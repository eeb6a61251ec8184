"""``studies.csv``: one study a row, its four slots, its report, its patient, its split."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path

from ...alta import SLOTS
from ...checkpoint import write_whole
from ...csv_file import TableError, read_csv
from ...prompts import PROMPT_SETS

__all__ = [
    "EXCLUDED",
    "NO_FINDING",
    "REPORT_MISSING",
    "REPORT_UNREADABLE",
    "SHARED",
    "SPLITS",
    "Skipped",
    "StudyRow",
    "TableError",
    "read_table",
    "table_bytes",
    "write_table",
]

SPLITS = ("train", "validate", "test")
NO_FINDING = "No Finding"
REPORT_MISSING, REPORT_UNREADABLE = "report missing", "report cannot be read"  # reasons to skip
EXCLUDED = "patient of the exclusion list"
SHARED = "picture of another patient"


@dataclass(frozen=True)
class StudyRow:
    """A study. Slots are paths of pictures, empty where there is none; ``text`` is the whole report where no section
    was recognised; ``labels`` are findings joined by ``;``, ``No Finding`` for none, empty where nothing is known."""

    study_id: str
    patient_id: str
    split: str = ""
    current_frontal: str = ""
    current_lateral: str = ""
    prior_frontal: str = ""
    prior_lateral: str = ""
    findings: str = ""
    impression: str = ""
    text: str = ""
    labels: str = ""

    def slots(self) -> tuple[str, ...]:
        """In the order of ``SLOTS``."""
        return tuple(getattr(self, slot) for slot in SLOTS)

    def known_findings(self) -> frozenset[str] | None:
        """None where nothing is known: also for a study labelled with a diagnosis alone, such as COVID-19, which does
        not say that the findings of the built-in prompts are absent."""
        names = frozenset(name.strip() for name in self.labels.split(";")) - {""}
        return names - {NO_FINDING} if names & PROMPT_SETS.keys() else None


@dataclass(frozen=True)
class Skipped:
    """A study, or a picture of one, that is left out. ``reason`` is one of few, so that they can be counted; ``detail``
    says what is particular."""

    study_id: str
    reason: str
    path: str = ""
    detail: str = ""
    patient_id: str = field(default="", compare=False)


COLUMNS = tuple(column.name for column in fields(StudyRow))
REQUIRED = ("study_id", "patient_id", "split", "current_frontal")


def read_table(path: Path) -> list[StudyRow]:
    """Rows of a studies.csv. Raises TableError that names the line."""
    rows = []
    for line, values in read_csv(path, REQUIRED, "Expected a table of `alta data prepare`."):
        row = StudyRow(**{name: values.get(name, "") for name in COLUMNS})
        if not row.study_id or not row.patient_id:
            raise TableError(f"{path}, line {line}: study_id and patient_id must not be empty.")
        if row.split not in SPLITS:
            raise TableError(f"{path}, line {line}: split is {row.split!r}, expected {', '.join(SPLITS)}.")
        rows.append(row)
    _require_whole_patients(path, rows)
    return rows


def write_table(path: Path, rows: Iterable[StudyRow]) -> None:
    """The file appears whole or not at all."""
    write_whole(path, table_bytes(rows))


def table_bytes(rows: Iterable[StudyRow]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(row) for row in rows)
    return stream.getvalue().encode()


def _require_whole_patients(path: Path, rows: list[StudyRow]) -> None:
    split: dict[str, str] = {}
    for row in rows:
        if split.setdefault(row.patient_id, row.split) != row.split:
            raise TableError(
                f"{path}: a patient (of study {row.study_id}) is in two splits, {split[row.patient_id]} and"
                f" {row.split}; figures on such a table would be too good. Prepare it again."
            )
