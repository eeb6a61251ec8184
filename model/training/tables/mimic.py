"""MIMIC-CXR-JPG 2.0.0 in its published layout, with the reports of MIMIC-CXR.

ROOT/mimic-cxr-2.0.0-metadata.csv[.gz], -split.csv[.gz] and, if there, -chexpert.csv[.gz];
ROOT/files/p10/p10000032/s50414267/DICOM_ID.jpg; REPORTS/files/p10/p10000032/s50414267.txt.
"""

from collections.abc import Iterator
from pathlib import Path

from .assemble import Study, report_note, rows, study_row
from .csv_file import read_csv
from .split import named_split
from .table import NO_FINDING, Skipped, StudyRow, TableError

__all__ = ["read_mimic"]

NAME = "mimic-cxr-2.0.0"


def read_mimic(root: Path, reports: Path) -> Iterator[StudyRow | Skipped]:
    """Studies with a frontal image, in order of patient and time.

    The prior is the patient's latest earlier study with a frontal image. A study without a report file has an empty
    report. Raises TableError where the layout is another.
    """
    root = root.resolve()
    studies = _studies(root)
    labels = _labels(root)

    def row(study: Study, prior: Study | None) -> StudyRow:
        path = _folder(reports, study.patient_id) / f"s{study.study_id}.txt"
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        return study_row(study, prior, report_note(text, labels=labels.get(study.study_id, "")))

    yield from rows(studies.values(), row)


def _folder(root: Path, patient: str) -> Path:
    return root / "files" / f"p{patient[:2]}" / f"p{patient}"


def _studies(root: Path) -> dict[str, Study]:
    studies: dict[str, Study] = {}
    columns = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime")
    path = _require(root, "metadata")
    for line, row in read_csv(path, columns):
        study = studies.setdefault(row["study_id"], Study(row["study_id"], row["subject_id"]))
        if row["StudyDate"]:
            try:
                moment = row["StudyDate"], float(row["StudyTime"] or 0)
            except ValueError:
                raise TableError(f"{path}, line {line}: StudyTime is {row['StudyTime']!r}, expected HHMMSS.") from None
            # Of a study over several rows the earliest moment counts.
            study.when = moment if study.when is None else min(study.when, moment)
        picture = _folder(root, study.patient_id) / f"s{study.study_id}" / f"{row['dicom_id']}.jpg"
        study.views[row["ViewPosition"].upper()].append(str(picture))
    path = _require(root, "split")
    for line, row in read_csv(path, ("study_id", "split")):
        if row["study_id"] in studies:
            studies[row["study_id"]].split = named_split(row["split"], f"{path}, line {line}")
    return studies


def _labels(root: Path) -> dict[str, str]:
    """Findings that CheXpert's labeller calls positive; a study with an uncertain one is left unknown."""
    path = _file(root, "chexpert")
    known = {}
    for _, row in read_csv(path, ("study_id",)) if path else ():
        values = {name: value for name, value in row.items() if name not in ("subject_id", "study_id")}
        if any(value.startswith("-1") for value in values.values()):
            continue
        positive = sorted(name for name, value in values.items() if value.startswith("1"))
        known[row["study_id"]] = ";".join(positive) or NO_FINDING
    return known


def _file(root: Path, part: str) -> Path | None:
    names = (f"{NAME}-{part}.csv", f"{NAME}-{part}.csv.gz")
    return next((root / name for name in names if (root / name).is_file()), None)


def _require(root: Path, part: str) -> Path:
    path = _file(root, part)
    if path is None:
        raise TableError(f"{root}: expected {NAME}-{part}.csv or .csv.gz, found neither; is this MIMIC-CXR-JPG?")
    return path
