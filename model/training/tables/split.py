"""Who trains, who chooses the checkpoint, who evaluates: always whole patients."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .table import SPLITS, StudyRow, TableError

__all__ = ["Folds", "more_held_out", "named_split", "split_of", "split_patients"]

NAMES = {
    "": "", "train": "train", "training": "train", "test": "test",
    "validate": "validate", "validation": "validate", "valid": "validate", "val": "validate", "dev": "validate",
}  # fmt: skip


@dataclass(frozen=True)
class Folds:
    """Cross-validation: fold ``test`` (1 to ``count``) evaluates, the next chooses the checkpoint, others train."""

    count: int
    test: int

    def __post_init__(self) -> None:
        if self.count < 3:
            raise TableError(f"--folds is {self.count}, expected at least 3: one tests, one validates, the rest train.")
        if not 1 <= self.test <= self.count:
            raise TableError(f"--fold is {self.test}, expected 1 to {self.count}.")

    def split_of(self, patient_id: str, seed: int) -> str:
        fold = int(_place(patient_id, seed) * self.count) + 1
        return {self.test: "test", self.test % self.count + 1: "validate"}.get(fold, "train")


def named_split(given: str, where: str) -> str:
    """A data set's name of a split as ours, empty for none. Raises TableError that begins with ``where``."""
    try:
        return NAMES[given.strip().lower()]
    except KeyError:
        known = ", ".join(name for name in NAMES if name)
        raise TableError(f"{where}: split is {given!r}, expected {known}, or empty to have one drawn.") from None


def more_held_out(*splits: str) -> str:
    """Of the splits that one study or patient is given: what tests must not train. Empty where none is given."""
    return max((split for split in splits if split), key=SPLITS.index, default="")


def split_of(patient_id: str, seed: int, validate_share: float, test_share: float) -> str:
    """By a hash of the patient alone: adding patients never moves one from split to split."""
    place = _place(patient_id, seed)
    if place < test_share:
        return "test"
    return "validate" if place < test_share + validate_share else "train"


def split_patients(
    rows: list[StudyRow], seed: int, validate_share: float, test_share: float, folds: Folds | None = None
) -> list[StudyRow]:
    """Each row its split.

    ``folds`` decides for everybody. Else a data set's own split is kept, but for patients whom it puts in two: they go
    where most is held out. Where it has no validating patients, ``validate_share`` of its training patients become
    them. A patient without a split gets one by ``split_of``, or trains if there is no frontal picture to test with.
    """
    given: dict[str, set[str]] = {}
    pictured: dict[str, bool] = {}
    for row in rows:
        given.setdefault(row.patient_id, set()).add(row.split)
        pictured[row.patient_id] = pictured.get(row.patient_id, False) or bool(row.current_frontal)
    if folds:
        chosen = {patient: folds.split_of(patient, seed) if pictured[patient] else "train" for patient in given}
    else:
        chosen = _own(given)
        if chosen and "validate" not in chosen.values():
            for patient in [patient for patient, split in chosen.items() if split == "train"]:
                chosen[patient] = split_of(patient, seed, validate_share, 0.0) if pictured[patient] else "train"
        for patient in given.keys() - chosen.keys():
            chosen[patient] = split_of(patient, seed, validate_share, test_share) if pictured[patient] else "train"
    return [replace(row, split=chosen[row.patient_id]) for row in rows]


def _own(given: Mapping[str, set[str]]) -> dict[str, str]:
    chosen = {patient: more_held_out(*splits) for patient, splits in given.items()}
    return {patient: split for patient, split in chosen.items() if split}


def _place(patient_id: str, seed: int) -> float:
    """Of a patient in [0, 1)."""
    digest = hashlib.sha256(f"{seed}:{patient_id}".encode()).digest()
    # 53 bits: a float holds them exactly, so that the largest stays below one.
    return (int.from_bytes(digest[:8]) >> 11) / 2**53
