"""What can be asked for: one model a kind of job, which is its request, its stored arguments and its documentation."""

from typing import Annotated, Literal

from pydantic import Field

from ..schemas import Message

__all__ = [
    "EmbedJob",
    "IndexBuildJob",
    "IngestJob",
    "JobRequest",
    "PruneJob",
    "ReindexJob",
    "VerifyJob",
]

BatchSize = Annotated[int, Field(ge=1, le=1024, description="Studies or reports that are encoded at once.")]
Engine = Annotated[
    Literal["flat", "ivf", "milvus"] | None,
    Field(description="Vector engine. Without: `milvus` where it is configured, else by size."),
]
Keep = Annotated[int, Field(ge=1, le=100, description="Generations that stay, the live one included.")]


class _Asked(Message):
    webhook: str | None = Field(
        default=None,
        max_length=2000,
        description="URL that is told of the job's end. Its origin has to be one of ALTA_WEBHOOK_ORIGINS.",
        examples=["https://pacs.example/alta"],
    )


class EmbedJob(_Asked):
    """Embed every study and report that has no current embedding, as `alta embed`."""

    kind: Literal["embed"]
    batch_size: BatchSize = 32
    retry_failed: bool = Field(default=False, description="Try studies again that failed before.")


class IndexBuildJob(_Asked):
    """Build a generation, check it and switch to it, as `alta index build`."""

    kind: Literal["index-build"]
    engine: Engine = None
    keep: Keep = 2


class ReindexJob(_Asked):
    """Embed everything with the worker's configured encoders beside the serving ones, then build and switch."""

    kind: Literal["reindex"]
    batch_size: BatchSize = 32
    engine: Engine = None
    keep: Keep = 2


class IngestJob(_Asked):
    """Take in a folder, zip file or manifest that lies on the worker's machine, as `alta ingest`."""

    kind: Literal["ingest"]
    path: str = Field(
        min_length=1,
        max_length=4096,
        description="Absolute path under one of ALTA_INGEST_ROOTS.",
        examples=["/archive/2024"],
    )
    reports: str | None = Field(default=None, max_length=4096, description="Reports beside it, under a root as well.")
    retry_refused: bool = Field(default=False, description="Examine files again that were refused.")


class PruneJob(_Asked):
    """Remove old generations and what only they need, as `alta index prune`."""

    kind: Literal["prune"]
    keep: Keep = 2


class VerifyJob(_Asked):
    """Compare the files of every kept generation with their hashes, as `alta index verify`."""

    kind: Literal["verify"]


JobRequest = EmbedJob | IndexBuildJob | ReindexJob | IngestJob | PruneJob | VerifyJob
