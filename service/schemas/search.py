"""Searches and what they find."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

import index

from .filters import SearchFilters
from .messages import Message, Notice
from .query import Query
from .studies import Report, Study

__all__ = ["Hit", "SearchReply", "TextQuery"]


class TextQuery(Message):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "left pleural effusion with basal atelectasis", "top_k": 5, "filters": {"sex": ["F"]}}
            ]
        }
    )

    text: str = Field(max_length=20_000, description="A phrase or a report section.")
    top_k: int | None = Field(default=None, ge=1, description="How many hits; the service has a default and a limit.")
    filters: SearchFilters = Field(default_factory=SearchFilters)


class Hit(BaseModel):
    rank: int = Field(description="From 1.")
    score: float = Field(
        examples=[0.71], description="Cosine of the query's and the candidate's embedding, -1 to 1. No probability."
    )
    score_kind: Literal["cosine"] = "cosine"
    study: Study
    report: Report | None

    @classmethod
    def of(cls, hit: index.Hit) -> Self:
        record = hit.study
        report = Report.of(record.report) if record.report else None
        return cls(rank=hit.rank, score=hit.score, study=Study.of(record), report=report)


class SearchReply(BaseModel):
    query: Query | None = Field(default=None, description="For image queries.")
    model_fingerprint: str = Field(
        examples=["5f" * 32], description="Names the encoders; scores of different ones cannot be compared."
    )
    generation: int = Field(examples=[7], description="Generation of the index that was searched.")
    own_patient_excluded: bool = Field(
        default=False, description="Whether the query's own patient was known and left out of the hits."
    )
    hits: list[Hit] = Field(description="Best first. Fewer than top_k when the filters leave fewer.")
    warnings: list[Notice]
