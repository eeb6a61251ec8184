"""The archive: SQL rows and vectors, no HTTP.

``migrate`` and ``open_catalog`` give a ``Catalog``; ``index.intake.ingest.ingest`` fills it from any ``StudySource``;
``embed_pending`` adds what an encoder makes of it; ``build_generation`` makes that searchable; a ``Gallery``
answers.
"""

from .catalog import Catalog, create_schema, migrate, open_catalog
from .decoder_pool import DecoderPool
from .dicom import InstanceFacts, Refusal, describe_dicom, refusal
from .embedding.job import EmbedSummary, embed_pending, pending_counts
from .generations.lifecycle import build_generation, rollback, verify_generation
from .generations.pruning import PruneSummary, prune
from .generations.reindex import Reindex, begin_reindex, end_reindex, reindex_under_way
from .generations.table import GenerationInfo, list_generations, live_generation, read_generation
from .intake.examine import with_seen_view
from .intake.ingest import IngestSummary, ingest_folder, ingest_manifest, ingest_received
from .intake.received import ReceivedStore
from .intake.refusals import RefusedFile, refusal_counts, refused_files
from .pairs import Pairs, read_pairs
from .progress import Progress
from .records import ReportRecord, StudyRecord
from .reports.labels import label_pending
from .reports.texts import ReportText, parse_sections
from .search.delta import Seen, count_since
from .search.filters import Filters
from .search.fusion import IMAGE_WEIGHTS, AskedWith, RankBy, Ranking, Scale
from .search.gallery import Gallery
from .search.pages import Page, Place, Search, SearchHit
from .search.snapshot import Hit, Snapshot
from .slots import arrange_slots
from .sources import FolderSource, ManifestSource, StudySource, ZipSource, source_of
from .studies import StoredStudy, find_accession, find_study, patient_keys, prior_slots, stored_study, study_slots

__all__ = [
    "IMAGE_WEIGHTS",
    "AskedWith",
    "Catalog",
    "DecoderPool",
    "EmbedSummary",
    "Filters",
    "FolderSource",
    "Gallery",
    "GenerationInfo",
    "Hit",
    "IngestSummary",
    "InstanceFacts",
    "ManifestSource",
    "Page",
    "Pairs",
    "Place",
    "Progress",
    "PruneSummary",
    "RankBy",
    "Ranking",
    "ReceivedStore",
    "Refusal",
    "RefusedFile",
    "Reindex",
    "ReportRecord",
    "ReportText",
    "Scale",
    "Search",
    "SearchHit",
    "Seen",
    "Snapshot",
    "StoredStudy",
    "StudyRecord",
    "StudySource",
    "ZipSource",
    "arrange_slots",
    "begin_reindex",
    "build_generation",
    "count_since",
    "create_schema",
    "describe_dicom",
    "embed_pending",
    "end_reindex",
    "find_accession",
    "find_study",
    "label_pending",
    "list_generations",
    "ingest_folder",
    "ingest_manifest",
    "ingest_received",
    "live_generation",
    "migrate",
    "open_catalog",
    "parse_sections",
    "pending_counts",
    "patient_keys",
    "prior_slots",
    "prune",
    "read_generation",
    "read_pairs",
    "refusal",
    "refusal_counts",
    "refused_files",
    "reindex_under_way",
    "rollback",
    "source_of",
    "stored_study",
    "study_slots",
    "verify_generation",
    "with_seen_view",
]
