"""What a prepared table holds, in figures."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...alta import SLOTS
from ...text import report_body
from .table import SPLITS, Skipped, StudyRow

__all__ = ["Prepared", "summarise"]

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Prepared:
    """Figures of a table. studies and patients_of by split; slots filled; skipped by reason; text_only: studies without
    a frontal picture; words: of the text that is encoded, at the median, the 95th percentile and the most;
    distinct_reports: fewer than studies where one text stands for several; labels: studies by finding."""

    studies: dict[str, int]
    patients: int
    patients_of: dict[str, int]
    slots: dict[str, int]
    text_only: int
    words: dict[str, int]
    distinct_reports: int
    labels: dict[str, int]
    skipped: dict[str, int]


def summarise(rows: Sequence[StudyRow], skipped: Iterable[Skipped]) -> Prepared:
    split_of = {row.patient_id: row.split for row in rows}
    bodies = [report_body(row.findings, row.impression, row.text) for row in rows]
    lengths = sorted(len(body.split()) for body in bodies)
    labels = Counter(label.strip() for row in rows for label in (row.labels or UNKNOWN).split(";"))
    return Prepared(
        studies={split: sum(row.split == split for row in rows) for split in SPLITS},
        patients=len(split_of),
        patients_of={split: sum(of == split for of in split_of.values()) for split in SPLITS},
        slots={slot: sum(bool(getattr(row, slot)) for row in rows) for slot in SLOTS},
        text_only=sum(not row.current_frontal for row in rows),
        words={
            "median": lengths[len(lengths) // 2],
            "p95": lengths[min(len(lengths) - 1, len(lengths) * 95 // 100)],
            "most": lengths[-1],
        },
        distinct_reports=len(set(bodies)),
        labels=dict(labels.most_common()),
        skipped=dict(Counter(entry.reason for entry in skipped)),
    )
