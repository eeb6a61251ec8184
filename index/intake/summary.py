"""What a run tells at its end."""

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["IngestSummary"]


@dataclass
class IngestSummary:
    """What one run met. accepted: new; updated: content or facts changed; refused: by reason (slug), whether the
    refusal is new or known from an earlier run. The reports likewise."""

    accepted: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    studies_new: int = 0
    reports_matched: int = 0
    reports_unmatched: int = 0
    reports_withdrawn: int = 0
    reports_refused: Counter[str] = field(default_factory=Counter)
    report_rows: set[int] = field(default_factory=set, repr=False)  # those met, to be counted once they are matched
