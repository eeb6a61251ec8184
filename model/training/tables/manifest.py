"""A manifest: a CSV table with a row a picture, as collections and one's own exports have it.

What is read, and the column names it is known by (case does not matter; ``columns`` names others):

    patient_id       patient, subject_id, deid_patient_id
    image_path       path, image, filename, file
    view             view_position, projection: PA, AP, frontal; L, LL, RL, lateral; AP supine, AP erect and the like
    study_id         study, study_instance_uid; else what was taken at one time is a study
    study_date       date: YYYY-MM-DD or YYYYMMDD
    offset_days      offset: days since any day of the patient's
    study_order      order: 0, 1, 2 among the patient's studies
    labels           findings, finding: what is seen, joined by ";", "No Finding" for none, empty where not known
    section_findings findings_text
    section_impression  impression
    text             report, report_text: the whole report, of which headings are recognised
    split            train, validate, test
    near_dup_of      duplicate_of: names another picture of which this is a copy

patient_id, image_path and view must be there, and one of study_id and the three times.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ...csv_file import read_csv
from .assemble import Study, report_note, rows
from .split import named_split
from .table import SHARED, Skipped, StudyRow, TableError

__all__ = ["MANIFEST_FIELDS", "read_manifest"]

MANIFEST_FIELDS: Mapping[str, tuple[str, ...]] = {
    "patient_id": ("patient", "subject_id", "deid_patient_id"),
    "image_path": ("path", "image", "filename", "file"),
    "view": ("view_position", "viewposition", "projection"),
    "study_id": ("study", "study_instance_uid"),
    "study_date": ("date", "studydate"),
    "offset_days": ("offset",),
    "study_order": ("order",),
    "labels": ("findings", "finding"),
    "section_findings": ("findings_text",),
    "section_impression": ("impression",),
    "text": ("report", "report_text"),
    "split": (),
    "near_dup_of": ("duplicate_of",),
}
REQUIRED = ("patient_id", "image_path", "view")
TIMES = ("study_date", "offset_days", "study_order")  # the first that most of a patient's studies have orders them
WORDS = 8  # of a label at most: more is a sentence of a report
VIEW_OF = {
    "pa": "PA", "ap": "AP", "frontal": "FRONTAL", "l": "LATERAL", "lat": "LATERAL", "lateral": "LATERAL", "ll": "LL",
    "left lateral": "LL", "rl": "RL", "right lateral": "RL",
}  # fmt: skip
POSTURES = ("pa ", "ap ", "frontal ")  # "AP supine", "frontal (PA/AP unknown)"


@dataclass
class _Entry:
    study: Study
    line: int
    times: dict[str, float] = field(default_factory=dict)


def read_manifest(
    path: Path,
    images: Path | None = None,
    columns: Mapping[str, str] | None = None,
    told: Callable[[Mapping[str, str]], None] = lambda names: None,
) -> Iterator[StudyRow | Skipped]:
    """Studies with a frontal, in order of patient and time. Pictures are relative to ``images`` or to the manifest.

    columns: column by field of ``MANIFEST_FIELDS``, where the manifest has another name or the field should be read
    from another column; an empty name leaves the field out. told: is called with the
    column that was taken for each field. Raises TableError that names line and column.
    """
    root = (images or path.parent).resolve()
    entries: dict[tuple[str, str], _Entry] = {}
    seen: dict[str, str] = {}  # patient, by picture
    for line, values in _rows(path, columns or {}, told):
        at = f"{path}, line {line}"
        picture, patient = str(root / values["image_path"]), values["patient_id"]
        times = {name: _time(name, values[name], at) for name in TIMES if values.get(name)}
        study_id = values.get("study_id") or _taken(values, patient, at)
        if picture in seen:
            shared = seen[picture] != patient
            detail = f"patient {seen[picture]}" if shared else ""
            yield Skipped(study_id, SHARED if shared else "repeated row", picture, detail, patient)
            continue
        seen[picture] = patient
        if values.get("near_dup_of"):
            yield Skipped(study_id, "copy of another picture", picture, values["near_dup_of"], patient)
            continue
        view = _view(values["view"])
        if not view:
            yield Skipped(study_id, "view not known", picture, values["view"], patient)
            continue
        entry = entries.setdefault((patient, study_id), _Entry(Study(study_id, patient), line))
        entry.times = {**times, **{name: min(time, times.get(name, time)) for name, time in entry.times.items()}}
        entry.study.split = _same_split(entry, named_split(values.get("split", ""), at), at)
        entry.study.views[view].append(picture)
        note = report_note(
            values.get("text", ""),
            values.get("section_findings", ""),
            values.get("section_impression", ""),
            _labels(values.get("labels", ""), at),
        )
        entry.study.notes[picture] = note
    _order(entries.values())
    _name(entries)
    yield from rows(entry.study for entry in entries.values())


def _rows(
    path: Path, columns: Mapping[str, str], told: Callable[[Mapping[str, str]], None]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Values by field."""
    names: dict[str, str] = {}
    for line, row in read_csv(path):
        if not names:
            names = _names(path, list(row), columns)
            told(names)
        values = {name: row[column] for name, column in names.items()}
        if missing := [name for name in ("patient_id", "image_path") if not values[name]]:
            raise TableError(f"{path}, line {line}: {names[missing[0]]} is empty.")
        yield line, values


def _names(path: Path, header: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Column by field."""
    if unknown := sorted(set(columns) - set(MANIFEST_FIELDS)):
        raise TableError(f"--column {unknown[0]}=...: expected one of {', '.join(MANIFEST_FIELDS)} before the sign.")
    if absent := sorted(set(filter(None, columns.values())) - set(header)):
        raise TableError(f"{path}: no column {absent[0]}, named with --column; found {', '.join(header)}.")
    known = {name.lower(): name for name in reversed(header)}
    names = {}
    for name, aliases in MANIFEST_FIELDS.items():
        if name in columns:
            column = columns[name]
        else:
            column = next((known[alias] for alias in (name, *aliases) if alias in known), "")
        if column:
            names[name] = column
    times = names.keys() & {"study_id", *TIMES}
    if missing := [name for name in REQUIRED if name not in names] + ([] if times else ["study_id"]):
        raise TableError(
            f"{path}: column {', '.join(missing)} missing; found {', '.join(header)}. Name it with"
            f" --column {missing[0]}=COLUMN."
        )
    return names


def _taken(values: Mapping[str, str], patient: str, at: str) -> str:
    for name in TIMES:
        if values.get(name):
            return f"{patient}_{values[name]}"
    raise TableError(f"{at}: the picture is of no study: study_id and its time ({', '.join(TIMES)}) are empty.")


def _view(given: str) -> str:
    name = " ".join(given.lower().replace("-", " ").replace("_", " ").split())
    if name in VIEW_OF:
        return VIEW_OF[name]
    return next((VIEW_OF[start.strip()] for start in POSTURES if name.startswith(start)), "")


def _time(name: str, given: str, at: str) -> float:
    try:
        if name == "study_date":
            return datetime.fromisoformat(given).replace(tzinfo=None).toordinal()
        number = float(given)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        expected = "YYYY-MM-DD or YYYYMMDD" if name == "study_date" else "a number"
        raise TableError(f"{at}: {name} is {given!r}, expected {expected}, or empty.")
    return number


def _labels(given: str, at: str) -> str:
    names = [" ".join(name.split()) for name in given.split(";") if name.strip()]
    if long := next((name for name in names if len(name.split()) > WORDS), ""):
        raise TableError(
            f"{at}: expected names of findings, found the text {long[:40]!r}; if the column is a section of the report,"
            " say --column section_findings=COLUMN --column labels="
        )
    return ";".join(names)


def _same_split(entry: _Entry, split: str, at: str) -> str:
    if entry.study.views and entry.study.split != split:
        raise TableError(
            f"{at}: study {entry.study.study_id} is of split {split!r} here and {entry.study.split!r} in line"
            f" {entry.line}; a study has one."
        )
    return split


def _order(entries: Iterable[_Entry]) -> None:
    """One kind of time orders a patient's studies: days since admission and dates cannot be compared."""
    by_patient: dict[str, list[_Entry]] = defaultdict(list)
    for entry in entries:
        by_patient[entry.study.patient_id].append(entry)
    for history in by_patient.values():
        kind = max(TIMES, key=lambda name: sum(name in entry.times for entry in history))
        for entry in history:
            entry.study.when = entry.times.get(kind)


def _name(entries: Mapping[tuple[str, str], _Entry]) -> None:
    """Study identifiers that are a patient's own, as study1, get the patient's before them."""
    patients = Counter(study_id for _, study_id in entries)
    if max(patients.values(), default=0) > 1:
        for entry in entries.values():
            entry.study.study_id = f"{entry.study.patient_id}/{entry.study.study_id}"
