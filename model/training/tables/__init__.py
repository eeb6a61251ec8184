"""Study tables: what ``alta data prepare`` writes and training reads."""

from .csv_table import read_csv_studies
from .mimic import read_mimic
from .prepare import Prepared, prepare
from .table import SPLITS, StudyRow, TableError, read_table, write_table

__all__ = [
    "SPLITS",
    "Prepared",
    "StudyRow",
    "TableError",
    "prepare",
    "read_csv_studies",
    "read_mimic",
    "read_table",
    "write_table",
]
