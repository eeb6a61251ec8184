"""What goes over the wire. Words are DICOM's; every number says what it is."""

from .evidence import Evidence, FindingCount, FindingLabel, FindingsSummary
from .filters import MAX_EXCLUDED, FlatFilters, Modality, SearchFilters, Sex, View, Years
from .intake import DeletionReply, ReportRequest, StoredFile, StudiesReply
from .jobs import JobReply, JobsReply, JobState, WebhookReply
from .messages import EXAMPLE_REQUEST_ID, EXAMPLE_UID, Message, Name, Notice, Problem, Uid
from .query import Query, QueryFile
from .reports import ReportReply, ReportsReply
from .search import (
    MAX_CURSOR,
    FlatOptions,
    FlatPreset,
    FlatRanked,
    Hit,
    PageQuery,
    RankBy,
    SearchOptions,
    SearchReply,
    TextQuery,
    UsedRanking,
)
from .service import Health, ModelCard, Provenance
from .similarity_map import MapBox, SimilarityMapReply, WordMap
from .studies import Report, Study, StudyReply
from .zero_shot import (
    LabelScore,
    PairScore,
    PromptSet,
    UsedCalibration,
    ZeroShotFindings,
    ZeroShotReply,
    ZeroShotRequest,
)

__all__ = [
    "EXAMPLE_REQUEST_ID",
    "EXAMPLE_UID",
    "MAX_CURSOR",
    "MAX_EXCLUDED",
    "DeletionReply",
    "Evidence",
    "FindingCount",
    "FindingLabel",
    "FindingsSummary",
    "FlatFilters",
    "FlatOptions",
    "FlatPreset",
    "FlatRanked",
    "Health",
    "Hit",
    "JobReply",
    "JobState",
    "JobsReply",
    "LabelScore",
    "MapBox",
    "Message",
    "Modality",
    "ModelCard",
    "Name",
    "Notice",
    "PageQuery",
    "PairScore",
    "Problem",
    "PromptSet",
    "Provenance",
    "Query",
    "QueryFile",
    "RankBy",
    "Report",
    "ReportReply",
    "ReportRequest",
    "ReportsReply",
    "SearchFilters",
    "SearchOptions",
    "SearchReply",
    "Sex",
    "SimilarityMapReply",
    "StoredFile",
    "StudiesReply",
    "Study",
    "StudyReply",
    "TextQuery",
    "Uid",
    "UsedCalibration",
    "UsedRanking",
    "View",
    "WebhookReply",
    "WordMap",
    "Years",
    "ZeroShotFindings",
    "ZeroShotReply",
    "ZeroShotRequest",
]
