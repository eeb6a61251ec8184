"""What the reports of the hits say together: how many mention a finding, on which side, and how many deny it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast

import sqlalchemy as sa

from model.findings import (
    ABSENT,
    BILATERAL,
    FINDINGS,
    LEFT,
    NO_FINDING,
    PRESENT,
    RIGHT,
    UNCERTAIN,
    Assertion,
    Laterality,
    ReportFinding,
)

from ..rows_of import rows_of
from ..tables import MATCHED, Report
from ..tables import ReportFinding as Row

__all__ = ["FindingCount", "read_labels", "summarise_findings"]

_SIDES: Final = (RIGHT, LEFT, BILATERAL)
_PLURAL: Final = frozenset(("Support Devices",))
_LABELS: Final = (
    sa.select(Report.study_id, rows_of(Row.id, Row.finding, Row.assertion, Row.laterality))
    .join(Row, Row.report_id == Report.id)
    .where(Report.study_id.in_(sa.bindparam("ids", expanding=True)), Report.status == MATCHED)
    .group_by(Report.study_id)
)


@dataclass(frozen=True)
class FindingCount:
    """One finding over the reports that were read: present + uncertain + absent + not_mentioned are all of them.

    absent: denied, and not of one side only. sides: of the present ones, those that name a side. sentence: the same in
    words.
    """

    finding: str
    present: int
    uncertain: int
    absent: int
    not_mentioned: int
    sides: Mapping[str, int]
    sentence: str


def read_labels(connection: sa.Connection, study_ids: Sequence[int]) -> dict[int, tuple[ReportFinding, ...]]:
    """What the reports of studies, by row id, say of findings, in the order of ``FINDINGS``; a study whose report was
    not read is absent."""
    if not study_ids:
        return {}
    found = connection.execute(_LABELS, {"ids": study_ids}).all()
    return {study_id: tuple(_label(*row) for _, *row in sorted(rows)) for study_id, rows in found}


def summarise_findings(reports: Sequence[Sequence[ReportFinding]]) -> list[FindingCount]:
    """Every finding that one of these reports asserts, suspects or denies; the most mentioned first.

    reports: what each says, one entry a finding. A report is a hit's; those that a hit stands for are not counted.
    """
    said: dict[str, list[ReportFinding]] = {name: [] for name in FINDINGS}
    for report in reports:
        for row in report:
            if row.finding in said:  # an older version of the rules may have known others
                said[row.finding].append(row)
    counts = [_count(name, rows, len(reports)) for name, rows in said.items() if rows]
    return sorted(counts, key=lambda count: (-count.present, -count.uncertain))


@lru_cache(1024)  # more than rules can say
def _label(finding: str, assertion: str, laterality: str | None) -> ReportFinding:
    return ReportFinding(finding, cast("Assertion", assertion), cast("Laterality | None", laterality))


def _count(finding: str, rows: Sequence[ReportFinding], of: int) -> FindingCount:
    # Who denies a finding on one side has not denied it.
    rows = [row for row in rows if row.assertion != ABSENT or row.laterality in (None, BILATERAL)]
    by_assertion = Counter(row.assertion for row in rows)
    sides = Counter(row.laterality for row in rows if row.assertion == PRESENT and row.laterality)
    present, uncertain, absent = (by_assertion[each] for each in (PRESENT, UNCERTAIN, ABSENT))
    named = {side: sides[side] for side in _SIDES if sides[side]}
    sentence = _sentence(finding, present, uncertain, absent, named, of)
    return FindingCount(finding, present, uncertain, absent, of - len(rows), named, sentence)


def _sentence(finding: str, present: int, uncertain: int, absent: int, sides: Mapping[str, int], of: int) -> str:
    """ "7 of 10 mention right pleural effusion; 1 denies it." """
    if finding == NO_FINDING:
        return f"{present or 'None'} of {of} {_verb(present, 'report')} no abnormality."
    name, it = finding.lower(), "them" if finding in _PLURAL else "it"
    split = ""
    if len(sides) == 1 and sum(sides.values()) == present:
        name = f"{next(iter(sides))} {name}"
    elif sides:
        split = f" ({', '.join(f'{count} {side}' for side, count in sides.items())})"
    parts = [f"{present or 'None'} of {of} {_verb(present, 'mention')} {name}{split}"]
    if uncertain:
        parts.append(f"{uncertain} {_verb(uncertain, 'suspect')} {it}")
    if absent:
        parts.append(f"{absent} {'denies' if absent == 1 else 'deny'} {it}")
    return "; ".join(parts) + "."


def _verb(count: int, verb: str) -> str:
    return verb if count > 1 else f"{verb}s"
