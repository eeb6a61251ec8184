"""From studies as a data set names them to a table: pictures that exist, whole patients in one split."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ...alta import SLOTS
from ...checkpoint import write_whole
from .table import SPLITS, StudyRow, TableError, write_table

__all__ = ["Prepared", "prepare", "split_of"]


@dataclass(frozen=True)
class Prepared:
    """What was written. studies by split; slots filled; skipped and emptied by reason."""

    studies: dict[str, int]
    patients: int
    slots: dict[str, int]
    skipped: dict[str, int]


def prepare(
    studies: Iterable[StudyRow],
    output: Path,
    seed: int = 0,
    validate_share: float = 0.05,
    test_share: float = 0.1,
    max_bad_share: float = 0.01,
    exclude: Collection[str] = (),
    progress: Callable[[int], None] = lambda done: None,
) -> Prepared:
    """Write ``studies.csv``, ``summary.json`` and ``skipped.jsonl`` into ``output``.

    A study whose frontal picture is missing is skipped; another missing picture empties its slot. Patients in
    ``exclude``, those of an evaluation list, are left out. A row without a split gets one by ``split_of``.
    Raises TableError when more than ``max_bad_share`` of the pictures are missing, or when nothing is left.
    """
    rows: list[StudyRow] = []
    skipped: list[dict[str, str]] = []
    pictures = missing = 0
    left_out = set(exclude)
    for done, row in enumerate(studies, start=1):
        progress(done)
        if row.patient_id in left_out:
            skipped.append({"study_id": row.study_id, "reason": "patient of the exclusion list"})
            continue
        absent = [slot for slot in SLOTS if (path := getattr(row, slot)) and not Path(path).is_file()]
        pictures += sum(map(bool, row.slots()))
        missing += len(absent)
        skipped += [
            {"study_id": row.study_id, "reason": f"{slot} missing", "path": getattr(row, slot)} for slot in absent
        ]
        if SLOTS[0] in absent:
            continue
        if not (row.findings or row.impression or row.text):
            skipped.append({"study_id": row.study_id, "reason": "no report"})
            continue
        rows.append(replace(row, **dict.fromkeys(absent, "")))
    output.mkdir(parents=True, exist_ok=True)
    write_whole(output / "skipped.jsonl", "".join(json.dumps(entry) + "\n" for entry in skipped).encode())
    if missing > max_bad_share * pictures:
        raise TableError(
            f"{missing} of {pictures} pictures are missing, more than the allowed share of {max_bad_share:g};"
            f" {output / 'skipped.jsonl'} lists them. Mend the paths, or allow more with --max-bad-share."
        )
    if not rows:
        raise TableError(f"No study is left; {output / 'skipped.jsonl'} says why.")
    rows = _split(rows, seed, validate_share, test_share)
    write_table(output / "studies.csv", rows)
    prepared = Prepared(
        {split: sum(row.split == split for row in rows) for split in SPLITS},
        len({row.patient_id for row in rows}),
        {slot: sum(bool(getattr(row, slot)) for row in rows) for slot in SLOTS},
        dict(Counter(entry["reason"] for entry in skipped)),
    )
    write_whole(output / "summary.json", (json.dumps({**vars(prepared), "seed": seed}, indent=2) + "\n").encode())
    return prepared


def split_of(patient_id: str, seed: int, validate_share: float, test_share: float) -> str:
    """By a hash of the patient alone: adding patients never moves one from split to split."""
    digest = hashlib.sha256(f"{seed}:{patient_id}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    if place < test_share:
        return "test"
    return "validate" if place < test_share + validate_share else "train"


def _split(rows: list[StudyRow], seed: int, validate_share: float, test_share: float) -> list[StudyRow]:
    """Each row its split; a data set's own split is kept but for patients it puts in two, who go where most is held
    out."""
    given: dict[str, set[str]] = {}
    for row in rows:
        given.setdefault(row.patient_id, set()).add(row.split)
    chosen = {
        patient: max(splits, key=SPLITS.index)
        if splits <= set(SPLITS)
        else split_of(patient, seed, validate_share, test_share)
        for patient, splits in given.items()
    }
    return [replace(row, split=chosen[row.patient_id]) for row in rows]
