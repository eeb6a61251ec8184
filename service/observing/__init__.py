"""What is seen of the service from outside: metrics, traces, and which request or job a log line belongs to."""

from .answers import Answers
from .metrics import UNMATCHED, Metrics, Stage
from .observer import Observer
from .tracing import Traces, Tracing, require_tracing
from .watch import ArchiveWatch
from .work import Work, count_refused_file, record_stage, stage, work_now, working_on

__all__ = [
    "UNMATCHED",
    "Answers",
    "ArchiveWatch",
    "Metrics",
    "Observer",
    "Stage",
    "Traces",
    "Tracing",
    "Work",
    "count_refused_file",
    "record_stage",
    "require_tracing",
    "stage",
    "work_now",
    "working_on",
]
