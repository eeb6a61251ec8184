"""Whether encoders have been trained on a patient who is to judge them."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..alta import SLOTS
from ..csv_file import TableError, read_csv
from ..errors import CheckpointError, InputError
from ..training.output import RECORD
from ..training.tables import named_split

__all__ = ["LeakError", "Recorded", "recorded_table", "recorded_tables", "require_no_leak", "trained_studies"]

TABLES = (".csv", ".csv.gz")  # how the name of a table ends
SHOWN = 5
REMEDY = "Name the table with --training-table, or pass --no-leak-check and answer for it."


class LeakError(InputError):
    slug = "evaluation-leak"


@dataclass(frozen=True)
class Recorded:
    """What encoders, and the checkpoints that they were adapted from, name as their training tables. unnamed: folders
    and published files that name none; lost: tables and bases that are named and cannot be checked."""

    tables: tuple[Path, ...]
    unnamed: tuple[Path, ...]
    lost: tuple[CheckpointError, ...]

    @property
    def losses(self) -> tuple[str, ...]:
        """What cannot be checked, without the remedy."""
        return tuple(error.message.removesuffix(f" {REMEDY}").removesuffix(".") for error in self.lost)


def recorded_tables(models: Sequence[Path]) -> Recorded:
    """By ``training.json`` of every folder, of the checkpoint it started from, and so on."""
    tables: dict[Path, None] = {}
    unnamed: list[Path] = []
    lost: list[CheckpointError] = []
    waiting, seen = list(models), set()
    while waiting:
        folder = waiting.pop(0)
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        try:
            base = (_record(folder).get("config") or {}).get("base") or {}
        except CheckpointError as error:
            lost.append(error)
            continue
        if base.get("checkpoint"):
            try:
                waiting.append(_base(folder, Path(base["checkpoint"])))
            except CheckpointError as error:
                lost.append(error)
        elif base.get("mrm"):
            unnamed.append(Path(base["mrm"]))
        try:
            table = recorded_table(folder)
        except CheckpointError as error:
            lost.append(error)
            continue
        if table is None:
            unnamed.append(folder)
        else:
            tables[table] = None
    return Recorded(tuple(tables), tuple(unnamed), tuple(lost))


def recorded_table(model: Path) -> Path | None:
    """The table that ``training.json`` of a checkpoint names, None where there is no record of one.

    Raises CheckpointError when it is recorded but not there, or is another by its SHA-256.
    """
    record = _record(model)
    if not record.get("table"):
        return None
    named = Path(record["table"])
    found = next((path for path in (named, model / named) if path.is_file()), None)
    if found is None:
        raise CheckpointError(f"{model} was trained on {named}, which is not there. {REMEDY}")
    expected = record.get("table_sha256")
    if expected and hashlib.sha256(found.read_bytes()).hexdigest() != expected:
        raise CheckpointError(f"{found} has changed since {model} was trained on it (another SHA-256). {REMEDY}")
    return found


def require_no_leak(patients: Collection[str], tables: Sequence[Path], pictures: Collection[Path] = ()) -> None:
    """Raise LeakError when a table has a patient of the list, or one of its ``pictures``, in another split than test.

    Pictures tell where a table has patients under other names, as that of an archive.
    """
    listed, shown = set(patients), {str(path.resolve()) for path in pictures}
    for table in tables:
        rows = _trained_on(table)
        seen = {str((table.parent / row[slot]).resolve()) for row in rows for slot in SLOTS if row.get(slot)}
        if shared := sorted(listed & {row["patient_id"] for row in rows}):
            raise LeakError(
                f"{len(shared)} of the {len(listed)} patients to be evaluated were trained on, by {table}:"
                f" {_first(shared)}. Figures would be too good. Take them off the list, or train with the list's"
                " patients excluded."
            )
        if known := sorted(shown & seen):
            raise LeakError(
                f"{len(known)} of the {len(shown)} images to be evaluated were trained on, by {table}, whose patients"
                f" have other names: {_first(known)}. Figures would be too good. Take their patients off the list."
            )


def trained_studies(tables: Sequence[Path]) -> set[str]:
    """``study_id`` of every row that does not test."""
    return {row["study_id"] for table in tables for row in _trained_on(table) if row.get("study_id")}


def _base(model: Path, named: Path) -> Path:
    """The folder of a base. A relative one was named from where training was started, which may lie above the model.

    Raises CheckpointError when there are no encoders: it may have been trained on anybody.
    """
    for start in (Path(), *model.resolve().parents):
        if any((start / named / name).is_file() for name in (RECORD, "config.json")):
            return start / named
    raise CheckpointError(
        f"{model} was adapted from {named}, which is not there, so nobody can tell whom that was trained on. {REMEDY}"
    )


def _record(model: Path) -> dict[str, Any]:
    """``training.json``; empty where encoders have none, as published ones. Raises CheckpointError where it is lost."""
    found = _read(model / RECORD)
    if found is None:
        trained_on = ((_read(model / "config.json") or {}).get("provenance") or {}).get("trained_on")
        if str(trained_on).endswith(TABLES):
            raise CheckpointError(f"{model} was trained on {trained_on}, but its {RECORD} is not there. {REMEDY}")
    return found or {}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. {REMEDY}") from error
    return content if isinstance(content, dict) else {}


def _trained_on(table: Path) -> list[dict[str, str]]:
    """Every row that does not test: validation chose the checkpoint, and a row without a split may have been
    anything."""
    try:
        return [
            row
            for line, row in read_csv(table, ("patient_id", "split"), "Expected the table of the training.")
            if named_split(row["split"], f"{table}, line {line}") != "test"
        ]
    except TableError as error:
        raise LeakError(error.message) from error


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
