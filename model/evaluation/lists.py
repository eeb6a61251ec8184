"""Lists of what a protocol evaluates: a CSV of identifiers that its owner holds. docs/evaluation.md has the format."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ..csv_file import TableError, read_csv
from ..encoder import StudyImages
from ..errors import InputError
from ..text import report_body

__all__ = ["EvaluationList", "ListError", "ListRow", "read_list"]

FRONTAL = "current_frontal"
SLOTS = tuple(field.name for field in fields(StudyImages))
ALIASES = {"image_path": FRONTAL, "report": "text"}  # ours is the name that `alta data prepare` writes
ABSENT = ("", "-1")  # a slot without an image
EVERY_SPLIT = "all"


class ListError(InputError):
    slug = "bad-evaluation-list"


@dataclass(frozen=True)
class ListRow:
    """One line. images by slot, only those that are there; values: every column by name, stripped."""

    line: int
    patient: str
    images: Mapping[str, Path]
    values: Mapping[str, str]

    @property
    def body(self) -> str:
        """The report as the encoders read it: findings and impression, or the whole text."""
        return report_body(self.values.get("findings"), self.values.get("impression"), self.values.get("text", ""))


@dataclass(frozen=True)
class EvaluationList:
    path: Path
    columns: tuple[str, ...]
    rows: tuple[ListRow, ...]

    @property
    def patients(self) -> np.ndarray:
        """(R,) names."""
        return np.array([row.patient for row in self.rows])

    def error(self, row: ListRow, message: str) -> ListError:
        return ListError(f"{self.path}, line {row.line}: {message}")

    def require(self, *columns: str) -> None:
        """Raise ListError unless every column is there. ``a|b`` is satisfied by either."""
        if missing := [names for names in columns if not set(names.split("|")) & set(self.columns)]:
            wanted = ", ".join(name.replace("|", " or ") for name in missing)
            raise ListError(f"{self.path}: expected a column {wanted}; found {', '.join(self.columns) or 'nothing'}.")

    def select(self, keep: Callable[[ListRow], bool]) -> "EvaluationList":
        return EvaluationList(self.path, self.columns, tuple(row for row in self.rows if keep(row)))

    def require_images(self) -> None:
        """Raise ListError for the first row without a frontal image, or with that of another row, or whose files are
        not there."""
        seen: dict[Path, int] = {}  # line, by frontal image
        for row in self.rows:
            if FRONTAL not in row.images:
                raise self.error(row, "image_path is empty.")
            if (first := seen.setdefault(row.images[FRONTAL].resolve(), row.line)) != row.line:
                raise self.error(row, f"the image is that of line {first}; it would count twice, and find itself.")
            for path in row.images.values():
                if not path.is_file():
                    raise self.error(row, f"{path} is not there. Paths are relative to the list, or to --images.")

    def require_patients(self) -> None:
        for row in self.rows:
            if not row.values.get("patient_id"):
                raise self.error(row, "patient_id is empty; intervals resample patients and leaks are found by them.")

    def classes(self, known: Collection[str], aliases: Mapping[str, str] | None = None) -> list[str]:
        """The class of every row, as ``known`` spells it. Raises ListError for an unknown one."""
        names = {_plain(name): name for name in known}
        names |= {_plain(alias): name for alias, name in (aliases or {}).items()}
        found = []
        for row in self.rows:
            given = row.values.get("class", "")
            if _plain(given) not in names:
                raise self.error(row, f"class is {given!r}, expected one of {', '.join(known)}.")
            found.append(names[_plain(given)])
        return found


def read_list(path: Path, images: Path | None = None, split: str = "test") -> EvaluationList:
    """Rows of a list. Relative image paths start at ``images``, else at the list's folder.

    split: where there is a column of that name, only these rows, unless "all". Raises ListError.
    """
    root = images or path.parent
    columns: tuple[str, ...] = ()
    rows = []
    try:
        for line, given in read_csv(path):
            columns = columns or _columns(path, tuple(given))
            rows.append(_row(line, dict(zip(columns, given.values(), strict=True)), root))
    except TableError as error:
        raise ListError(error.message) from error
    kept = tuple(row for row in rows if split == EVERY_SPLIT or row.values.get("split", split) == split)
    if not kept:
        found = sorted({row.values.get("split", "") for row in rows}) if rows else []
        raise ListError(
            f"{path}: no row of split {split!r}" + (f"; found {found}. Name another with --split." if found else ".")
        )
    return EvaluationList(path, columns, kept)


def _columns(path: Path, given: tuple[str, ...]) -> tuple[str, ...]:
    columns = tuple(ALIASES.get(name, name) for name in given)
    if repeated := sorted({name for name in columns if columns.count(name) > 1}):
        raise ListError(f"{path}: expected every column once; {', '.join(repeated)} comes twice (or as its alias).")
    return columns


def _row(line: int, values: Mapping[str, str], root: Path) -> ListRow:
    slots = {slot: root / values[slot] for slot in SLOTS if values.get(slot, "") not in ABSENT}
    # A text query has no patient: it is drawn by itself.
    return ListRow(line, values.get("patient_id") or f"line {line}", slots, values)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())
