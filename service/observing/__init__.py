"""What is seen of the service from outside: metrics, and which request or job a log line belongs to."""

from .metrics import UNMATCHED, Metrics, Stage
from .watch import ArchiveWatch
from .work import Work, count_refused_file, record_stage, stage, work_now, working_on

__all__ = [
    "UNMATCHED",
    "ArchiveWatch",
    "Metrics",
    "Stage",
    "Work",
    "count_refused_file",
    "record_stage",
    "stage",
    "work_now",
    "working_on",
]
