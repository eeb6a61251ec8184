"""Whether encoders have been trained on a patient who is to judge them."""

import csv
import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path

from ..errors import CheckpointError, InputError

__all__ = ["LeakError", "recorded_table", "require_no_leak"]

RECORD = "training.json"  # written into the checkpoint by training on a table
SEEN = ("train", "validate", "validation", "valid", "val")  # validation chose the checkpoint
SHOWN = 5
REMEDY = "Name the table with --training-table, or pass --no-leak-check and answer for it."


class LeakError(InputError):
    slug = "evaluation-leak"


def recorded_table(model: Path) -> Path | None:
    """The table that ``training.json`` of a checkpoint names, None where there is no record of one.

    Raises CheckpointError when it is recorded but not there, or is another by its SHA-256.
    """
    try:
        record = json.loads((model / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{model / RECORD} cannot be read: {error}. {REMEDY}") from error
    if not isinstance(record, dict) or not record.get("table"):
        return None
    named = Path(record["table"])
    found = next((path for path in (named, model / named) if path.is_file()), None)
    if found is None:
        raise CheckpointError(f"{model} was trained on {named}, which is not there. {REMEDY}")
    expected = record.get("table_sha256")
    if expected and hashlib.sha256(found.read_bytes()).hexdigest() != expected:
        raise CheckpointError(f"{found} has changed since {model} was trained on it (another SHA-256). {REMEDY}")
    return found


def require_no_leak(patients: Collection[str], tables: Sequence[Path]) -> None:
    """Raise LeakError when a patient of the list is in a table as training or validation."""
    listed = set(patients)
    for table in tables:
        if shared := sorted(listed & _seen_patients(table)):
            more = f" and {len(shared) - SHOWN} more" if len(shared) > SHOWN else ""
            raise LeakError(
                f"{len(shared)} of the {len(listed)} patients to be evaluated were trained on, by {table}:"
                f" {', '.join(shared[:SHOWN])}{more}. Figures would be too good. Take them off the list, or train with"
                " the list's patients excluded."
            )


def _seen_patients(table: Path) -> set[str]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if missing := [name for name in ("patient_id", "split") if name not in (reader.fieldnames or ())]:
                raise LeakError(f"{table}: column {', '.join(missing)} missing; expected the table of the training.")
            return {(r["patient_id"] or "").strip() for r in reader if (r["split"] or "").strip() in SEEN} - {""}
    except (OSError, UnicodeDecodeError) as error:
        raise LeakError(f"{table}: the training table cannot be read: {error}.") from error
