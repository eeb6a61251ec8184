"""What goes over the wire. Words are DICOM's; every number says what it is."""

from .evidence import Evidence, FindingCount, FindingsSummary
from .filters import MAX_EXCLUDED, FlatFilters, Modality, SearchFilters, Sex, View, Years
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
from .zero_shot import LabelScore, PairScore, PromptSet, UsedCalibration, ZeroShotReply, ZeroShotRequest

__all__ = [
    "EXAMPLE_REQUEST_ID",
    "EXAMPLE_UID",
    "MAX_CURSOR",
    "MAX_EXCLUDED",
    "Evidence",
    "FindingCount",
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
    "ReportsReply",
    "SearchFilters",
    "SearchOptions",
    "SearchReply",
    "Sex",
    "SimilarityMapReply",
    "Study",
    "StudyReply",
    "TextQuery",
    "Uid",
    "UsedCalibration",
    "UsedRanking",
    "View",
    "WordMap",
    "Years",
    "WebhookReply",
    "ZeroShotReply",
    "ZeroShotRequest",
]
