"""The folder of results: results.json, results.md and, where matplotlib is installed, pictures.

with columns of one protocol:   Report("zero-shot-rsna", comparison, outcomes, facts, notes)
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import write_whole
from .comparison import Comparison
from .metrics import TIE_RULE, Interval
from .outcome import Outcome

__all__ = ["Report", "difference_title", "shown", "write_report"]

INTERVALS = (
    "95 % bootstrap intervals that resample patients ({} rounds); differences are paired over the same patients."
)
NO_PLOTS = "No plots: matplotlib is not installed. Next: pip install -c constraints.txt -e '.[train]'"


@dataclass(frozen=True)
class Report:
    """One protocol's results. parts: comparisons by title (most protocols have one); facts go into the JSON as they
    are; notes are sentences."""

    protocol: str
    parts: Mapping[str, Comparison]
    outcomes: Mapping[str, Mapping[str, Outcome]]  # part -> column
    facts: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    rounds: int = 1000
    all_notes: tuple[str, ...] = field(init=False)

    date: str = field(default_factory=lambda: date.today().isoformat())  # ISO 8601

    def __post_init__(self) -> None:
        spoken = [note for part in self.outcomes.values() for note in _spoken(part)]
        ending = (INTERVALS.format(f"{self.rounds:,}"), TIE_RULE)
        object.__setattr__(self, "all_notes", tuple(dict.fromkeys((*self.notes, *spoken, *ending))))

    def as_json(self) -> dict[str, Any]:
        """A figure is [value, low, high]; null where it is undefined."""
        return {
            "protocol": self.protocol,
            "date": self.date,
            **self.facts,
            "rounds": self.rounds,
            "tie_rule": TIE_RULE,
            "notes": list(self.all_notes),
            "figures": {title: part.as_json() for title, part in self.parts.items()},
        }


def _spoken(columns: Mapping[str, Outcome]) -> list[str]:
    """Notes of a part. Where several encoders are compared, one that does not hold for all, or speaks of an encoder,
    begins with the names of those that it is of."""
    of: dict[str, list[str]] = {}
    for column, outcome in columns.items():
        for note in dict.fromkeys((*outcome.notes, *outcome.of_encoder)):
            of.setdefault(note, []).append(column)
    own = {note for outcome in columns.values() for note in outcome.of_encoder}
    plain = {
        note for note, names in of.items() if len(columns) == 1 or (len(names) == len(columns) and note not in own)
    }
    return [note if note in plain else f"{', '.join(names)}: {note}" for note, names in of.items()]


def shown(interval: Interval | None) -> str:
    return "-" if interval is None or np.isnan(interval.value) else str(interval)


def difference_title(comparison: Comparison, column: str) -> str:
    return f"{column} - {comparison.columns[0]}"


def write_report(report: Report, folder: Path) -> str | None:
    """Write the folder; gives a sentence when plots are left out for want of matplotlib, else None."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, bytes] = {}
    missing = None
    try:
        from .plots import draw_plots
    except ImportError:
        missing = NO_PLOTS
    else:
        pictures = draw_plots(report.outcomes)
    for name, content in pictures.items():
        write_whole(folder / name, content)
    write_whole(folder / "results.json", (json.dumps(report.as_json(), indent=2) + "\n").encode())
    write_whole(folder / "results.md", _markdown(report, tuple(pictures)).encode())
    return missing


def _markdown(report: Report, pictures: tuple[str, ...]) -> str:
    lines = [f"# {report.protocol}", "", *_about(report), ""]
    for title, part in report.parts.items():
        if len(report.parts) > 1:
            lines += [f"## {title}", ""]
        compared = part.columns[1:]
        header = ["figure", *part.columns, *(difference_title(part, column) for column in compared), "chance", "over"]
        lines += [_line(header), _line(["---"] * len(header))]
        for row in part.rows:
            values = [shown(row.intervals[column]) for column in part.columns]
            differences = [shown(row.differences[column]) for column in compared]
            chance = "" if row.chance is None else f"{row.chance:.3f}"
            lines.append(_line([row.name, *values, *differences, chance, "" if row.over is None else str(row.over)]))
        lines.append("")
    lines += [f"- {note}" for note in report.all_notes]
    for picture in pictures:
        lines += ["", f"![{picture.removesuffix('.png')}]({picture})"]
    return "\n".join(lines) + "\n"


def _about(report: Report) -> list[str]:
    """What was measured: date, list, encoders, options, as in the JSON."""
    lines = [f"- date: {report.date}"]
    for name, value in report.facts.items():
        if name == "models":
            lines += [f"- encoders {model}: {_pairs(facts)}" for model, facts in value.items()]
        elif name != "leak_check":  # is a note
            lines.append(f"- {name}: {_pairs(value) if isinstance(value, dict) else value}")
    return [*lines, f"- rounds: {report.rounds}"]


def _pairs(facts: Mapping[str, Any]) -> str:
    listed = {name: ", ".join(value) if isinstance(value, list) else value for name, value in facts.items()}
    return "; ".join(f"{name} {value}" for name, value in listed.items())


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
