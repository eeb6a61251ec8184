"""Study tables: what ``alta data prepare`` writes and training reads."""

from .chexpert_plus import read_chexpert_plus
from .csv_table import read_csv_studies
from .decoding import undecodable
from .manifest import MANIFEST_FIELDS, read_manifest
from .mimic import read_mimic
from .open_i import read_open_i
from .prepare import prepare
from .split import Folds, named_split
from .summary import Prepared
from .table import EXCLUDED, SPLITS, Skipped, StudyRow, TableError, read_table, write_table

__all__ = [
    "EXCLUDED",
    "MANIFEST_FIELDS",
    "SPLITS",
    "Folds",
    "Prepared",
    "Skipped",
    "StudyRow",
    "TableError",
    "named_split",
    "prepare",
    "read_chexpert_plus",
    "read_csv_studies",
    "read_manifest",
    "read_mimic",
    "read_open_i",
    "read_table",
    "undecodable",
    "write_table",
]
