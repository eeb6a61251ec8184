"""MIMIC-CXR-JPG 2.0.0 in its published layout, with the reports of MIMIC-CXR.

ROOT/mimic-cxr-2.0.0-metadata.csv[.gz], -split.csv[.gz] and, if there, -chexpert.csv[.gz];
ROOT/files/p10/p10000032/s50414267/DICOM_ID.jpg; REPORTS/files/p10/p10000032/s50414267.txt.
"""

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ...report_sections import parse_sections
from .table import NO_FINDING, StudyRow, TableError

__all__ = ["read_mimic"]

NAME = "mimic-cxr-2.0.0"
FRONTAL = ("PA", "AP")  # in the order of preference: a PA exposure shows heart size truly
LATERAL = ("LATERAL", "LL")
SPLIT_OF = {"train": "train", "validate": "validate", "test": "test"}


@dataclass
class _Study:
    study_id: str
    subject_id: str
    when: tuple[str, float] = ("", 0.0)  # StudyDate, StudyTime
    views: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # ViewPosition: dicom_ids
    split: str = ""

    def first(self, positions: tuple[str, ...]) -> str:
        """The dicom_id of the preferred view, the lowest where there are several; empty without one."""
        return next((min(self.views[position]) for position in positions if self.views.get(position)), "")


def read_mimic(root: Path, reports: Path) -> Iterator[StudyRow]:
    """Studies with a frontal image, in order of patient and time.

    The prior is the patient's latest earlier study with a frontal image. A study without a report file has an empty
    report. Raises TableError where the layout is another.
    """
    studies = _studies(root)
    labels = _labels(root)
    by_patient: dict[str, list[_Study]] = defaultdict(list)
    for study in studies.values():
        if study.first(FRONTAL):
            by_patient[study.subject_id].append(study)
    for subject in sorted(by_patient):
        history = sorted(by_patient[subject], key=lambda study: (study.when, study.study_id))
        for number, study in enumerate(history):
            earlier = [other for other in history[:number] if other.when < study.when]
            yield _row(study, earlier[-1] if earlier else None, root, reports, labels.get(study.study_id, ""))


def _row(study: _Study, prior: _Study | None, root: Path, reports: Path, labels: str) -> StudyRow:
    def picture(of: _Study | None, positions: tuple[str, ...]) -> str:
        name = of.first(positions) if of else ""
        return str(_folder(root, of) / f"s{of.study_id}" / f"{name}.jpg") if of and name else ""

    path = _folder(reports, study) / f"s{study.study_id}.txt"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    sections = parse_sections(text)
    findings, impression = sections.get("findings", ""), sections.get("impression", "")
    return StudyRow(
        study_id=study.study_id,
        patient_id=study.subject_id,
        split=study.split,
        current_frontal=picture(study, FRONTAL),
        current_lateral=picture(study, LATERAL),
        prior_frontal=picture(prior, FRONTAL),
        prior_lateral=picture(prior, LATERAL),
        findings=_line(findings),
        impression=_line(impression),
        text="" if findings or impression else _line(text),
        labels=labels,
    )


def _folder(root: Path, study: _Study) -> Path:
    return root / "files" / f"p{study.subject_id[:2]}" / f"p{study.subject_id}"


def _studies(root: Path) -> dict[str, _Study]:
    studies: dict[str, _Study] = {}
    for row in _csv(root, "metadata", ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime")):
        study = studies.setdefault(row["study_id"], _Study(row["study_id"], row["subject_id"]))
        # Of a study over several rows the earliest moment counts.
        moment = row["StudyDate"], float(row["StudyTime"] or 0)
        study.when = min(study.when, moment) if study.when[0] else moment
        study.views[row["ViewPosition"].upper()].append(row["dicom_id"])
    for row in _csv(root, "split", ("study_id", "split")):
        if row["study_id"] in studies:
            studies[row["study_id"]].split = SPLIT_OF.get(row["split"], "")
    return studies


def _labels(root: Path) -> dict[str, str]:
    """Findings that CheXpert's labeller calls positive; a study with an uncertain one is left unknown."""
    if _file(root, "chexpert") is None:
        return {}
    known = {}
    for row in _csv(root, "chexpert", ("study_id",)):
        values = {name: value for name, value in row.items() if name not in ("subject_id", "study_id")}
        if any(value.startswith("-1") for value in values.values()):
            continue
        positive = sorted(name for name, value in values.items() if value.startswith("1"))
        known[row["study_id"]] = ";".join(positive) or NO_FINDING
    return known


def _file(root: Path, part: str) -> Path | None:
    names = (f"{NAME}-{part}.csv", f"{NAME}-{part}.csv.gz")
    return next((root / name for name in names if (root / name).is_file()), None)


def _csv(root: Path, part: str, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    path = _file(root, part)
    if path is None:
        raise TableError(f"{root}: expected {NAME}-{part}.csv or .csv.gz, found neither; is this MIMIC-CXR-JPG?")
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as stream:
        reader = csv.DictReader(stream)
        if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
            raise TableError(f"{path}: column {', '.join(missing)} missing.")
        yield from ({name: value or "" for name, value in row.items() if name} for row in reader)


def _line(text: str) -> str:
    return " ".join(text.split())
