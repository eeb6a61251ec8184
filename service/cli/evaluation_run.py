"""What every ``alta evaluate`` command does around its protocol: encoders by name, the leak check, the output."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from model.errors import AltaError

from ..settings import Settings
from .console import console, staged_progress

if TYPE_CHECKING:
    from index.pairs import Pairs
    from model.alta_encoder import AltaEncoder
    from model.evaluation.comparison import Comparison
    from model.evaluation.embedding import Progress
    from model.evaluation.lists import EvaluationList
    from model.evaluation.outcome import Outcome
    from model.evaluation.report import Report

__all__ = [
    "UNCHECKED",
    "Asked",
    "check_leaks",
    "facts_of",
    "leave_out_trained",
    "load",
    "name_models",
    "publish",
    "require_writable",
    "run_protocol",
]

UNCHECKED = "Leak check: switched off (--no-leak-check)."


@dataclass(frozen=True)
class Asked:
    """What the options of every protocol say."""

    rows: Path
    models: Sequence[Path]
    images: Path | None
    split: str
    training_tables: Sequence[Path]
    leak_check: bool
    output: Path | None
    rounds: int
    options: Mapping[str, Any] = field(default_factory=dict)  # the protocol's own

    def spoken(self) -> dict[str, Any]:
        """What the options say that decides figures, for the results: those that are given."""
        given = {"split": self.split, "images": self.images, **self.options}
        return {name: str(value) if isinstance(value, Path) else value for name, value in given.items() if value}


def run_protocol(
    protocol: str, asked: Asked, evaluate: "Callable[[AltaEncoder, EvaluationList, Progress], Outcome]"
) -> None:
    """One protocol over a list, for every encoder in turn, compared and published."""
    from model.checkpoint import read_fingerprint
    from model.evaluation.comparison import compare
    from model.evaluation.lists import read_list
    from model.evaluation.report import Report

    rows = read_list(asked.rows, asked.images, asked.split)
    models = name_models(asked.models)
    for path in models.values():
        read_fingerprint(path)  # that of the last would else be found missing after hours with the first
    if asked.output is not None:
        require_writable(asked.output)
    leaks = check_leaks(asked, rows, list(models.values()))
    outcomes, facts = {}, {}
    with staged_progress() as progress:
        for name, path in models.items():
            encoder = load(path)  # one at a time: they need not fit into memory together
            report = partial(_report, progress, f"{name}: " if len(models) > 1 else "")
            outcomes[name] = evaluate(encoder, rows, report)
            facts[name] = {"path": str(path), "fingerprint": encoder.fingerprint}
    part = compare(outcomes, asked.rounds)
    found = {"list": facts_of(rows), "models": facts, "options": asked.spoken(), "leak_check": leaks}
    publish(Report(protocol, {protocol: part}, {protocol: outcomes}, found, (leaks,), asked.rounds), asked.output)


def _report(progress: "Progress", prefix: str, stage: str, done: int, total: int) -> None:
    progress(prefix + stage, done, total)


def require_writable(folder: Path) -> None:
    """Raise AltaError now rather than when the figures are there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise AltaError(f"{folder}: nothing can be written there: {error.strerror or error}.") from error


def load(path: Path) -> "AltaEncoder":
    from model.alta_encoder import load_encoder

    settings = Settings()
    return load_encoder(path, settings.device, settings.dtype)


def name_models(given: Sequence[Path]) -> dict[str, Path]:
    """Folders by a name to show: of each the shortest end of its path that no other folder ends in. None given: the
    configured encoders."""
    paths = list(given) or [Settings().model_path]
    folders = {path.resolve() for path in paths}
    found: dict[str, Path] = {}
    for path in paths:
        parts = path.resolve().parts
        ends = ("/".join(parts[-length:]) for length in range(1, len(parts)))
        alike = (end for end in ends if sum(f"/{folder.as_posix()}".endswith(f"/{end}") for folder in folders) == 1)
        name = unique = next(alike, str(path))
        number = 2
        while unique in found:
            unique, number = f"{name} ({number})", number + 1
        found[unique] = path
    return found


def check_leaks(asked: Asked, rows: "EvaluationList", models: Sequence[Path]) -> str:
    """What was checked, in a sentence. Raises LeakError."""
    from model.evaluation.leaks import require_no_leak

    if not asked.leak_check:
        return UNCHECKED
    tables, unnamed = training_tables(asked.training_tables, models)
    require_no_leak([row.patient for row in rows.rows], tables, {p for row in rows.rows for p in row.images.values()})
    said = [f"no patient was trained on, by {', '.join(map(str, tables))}"] if tables else []
    return f"Leak check: {'; '.join((*said, *unnamed))}."


def leave_out_trained(pairs: Sequence["Pairs"], named: Sequence[Path], models: Sequence[Path]) -> tuple[str, set[str]]:
    """What was checked, in a sentence, and the studies of the archive whose patients were trained on."""
    from model.evaluation.leaks import trained_studies

    tables, said = training_tables(named, models)
    patient_of: dict[str, int] = {}
    for found in pairs:
        patient_of |= dict(zip(found.study_instance_uids, found.patients.tolist(), strict=True))
    patients = {patient_of[uid] for uid in trained_studies(tables) & patient_of.keys()}
    known = {uid for uid, patient in patient_of.items() if patient in patients}
    if known:
        said = [f"{len(known)} studies of {len(patients)} patients that were trained on are left out", *said]
    elif tables:
        nothing = f"none of the archive's studies is in {', '.join(map(str, tables))} by its Study Instance UID"
        said = [f"{nothing}, so none is left out; a table with other identifiers could not be matched", *said]
    return f"Leak check: {'; '.join(said)}.", known


def training_tables(named: Sequence[Path], models: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The tables that are named or recorded, and what is to be said where there is none. Raises CheckpointError."""
    from model.evaluation.leaks import recorded_tables

    recorded = recorded_tables(models)
    if recorded.lost and not named:
        raise recorded.lost[0]
    unnamed = "" if named else ", ".join(map(str, recorded.unnamed))
    said = [f"not done for {unnamed}, which names no training table (--training-table)"] if unnamed else []
    said += [f"could not be checked, unless by a named table: {loss}" for loss in recorded.losses]
    return list(dict.fromkeys((*named, *recorded.tables))), said


def facts_of(rows: "EvaluationList") -> dict[str, Any]:
    return {
        "path": str(rows.path),
        "sha256": hashlib.sha256(rows.path.read_bytes()).hexdigest(),
        "rows": len(rows.rows),
        "patients": len({row.patient for row in rows.rows}),
    }


def publish(report: "Report", output: Path | None) -> None:
    """Tables and notes for people, the folder where one is asked for, and the last line for programs, which at a
    terminal would push the table away: there the folder has it."""
    from model.evaluation.report import write_report

    for title, part in report.parts.items():
        console.print(_table(title, part))
    for note in report.all_notes:
        console.print(note, markup=False, soft_wrap=True)
    failure = None
    if output is not None:
        try:
            missing = write_report(report, output)
        except OSError as error:
            failure = AltaError(f"{output}: the results cannot be written: {error.strerror or error}. They are above.")
        else:
            console.print(f"Results written to {output}.", markup=False, soft_wrap=True)
            if missing:
                console.print(missing, markup=False, soft_wrap=True)
    if output is None or failure or not sys.stdout.isatty():
        print(json.dumps(report.as_json()))
    if failure:
        raise failure


def _table(title: str, part: "Comparison") -> Table:
    from model.evaluation.report import difference_title, shown

    compared = part.columns[1:]
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("figure", no_wrap=True)
    for name in (*part.columns, *(difference_title(part, name) for name in compared)):
        table.add_column(name, overflow="fold")  # the end of a path tells encoders apart
    for name in ("chance", "over"):
        table.add_column(name, justify="right")
    for row in part.rows:
        values = [shown(row.intervals[name]) for name in part.columns]
        differences = [shown(row.differences[name]) for name in compared]
        chance = "" if row.chance is None else f"{row.chance:.3f}"
        table.add_row(row.name, *values, *differences, chance, "" if row.over is None else str(row.over))
    return table
