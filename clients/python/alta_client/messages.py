"""Messages of the service, made from its OpenAPI document by ``generate_messages.py``.

Replies have every field; a service that is newer than this package may send more.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

__all__ = [
    "ArchivePart",
    "ArchiveSizeNow",
    "BackupsNow",
    "BackupsPart",
    "DeletionReply",
    "DiskNow",
    "DiskPart",
    "EmbeddingNow",
    "EmbeddingPart",
    "EncodersNow",
    "Evidence",
    "FindingCount",
    "FindingLabel",
    "FindingsSummary",
    "GenerationReply",
    "GenerationsNow",
    "GenerationsPart",
    "Health",
    "Hit",
    "JobNow",
    "JobReply",
    "JobsNow",
    "JobsPart",
    "JobsReply",
    "KindNow",
    "LabelScore",
    "LatencyNow",
    "MapBox",
    "ModelCard",
    "Notice",
    "OperationsReply",
    "PairScore",
    "ProcessNow",
    "PromptSet",
    "Provenance",
    "Query",
    "QueryFile",
    "Reason",
    "ReasonCount",
    "RefusedNow",
    "RefusedPart",
    "Report",
    "ReportReply",
    "ReportRequest",
    "ReportsReply",
    "Scores",
    "SearchFilters",
    "SearchReply",
    "SearchedNow",
    "SearchedPart",
    "SentBack",
    "SimilarReports",
    "SimilarityMapReply",
    "SizesNow",
    "SizesPart",
    "StoredFile",
    "StudiesReply",
    "Study",
    "StudyReply",
    "ThroughputNow",
    "ThroughputPart",
    "UsedCalibration",
    "UsedRanking",
    "VerificationNow",
    "WebhookReply",
    "WordMap",
    "WorkerNow",
    "ZeroShotFindings",
    "ZeroShotReply",
]


class ArchivePart(TypedDict):
    as_of: str | None
    problem: Reason | None
    value: ArchiveSizeNow | None


class ArchiveSizeNow(TypedDict):
    studies: int
    patients: int
    images: int
    files_refused: int
    reports_matched: int
    reports_waiting: int
    reports_withdrawn: int
    reports_refused: int


class BackupsNow(TypedDict):
    count: int
    missing: int
    last_at: str | None


class BackupsPart(TypedDict):
    as_of: str | None
    problem: Reason | None
    value: BackupsNow | None


class DeletionReply(TypedDict):
    study_instance_uid: str
    dry_run: bool
    images: int
    reports: int
    embeddings: int
    own_copies: int
    in_place: int
    priors: int
    sent_back: list[SentBack]


class DiskNow(TypedDict):
    total: int
    free: int
    kept_free: int


class DiskPart(TypedDict):
    as_of: str | None
    problem: Reason | None
    value: DiskNow | None


class EmbeddingNow(TypedDict):
    model_fingerprint: str
    image: KindNow
    report: KindNow
    without_frontal: int
    reindex_to: str | None


class EmbeddingPart(TypedDict):
    as_of: str | None
    problem: Reason | None
    value: EmbeddingNow | None


class EncodersNow(TypedDict):
    name: str
    fingerprint: str
    demo: bool
    device: str | None
    dtype: str | None


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


class GenerationReply(TypedDict):
    id: int
    state: Literal["building", "live", "retired", "failed", "removed"]
    model_fingerprint: str
    engine: str
    image_rows: int
    report_rows: int
    self_found: int | None
    recall: float | None
    least_recall: float
    built_at: str
    live_since: str | None
    detail: str | None


class GenerationsNow(TypedDict):
    live: GenerationReply | None
    others: list[GenerationReply]
    image_beside: int
    report_beside: int
    image_left_out: int
    report_left_out: int
    last_verification: VerificationNow | None


class GenerationsPart(TypedDict):
    as_of: str | None
    problem: Reason | None
    value: GenerationsNow | None


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


class JobNow(TypedDict):
    id: str
    kind: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    done: int
    total: int | None
    result: dict[str, Any] | None
    error: str | None
    detail: str | None
    cancel_requested: bool
    attempts: int
    started_at: str | None
    heartbeat_at: str | None
    finished_at: str | None


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


class JobsNow(TypedDict):
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    waiting_since: str | None
    under_way: list[JobNow]
    ended: list[JobNow]
    workers: list[WorkerNow]


class JobsPart(TypedDict):
    as_of: str | None
    problem: Reason | None
    value: JobsNow | None


class JobsReply(TypedDict):
    jobs: list[JobReply]


class KindNow(TypedDict):
    due: int
    embedded: int
    missing: int
    failed: list[ReasonCount]


class LabelScore(TypedDict):
    name: str
    prompts: Literal["built-in", "given"]
    cosine: float
    score: float
    best: bool


class LatencyNow(TypedDict):
    count: int
    median: float | None
    p95: float | None


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


class OperationsReply(TypedDict):
    at: str
    process: ProcessNow
    searched: SearchedPart
    generations: GenerationsPart
    jobs: JobsPart
    backups: BackupsPart
    disk: DiskPart
    archive: ArchivePart
    refused: RefusedPart
    embedding: EmbeddingPart
    throughput: ThroughputPart
    sizes: SizesPart


class PairScore(TypedDict):
    name: str
    prompts: Literal["built-in", "given"]
    positive_cosine: float
    negative_cosine: float
    score: float
    probability: float | None
    decision: Literal["present", "absent", "uncertain"] | None
    not_calibrated: str | None


class ProcessNow(TypedDict):
    version: str
    host: str
    started_at: str
    encoders: EncodersNow
    decoders: int
    requests_running: int
    requests: dict[str, int]
    turned_away: int
    searches: LatencyNow
    queue: dict[str, int]
    receives: bool
    ingest_roots: list[str]


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


class Reason(TypedDict):
    slug: str
    title: str


class ReasonCount(TypedDict):
    slug: str
    title: str
    count: int


class RefusedNow(TypedDict):
    files: list[ReasonCount]
    reports: list[ReasonCount]


class RefusedPart(TypedDict):
    as_of: str | None
    problem: Reason | None
    value: RefusedNow | None


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


class SearchedNow(TypedDict):
    generation: int | None
    images: int
    reports: int


class SearchedPart(TypedDict):
    as_of: str | None
    problem: Reason | None
    value: SearchedNow | None


class SentBack(TypedDict):
    route: str
    sent_at: str
    sop_instance_uid: str | None


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


class SizesNow(TypedDict):
    database: int
    generations: int
    received: int
    received_estimated: bool


class SizesPart(TypedDict):
    as_of: str | None
    problem: Reason | None
    value: SizesNow | None


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


class ThroughputNow(TypedDict):
    until: str
    taken_in: list[int]
    taken_in_week: int
    embedded: list[int]
    embedded_week: int


class ThroughputPart(TypedDict):
    as_of: str | None
    problem: Reason | None
    value: ThroughputNow | None


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


class VerificationNow(TypedDict):
    state: Literal["succeeded", "failed", "cancelled"]
    finished_at: str
    error: Reason | None


class WebhookReply(TypedDict):
    state: Literal["waiting", "delivered", "given-up"]
    attempts: int
    last_error: str | None
    next_attempt_at: str | None


class WordMap(TypedDict):
    word: str
    highest: float
    values: list[list[float]]


class WorkerNow(TypedDict):
    name: str
    last_seen_at: str
    job_id: str | None


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
