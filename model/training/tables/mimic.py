"""MIMIC-CXR-JPG 2.0.0 in its published layout, with the reports of MIMIC-CXR.

ROOT/mimic-cxr-2.0.0-metadata.csv[.gz], -split.csv[.gz] and, if there, -chexpert.csv[.gz];
ROOT/files/p10/p10000032/s50414267/DICOM_ID.jpg; REPORTS/files/p10/p10000032/s50414267.txt.
"""

import math
from collections.abc import Iterator
from pathlib import Path

from ...csv_file import read_csv
from ...report_sections import last_paragraphs
from .assemble import FRONTALS, LATERALS, Note, Study, report_note, rows, study_row
from .split import more_held_out, named_split
from .table import REPORT_MISSING, Skipped, StudyRow, TableError

__all__ = ["read_mimic"]

NAME = "mimic-cxr-2.0.0"


def read_mimic(root: Path, reports: Path) -> Iterator[StudyRow | Skipped]:
    """Studies with a frontal image, in order of patient and time.

    The prior is the patient's latest earlier study with a frontal image. A picture whose view is not frontal or
    lateral, and a report file that is missing or cannot be read, are skipped beside the row. Raises TableError where
    the layout is another.
    """
    root = root.resolve()
    studies = _studies(root)
    if not (reports / "files").is_dir():
        raise TableError(f"{reports}: expected the unpacked mimic-cxr-reports.zip, found no folder files in it.")
    for study in studies.values():
        for view in study.views.keys() - {*FRONTALS, *LATERALS}:
            for path in study.views[view]:
                yield Skipped(study.study_id, "view not known", path, view, study.patient_id)
    labels = _labels(root)
    unread: list[Skipped] = []

    def row(study: Study, prior: Study | None) -> StudyRow:
        path = _folder(reports, study.patient_id) / f"s{study.study_id}.txt"
        known = labels.get(study.study_id, "")
        try:
            note = _note(path.read_text(encoding="utf-8", errors="replace"), known)
        except OSError as error:
            detail = "" if isinstance(error, FileNotFoundError) else str(error.strerror)
            unread.append(Skipped(study.study_id, REPORT_MISSING, str(path), detail, study.patient_id))
            note = Note(labels=known)
        return study_row(study, prior, note)

    for entry in rows(studies.values(), row):
        yield from unread
        unread.clear()
        yield entry


def _note(text: str, labels: str) -> Note:
    """Of a report without findings and impression the last paragraphs that have no heading say what was seen, as in
    the data set's own sections; the whole of it where there is none."""
    note = report_note(text, labels=labels)
    return report_note(last_paragraphs(text) or text, labels=labels) if note.text else note


def _folder(root: Path, patient: str) -> Path:
    return root / "files" / f"p{patient[:2]}" / f"p{patient}"


def _studies(root: Path) -> dict[str, Study]:
    studies: dict[str, Study] = {}
    columns = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime")
    path = _require(root, "metadata")
    for line, row in read_csv(path, columns):
        study = studies.setdefault(row["study_id"], Study(row["study_id"], row["subject_id"]))
        if row["StudyDate"]:
            moment = _moment(row["StudyDate"], row["StudyTime"], f"{path}, line {line}")
            # Of a study over several rows the earliest moment counts.
            study.when = moment if study.when is None else min(study.when, moment)
        picture = _folder(root, study.patient_id) / f"s{study.study_id}" / f"{row['dicom_id']}.jpg"
        study.views[row["ViewPosition"].upper()].append(str(picture))
    path = _require(root, "split")
    for line, row in read_csv(path, ("study_id", "split")):
        if row["study_id"] in studies:
            study = studies[row["study_id"]]
            study.split = more_held_out(study.split, named_split(row["split"], f"{path}, line {line}"))
    return studies


def _moment(date: str, time: str, at: str) -> tuple[int, float]:
    try:
        moment = int(date), float(time or 0)
    except ValueError:
        moment = 0, math.nan
    if not math.isfinite(moment[1]):
        raise TableError(f"{at}: StudyDate and StudyTime are {date!r} and {time!r}, expected YYYYMMDD and HHMMSS.")
    return moment


def _labels(root: Path) -> dict[str, str]:
    """Findings that CheXpert's labeller calls positive; a study with an uncertain one, or without a positive one, is
    left unknown: the labeller says No Finding where there is none."""
    path = _file(root, "chexpert")
    known = {}
    for _, row in read_csv(path, ("study_id",)) if path else ():
        values = {name: value for name, value in row.items() if name not in ("subject_id", "study_id")}
        if any(value.startswith("-1") for value in values.values()):
            continue
        positive = sorted(name for name, value in values.items() if value.startswith("1"))
        known[row["study_id"]] = ";".join(positive)
    return known


def _file(root: Path, part: str) -> Path | None:
    names = (f"{NAME}-{part}.csv", f"{NAME}-{part}.csv.gz")
    return next((root / name for name in names if (root / name).is_file()), None)


def _require(root: Path, part: str) -> Path:
    path = _file(root, part)
    if path is None:
        raise TableError(f"{root}: expected {NAME}-{part}.csv or .csv.gz, found neither; is this MIMIC-CXR-JPG?")
    return path
