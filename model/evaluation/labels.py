"""Findings that a list says its images show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..prompts import PromptPair
from .lists import FRONTAL, EvaluationList
from .prompt_files import PromptFileError

__all__ = ["Labels", "read_labels"]

LABEL_COLUMNS = ("labels", "findings")  # one cell with all findings, joined by ";"
NO_FINDING = "No Finding"
YES, NO, UNKNOWN = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no"), ("", "-1", "-1.0")


@dataclass(frozen=True)
class Labels:
    """has (R,) bool by finding, and known (R,) bool: whether the list says so or not."""

    has: dict[str, np.ndarray]
    known: dict[str, np.ndarray]


def read_labels(rows: EvaluationList, prompts: Mapping[str, PromptPair], findings: Sequence[str] = ()) -> Labels:
    """Labels of the findings that are asked: ``findings``, else every one that the list names.

    Either a column a finding (1, 0; empty and -1 are unknown), or one column ``labels`` or ``findings`` with the
    positive ones joined by ";" ("No Finding" for none; an empty cell is unknown). Raises ListError, or PromptFileError
    for a finding without prompts.
    """
    if unknown := [name for name in findings if name not in prompts]:
        raise PromptFileError(
            f"--finding {', '.join(unknown)}: there are no prompts for it. Known: {', '.join(prompts)}. Name one of"
            " these, or give prompts with --prompts."
        )
    rows.require(FRONTAL, "patient_id")
    rows.require_patients()
    rows.require_images()
    columns = [name for name in findings or prompts if name in rows.columns]
    if columns:
        return _from_columns(rows, columns)
    cell = next((name for name in LABEL_COLUMNS if name in rows.columns), None)
    if cell is None:
        rows.require("|".join((*list(prompts)[:2], *LABEL_COLUMNS)))
    return _from_cells(rows, str(cell), prompts, findings)


def _from_columns(rows: EvaluationList, columns: Sequence[str]) -> Labels:
    for row in rows.rows:
        for name in columns:
            if row.values[name].lower() not in (*YES, *NO, *UNKNOWN):
                raise rows.error(row, f"{name} is {row.values[name]!r}, expected 1, 0, or empty or -1 for unknown.")
    cells = {name: np.array([row.values[name].lower() for row in rows.rows]) for name in columns}
    return Labels(
        {name: np.isin(given, YES) for name, given in cells.items()},
        {name: ~np.isin(given, UNKNOWN) for name, given in cells.items()},
    )


def _from_cells(
    rows: EvaluationList, column: str, prompts: Mapping[str, PromptPair], findings: Sequence[str]
) -> Labels:
    named = [{part.strip() for part in row.values[column].split(";")} - {""} for row in rows.rows]
    for row, names in zip(rows.rows, named, strict=True):
        strange = sorted(names - set(prompts) - {NO_FINDING})
        if strange and not findings:
            raise rows.error(
                row,
                f"{column} has {', '.join(strange)}, for which there are no prompts. Known: {', '.join(prompts)}."
                " Give prompts with --prompts, or name the findings to ask with --finding.",
            )
    asked = list(findings) or [name for name in prompts if any(name in names for names in named)]
    if not asked:
        raise rows.error(rows.rows[0], f"no row of {column} names a finding.")
    known = np.array([bool(names) for names in named])
    return Labels({name: np.array([name in names for names in named]) for name in asked}, dict.fromkeys(asked, known))
