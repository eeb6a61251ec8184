"""How the installation is, for its administrator. Nothing in it is about a patient.

Parts are read apart from one another: one that cannot be read keeps its last values and says why they are not newer.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from ..problems import PROBLEMS
from .operations_jobs import JobsNow

__all__ = [
    "ArchivePart",
    "ArchiveSizeNow",
    "BackupsNow",
    "BackupsPart",
    "DiskNow",
    "DiskPart",
    "EmbeddingNow",
    "EmbeddingPart",
    "EncodersNow",
    "GenerationReply",
    "GenerationsNow",
    "GenerationsPart",
    "JobsPart",
    "KindNow",
    "LatencyNow",
    "OperationsReply",
    "ProcessNow",
    "Reason",
    "ReasonCount",
    "RefusedNow",
    "RefusedPart",
    "SearchedNow",
    "SearchedPart",
    "SizesNow",
    "SizesPart",
    "ThroughputNow",
    "ThroughputPart",
    "VerificationNow",
]


class Reason(BaseModel):
    slug: str = Field(examples=["database-unavailable"])
    title: str = Field(description="The same in words.", examples=["The database cannot be used"])

    @classmethod
    def of(cls, slug: str) -> "Reason":
        known = PROBLEMS.get(slug)
        return cls(slug=slug, title=known.title if known else slug.replace("-", " ").capitalize() or "Unknown")


class ReasonCount(Reason):
    count: int

    @classmethod
    def of_all(cls, counts: Mapping[str, int]) -> "list[ReasonCount]":
        return [cls(**Reason.of(slug).model_dump(), count=count) for slug, count in counts.items()]


class Part(BaseModel):
    """A part of the reply, as it was at a moment."""

    as_of: datetime | None = Field(description="When `value` was read; null before the first time.")
    problem: Reason | None = Field(
        description="Why it could not be read the last time; `counting` while it is read for the first time."
    )


class ArchiveSizeNow(BaseModel):
    studies: int
    patients: int
    images: int = Field(description="Accepted image files.")
    files_refused: int
    reports_matched: int = Field(description="Reports of studies that are there.")
    reports_waiting: int = Field(description="Reports whose study has not come.")
    reports_withdrawn: int
    reports_refused: int


class KindNow(BaseModel):
    due: int = Field(description="Studies with images, or a report, to embed.")
    embedded: int
    missing: int = Field(description="Not embedded yet, or changed since.")
    failed: list[ReasonCount] = Field(description="Not tried again by themselves, by reason.")


class EmbeddingNow(BaseModel):
    model_fingerprint: str = Field(description="Of the encoders in use.", examples=["5f" * 32])
    image: KindNow
    report: KindNow
    without_frontal: int = Field(
        description="Studies that have images but no frontal one. They are not embedded by image, so not found by it;"
        " `alta archive without-frontal` lists them."
    )
    reindex_to: str | None = Field(
        description="Fingerprint of other encoders that the archive is being moved to; null where none is."
    )


class GenerationReply(BaseModel):
    id: int
    state: Literal["building", "live", "retired", "failed", "removed"]
    model_fingerprint: str = Field(examples=["5f" * 32])
    engine: str = Field(examples=["flat"])
    image_rows: int = Field(description="Studies that are found by their images.")
    report_rows: int = Field(description="Studies that are found by their reports.")
    self_found: int | None = Field(
        description="Rows that were looked for in the index and found themselves before it went live, of both kinds."
        " Every one has to. Null for a generation that was not checked."
    )
    recall: float | None = Field(
        description="Recall@10 against exact search, measured then, the lower of the two kinds.", examples=[0.998]
    )
    least_recall: float = Field(description="What it has to reach to go live.")
    built_at: datetime = Field(description="When it was begun.")
    live_since: datetime | None = Field(description="When it went live the last time.")
    detail: str | None = Field(description="Why it failed.")


class VerificationNow(BaseModel):
    """The last job of the kind `verify`, which compares the index files with their hashes."""

    state: Literal["succeeded", "failed", "cancelled"]
    finished_at: datetime
    error: Reason | None


class GenerationsNow(BaseModel):
    live: GenerationReply | None
    others: list[GenerationReply] = Field(description="Those not removed, the newest first.")
    image_beside: int = Field(description="Studies embedded since, which are searched beside the live one.")
    report_beside: int
    image_left_out: int = Field(description="Studies of the live one that are gone or changed, and left out.")
    report_left_out: int
    last_verification: VerificationNow | None


class SearchedNow(BaseModel):
    """What this process answers from; another replica may be a moment behind or ahead."""

    generation: int | None
    images: int = Field(description="Studies that can be found by their images.")
    reports: int = Field(description="Studies that can be found by their reports.")


class BackupsNow(BaseModel):
    count: int = Field(description="On the list of backups.")
    missing: int = Field(description="Of these, whose file is not where it was, seen from this process.")
    last_at: datetime | None = Field(description="Of which time the newest one is whose file is there.")


class RefusedNow(BaseModel):
    files: list[ReasonCount] = Field(description="The most frequent reason first.")
    reports: list[ReasonCount]


class ThroughputNow(BaseModel):
    """Studies that are in the archive still, by when they came, and by when their images were embedded."""

    until: datetime
    taken_in: list[int] = Field(description="In each of the last 24 hours, the oldest first.")
    taken_in_week: int = Field(description="In the last seven days.")
    embedded: list[int]
    embedded_week: int


class DiskNow(BaseModel):
    total: int = Field(description="Bytes of the disk of the data folder.")
    free: int
    kept_free: int = Field(description="Below so many free bytes nothing that is sent or fetched is stored.")


class SizesNow(BaseModel):
    database: int = Field(description="Bytes.")
    generations: int
    received: int = Field(description="The archive's own copies of what was sent or fetched.")
    received_estimated: bool = Field(description="Reckoned from a part of them, as there are many.")


class EncodersNow(BaseModel):
    name: str = Field(examples=["ALTA demo encoders"])
    fingerprint: str = Field(examples=["5f" * 32])
    demo: bool = Field(description="The shipped ones, trained on simulated images only.")
    device: str | None = Field(examples=["cpu"])
    dtype: str | None = Field(examples=["float32"])


class LatencyNow(BaseModel):
    """Of searches that this process answered since its start, in seconds; estimated from a histogram."""

    count: int
    median: float | None
    p95: float | None


class ProcessNow(BaseModel):
    """The process that answers; other replicas count for themselves."""

    version: str = Field(examples=["0.9.0"])
    host: str = Field(examples=["alta-1"])
    started_at: datetime
    encoders: EncodersNow
    decoders: int = Field(description="Processes that decode images; 0: in the service's own.")
    requests_running: int
    requests: dict[str, int] = Field(
        description="Answered since the start, by class of the status.", examples=[{"2xx": 1200, "4xx": 3}]
    )
    turned_away: int = Field(description="Answered 429, for load, rate or quota.")
    searches: LatencyNow
    queue: dict[str, int] = Field(
        description="Items that wait to be encoded, by line.", examples=[{"studies": 0, "texts": 0}]
    )
    receives: bool = Field(description="Studies, reports and jobs may be sent to it (ALTA_RECEIVE).")
    ingest_roots: list[str] = Field(
        description="Folders that jobs may take studies in from (ALTA_INGEST_ROOTS).", examples=[["/archive"]]
    )


class SearchedPart(Part):
    value: SearchedNow | None


class GenerationsPart(Part):
    value: GenerationsNow | None


class JobsPart(Part):
    value: JobsNow | None


class BackupsPart(Part):
    value: BackupsNow | None


class DiskPart(Part):
    value: DiskNow | None


class ArchivePart(Part):
    value: ArchiveSizeNow | None


class RefusedPart(Part):
    value: RefusedNow | None


class EmbeddingPart(Part):
    value: EmbeddingNow | None


class ThroughputPart(Part):
    value: ThroughputNow | None


class SizesPart(Part):
    value: SizesNow | None


class OperationsReply(BaseModel):
    at: datetime = Field(description="The time of the service.")
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
