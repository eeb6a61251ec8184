"""What goes over the wire. Words are DICOM's; every number says what it is."""

from .filters import MAX_EXCLUDED, Modality, SearchFilters, Sex, View, Years
from .messages import EXAMPLE_UID, Message, Name, Notice, Problem, Uid
from .query import Query, QueryFile
from .reports import ReportReply, ReportsReply
from .search import Hit, SearchReply, TextQuery
from .service import Health, ModelCard, Provenance
from .studies import Report, Study, StudyReply
from .zero_shot import LabelScore, PairScore, PromptSet, ZeroShotReply, ZeroShotRequest

__all__ = [
    "EXAMPLE_UID",
    "MAX_EXCLUDED",
    "Health",
    "Hit",
    "LabelScore",
    "Message",
    "Modality",
    "ModelCard",
    "Name",
    "Notice",
    "PairScore",
    "Problem",
    "PromptSet",
    "Provenance",
    "Query",
    "QueryFile",
    "Report",
    "ReportReply",
    "ReportsReply",
    "SearchFilters",
    "SearchReply",
    "Sex",
    "Study",
    "StudyReply",
    "TextQuery",
    "Uid",
    "View",
    "Years",
    "ZeroShotReply",
    "ZeroShotRequest",
]
