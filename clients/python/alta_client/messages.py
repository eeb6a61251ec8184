"""Messages of the service, made from its OpenAPI document by ``generate_messages.py``.

Replies have every field; a service that is newer than this package may send more.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

__all__ = [
    "DeletionReply",
    "Evidence",
    "FindingCount",
    "FindingLabel",
    "FindingsSummary",
    "Health",
    "Hit",
    "JobReply",
    "JobsReply",
    "LabelScore",
    "MapBox",
    "ModelCard",
    "Notice",
    "PairScore",
    "PromptSet",
    "Provenance",
    "Query",
    "QueryFile",
    "Report",
    "ReportReply",
    "ReportRequest",
    "ReportsReply",
    "Scores",
    "SearchFilters",
    "SearchReply",
    "SimilarReports",
    "SimilarityMapReply",
    "StoredFile",
    "StudiesReply",
    "Study",
    "StudyReply",
    "UsedCalibration",
    "UsedRanking",
    "WebhookReply",
    "WordMap",
    "ZeroShotFindings",
    "ZeroShotReply",
]


class DeletionReply(TypedDict):
    study_instance_uid: str
    dry_run: bool
    images: int
    reports: int
    embeddings: int
    own_copies: int
    in_place: int
    priors: int


class Evidence(TypedDict):
    text: str
    score: float
    labels: list[FindingLabel]
    start: int | None
    end: int | None


class FindingCount(TypedDict):
    finding: str
    present: int
    uncertain: int
    absent: int
    not_mentioned: int
    sides: dict[str, int]
    sentence: str


class FindingLabel(TypedDict):
    finding: str
    assertion: Literal["present", "uncertain", "absent"]
    laterality: Literal["left", "right", "bilateral"] | None


class FindingsSummary(TypedDict):
    reports_read: int
    findings: list[FindingCount]


class Health(TypedDict):
    status: Literal["ok", "degraded", "unavailable"]
    reasons: list[str]
    generation: int | None


class Hit(TypedDict):
    rank: int
    score: float
    score_kind: Literal["cosine", "fused"]
    scores: Scores
    percentile: float | None
    same_patient: bool
    similar_reports: SimilarReports
    study: Study
    report: Report | None
    labels: list[FindingLabel]
    evidence: list[Evidence]


class JobReply(TypedDict):
    id: str
    kind: str
    arguments: dict[str, Any]
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    done: int
    total: int | None
    result: dict[str, Any] | None
    error: str | None
    detail: str | None
    requested_by: str
    cancel_requested: bool
    attempts: int
    created_at: str
    started_at: str | None
    heartbeat_at: str | None
    finished_at: str | None
    webhook: WebhookReply | None


class JobsReply(TypedDict):
    jobs: list[JobReply]


class LabelScore(TypedDict):
    name: str
    prompts: Literal["built-in", "given"]
    cosine: float
    score: float
    best: bool


class MapBox(TypedDict):
    top: float
    left: float
    bottom: float
    right: float


class ModelCard(TypedDict):
    fingerprint: str
    dimension: int
    context_length: int
    findings: list[str]
    provenance: Provenance
    viewer_url: str | None
    max_files: int
    max_upload_mb: int
    max_top_k: int


class Notice(TypedDict):
    code: str
    detail: str


class PairScore(TypedDict):
    name: str
    prompts: Literal["built-in", "given"]
    positive_cosine: float
    negative_cosine: float
    score: float
    probability: float | None
    decision: Literal["present", "absent", "uncertain"] | None
    not_calibrated: str | None


class PromptSet(TypedDict, total=False):
    name: str
    positive: list[str]
    negative: list[str]


class Provenance(TypedDict):
    name: str
    trained_on: str
    license: str
    notice: str


class Query(TypedDict):
    study_instance_uid: str | None
    from_archive: bool
    slots: list[str]
    prior_source: Literal["uploaded", "archive"] | None
    files: list[QueryFile]


class QueryFile(TypedDict):
    field: Literal["files", "prior_files"]
    position: int
    status: Literal["used", "unused", "refused"]
    format: Literal["dicom", "picture"] | None
    slot: str | None
    view: str | None
    view_position: str | None
    view_source: str | None
    modality: str | None
    reason: str | None
    detail: str | None


class Report(TypedDict):
    indication: str | None
    comparison: str | None
    findings: str | None
    impression: str | None
    text: str
    language: str | None


class ReportReply(TypedDict):
    entry: int
    status: Literal["matched", "unmatched", "withdrawn", "outdated", "refused"]
    reason: str | None
    detail: str | None
    study_instance_uid: str | None


class ReportRequest(TypedDict, total=False):
    study_instance_uid: str | None
    accession_number: str | None
    patient_id: str | None
    text: str | None
    indication: str | None
    comparison: str | None
    findings: str | None
    impression: str | None
    language: str | None
    status: Literal["preliminary", "final", "corrected", "withdrawn"] | None
    issued: str | None
    number: str | None
    numbering: str | None


class ReportsReply(TypedDict):
    reports: list[ReportReply]


class Scores(TypedDict):
    image: float | None
    report: float | None
    fused: float | None


class SearchFilters(TypedDict, total=False):
    modality: list[Literal["CR", "DX"]] | None
    view: list[Literal["frontal", "lateral", "PA", "AP"]] | None
    date_from: str | None
    date_to: str | None
    sex: list[Literal["F", "M", "O"]] | None
    age_min: int | None
    age_max: int | None
    finding: list[str] | None
    without_finding: list[str] | None
    institution: list[str] | None
    language: list[str] | None
    exclude_patient_of: list[str] | None
    exclude_study: list[str] | None


class SearchReply(TypedDict):
    query: Query | None
    model_fingerprint: str
    generation: int
    ranking: UsedRanking
    own_patient_excluded: bool
    hits: list[Hit]
    findings_summary: FindingsSummary
    zero_shot: ZeroShotFindings | None
    next_cursor: str | None
    warnings: list[Notice]


class SimilarReports(TypedDict):
    count: int
    study_instance_uids: list[str]


class SimilarityMapReply(TypedDict):
    query: Query
    model_fingerprint: str
    phrase: str
    statement: str
    score: float
    rows: int
    columns: int
    box: MapBox
    values: list[list[float]]
    lowest: float
    highest: float
    words: list[WordMap]
    warnings: list[Notice]


class StoredFile(TypedDict):
    file: int
    status: Literal["accepted", "refused"]
    reason: str | None
    study_instance_uid: str | None
    sop_instance_uid: str | None


class StudiesReply(TypedDict):
    files: list[StoredFile]
    studies: list[str]


class Study(TypedDict):
    study_instance_uid: str
    accession_number: str | None
    study_date: str | None
    modality: str | None
    views: list[str]
    sex: str | None
    age: float | None
    institution: str | None
    image_url: str


class StudyReply(TypedDict):
    study: Study
    report: Report | None


class UsedCalibration(TypedDict):
    sample: str
    date: str
    studies: int
    patients: int
    level: Literal["frontal", "study"]
    findings: list[str]


class UsedRanking(TypedDict):
    by: Literal["report", "image", "fused"]
    image_weight: float | None
    text_weight: float | None
    without_weight: float | None


class WebhookReply(TypedDict):
    state: Literal["waiting", "delivered", "given-up"]
    attempts: int
    last_error: str | None
    next_attempt_at: str | None


class WordMap(TypedDict):
    word: str
    highest: float
    values: list[list[float]]


class ZeroShotFindings(TypedDict):
    score_kind: str
    calibration: UsedCalibration | None
    probabilities: str
    findings: list[PairScore]


class ZeroShotReply(TypedDict):
    score_kind: str
    calibration: UsedCalibration | None
    probabilities: str
    findings: list[PairScore]
    query: Query
    model_fingerprint: str
    labels: list[LabelScore]
    warnings: list[Notice]
