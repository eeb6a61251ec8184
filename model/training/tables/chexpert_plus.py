"""CheXpert Plus (Chambon and others 2024, arXiv:2405.19538) in the layout of its release of 2024-04-01.

ROOT/df_chexpert_plus_240401.csv has a row a picture: path_to_image (train/patient00001/study1/view1_frontal.jpg),
frontal_lateral (Frontal, Lateral), ap_pa (AP, PA, empty for laterals), deid_patient_id, patient_report_date_order,
report, section_findings, section_impression, split (train, valid). The pictures of PNG.zip are
ROOT/PNG/train/patient00001/study1/view1_frontal.png; those of the older CheXpert end in .jpg, as the table writes them.
Labels are JSON Lines with path_to_image and the 14 CheXpert findings: 1, 0, -1 uncertain, null not mentioned.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

from ...csv_file import read_csv
from ...prompts import PROMPT_SETS
from .assemble import Note, Study, report_note, rows, study_row
from .split import more_held_out, named_split
from .table import Skipped, StudyRow, TableError

__all__ = ["read_chexpert_plus"]

TABLE = "df_chexpert_plus_240401.csv"
COLUMNS = (
    "path_to_image", "frontal_lateral", "ap_pa", "deid_patient_id", "patient_report_date_order", "report",
    "section_findings", "section_impression", "split",
)  # fmt: skip
STUDY = re.compile(r"(?:^|/)(patient\w+)/(study\w+)/[^/]+$")
FOLDERS = ("PNG", "PNG/PNG", ".")  # unpacked beside the table, or into a folder of the archive's name
# The radiologists' 200 studies: too few and too good to choose checkpoints by, and published as held out.
SPLIT_OF = {"valid": "test"}
VIEWS = {
    ("frontal", "pa"): "PA", ("frontal", "ap"): "AP", ("frontal", ""): "FRONTAL",
    ("lateral", ""): "LATERAL", ("lateral", "ll"): "LL", ("lateral", "rl"): "RL",
}  # fmt: skip


def read_chexpert_plus(
    root: Path, images: Path | None = None, labels: Path | None = None
) -> Iterator[StudyRow | Skipped]:
    """Studies with a frontal, in order of patient and ``patient_report_date_order``.

    A study is a patient's study folder. Split ``valid`` becomes test; training patients are left to be divided. A study
    with an uncertain label, or without a positive one, is left unknown. Raises TableError where the layout is another.
    """
    table = root if root.is_file() else root / TABLE
    known = _labels(labels) if labels else {}
    where = _Pictures(images, table.parent)
    studies: dict[tuple[str, str], Study] = {}
    seen: set[str] = set()
    for line, row in read_csv(table, COLUMNS, f"Expected {TABLE} of CheXpert Plus."):
        at, name = f"{table}, line {line}", row["path_to_image"]
        parts = STUDY.search(name)
        if not parts or not row["deid_patient_id"]:
            raise TableError(
                f"{at}: expected path_to_image as train/patient00001/study1/view1_frontal.jpg and a deid_patient_id,"
                f" found {name!r} and {row['deid_patient_id']!r}."
            )
        patient, study_id = row["deid_patient_id"], f"{parts[1]}/{parts[2]}"
        if name in seen:
            yield Skipped(study_id, "repeated row", name, patient_id=patient)
            continue
        seen.add(name)
        view = VIEWS.get((row["frontal_lateral"].lower(), row["ap_pa"].lower()))
        if view is None:
            views = f"{row['frontal_lateral']} {row['ap_pa']}"
            yield Skipped(study_id, "view contradicts itself", name, views, patient)
            continue
        study = studies.setdefault((patient, study_id), Study(study_id, patient))
        order = _order(row["patient_report_date_order"], at)
        study.when = order if study.when is None else min(study.when, order)
        split = SPLIT_OF.get(row["split"].lower(), named_split(row["split"], at))
        study.split = more_held_out(study.split, split)
        path = where.find(name)
        study.views[view].append(path)
        note = report_note(row["report"], row["section_findings"], row["section_impression"], known.get(_key(name), ""))
        study.notes[path] = _shared(note, study)
    yield from rows(studies.values(), study_row)


def _shared(note: Note, study: Study) -> Note:
    """The study's note that says the same, so that its text is kept in memory once."""
    return next((other for other in study.notes.values() if other == note), note)


def _order(given: str, at: str) -> float:
    try:
        order = float(given)
    except ValueError:
        order = math.nan
    if not math.isfinite(order):
        raise TableError(f"{at}: patient_report_date_order is {given!r}, expected a number.")
    return order


class _Pictures:
    """Where the pictures lie: tried are PNG and the table's own suffix in each folder, the last that fitted first."""

    def __init__(self, images: Path | None, root: Path) -> None:
        folders = [images.resolve()] if images else [(root / folder).resolve() for folder in FOLDERS]
        self._ways = [(folder, suffix) for folder in folders for suffix in (".png", "")]

    def find(self, name: str) -> str:
        for way in self._ways:
            path = self._path(way, name)
            if path.is_file():
                self._ways.remove(way)
                self._ways.insert(0, way)
                return str(path)
        return str(self._path(self._ways[0], name))  # counted as missing

    @staticmethod
    def _path(way: tuple[Path, str], name: str) -> Path:
        folder, suffix = way
        return folder / (Path(name).with_suffix(suffix) if suffix else name)


def _key(name: str) -> str:
    """The same for a picture however its file is written."""
    return name.rsplit(".", 1)[0]


def _labels(path: Path) -> dict[str, str]:
    known = {}
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for line, text in enumerate(stream, start=1):
                if text.strip():
                    name, labels = _labelled(text, f"{path}, line {line}")
                    known[_key(name)] = labels
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: the labels cannot be read: {error}.") from error
    return known


def _labelled(text: str, at: str) -> tuple[str, str]:
    try:
        row = json.loads(text)
        name, values = str(row["path_to_image"]), {finding: row[finding] for finding in PROMPT_SETS}
    except (ValueError, TypeError, KeyError) as error:
        raise TableError(
            f"{at}: expected JSON with path_to_image and the 14 CheXpert findings ({type(error).__name__}: {error});"
            " is it one of impression_fixed.json, findings_fixed.json, report_fixed.json?"
        ) from None
    if -1 in values.values():
        return name, ""
    return name, ";".join(finding for finding, value in values.items() if value == 1)
