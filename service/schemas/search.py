"""Searches and what they find."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

import index

from .evidence import Evidence, FindingLabel, FindingsSummary
from .filters import SearchFilters
from .messages import Message, Notice
from .query import Query
from .studies import Report, Study
from .zero_shot import ZeroShotFindings

__all__ = [
    "MAX_CURSOR",
    "FlatOptions",
    "FlatPreset",
    "FlatRanked",
    "Hit",
    "PageQuery",
    "Preset",
    "RankBy",
    "Scores",
    "SearchOptions",
    "SearchReply",
    "SimilarReports",
    "TextQuery",
    "UsedRanking",
]

RankBy = Literal["report", "image", "fused"]
Text = Annotated[str, Field(max_length=20_000)]
Weight = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

MAX_CURSOR = 262_144  # characters


class Preset(Message):
    """What a search can be told besides what to look for."""

    top_k: int | None = Field(
        default=None, ge=1, description="Hits on a page; the service has a default and a limit.", examples=[5]
    )
    group_reports: bool = Field(
        default=True,
        description="Studies whose reports say the same are one hit, `similar_reports` counts the others, and the list"
        " goes on until there are top_k hits.",
    )
    exclude_own_patient: bool = Field(
        default=True, description="No study of the query's own patient is a hit, where the patient is known."
    )
    evidence: bool = Field(
        default=True,
        description="Give with each of the first ten hits of a page up to three sentences of its report that are"
        " nearest to the query.",
    )


class Ranked(Preset):
    rank_by: RankBy = Field(
        default="fused", description="What of a candidate study is compared: its report, its image, or both."
    )
    image_weight: Share | None = Field(
        default=None, description="Of `fused`: weight of the image; the rest is the report's. The reply states it."
    )


class SearchOptions(Ranked):
    text: Text | None = Field(
        default=None,
        description="What to look for; with images: what the studies should show besides resembling them.",
        examples=["Large left pneumothorax."],
    )
    without: list[Text] | None = Field(
        default=None,
        max_length=8,
        description="What they should rather not show: ranked lower, not left out as by `without_finding`.",
        examples=[["Pacemaker."]],
    )
    text_weight: Weight | None = Field(
        default=None, description="Weight of `text` beside an image of weight 1. The reply states it."
    )
    zero_shot: bool = Field(
        default=False,
        description="Tell also how the built-in findings fit the study that is asked with, as /v1/zero-shot does,"
        " without sending and encoding it twice.",
    )


class FlatPreset(Preset):
    """The same as fields of a form or an address, among others."""

    model_config = ConfigDict(extra="ignore")


class FlatRanked(Ranked):
    model_config = ConfigDict(extra="ignore")


class FlatOptions(SearchOptions):
    model_config = ConfigDict(extra="ignore")


class TextQuery(Ranked):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "left pleural effusion with basal atelectasis", "top_k": 5, "filters": {"sex": ["F"]}},
                {"text": "Moderate left pneumothorax.", "without": ["Chest tube."], "rank_by": "fused"},
            ]
        }
    )

    text: Text = Field(description="A phrase or a report section.")
    without: list[Text] | None = Field(
        default=None, max_length=8, description="What the studies should rather not show."
    )
    rank_by: RankBy = Field(
        default="image", description="What of a candidate study is compared: its report, its image, or both."
    )
    filters: SearchFilters = Field(default_factory=SearchFilters)


class PageQuery(Message):
    cursor: str = Field(
        max_length=MAX_CURSOR, description="`next_cursor` of the page before.", examples=["eyJhZnRlciI6IDEwfQ"]
    )


class Scores(BaseModel):
    """The parts of a score; null where a study has no embedding of that kind."""

    image: float | None = Field(description="Cosine of the query and the candidate's image embedding.", examples=[0.71])
    report: float | None = Field(
        description="Cosine of the query and the candidate's report embedding.", examples=[0.52]
    )
    fused: float | None = Field(description="See `score_kind`; null unless `rank_by` is fused.", examples=[2.8])


class SimilarReports(BaseModel):
    count: int = Field(description="Other studies found whose reports say the same as this hit's.", examples=[3])
    study_instance_uids: list[str] = Field(description="The best ranked of them.", examples=[["1.2.7"]])


class Hit(BaseModel):
    rank: int = Field(description="From 1, over all pages.")
    score: float = Field(examples=[0.71], description="What the hit is ranked by, see `score_kind`. No probability.")
    score_kind: Literal["cosine", "fused"] = Field(
        default="cosine",
        description="cosine: of two embeddings, -1 to 1. fused: the weighted mean of the image's and the report's"
        " cosine, each in standard deviations above the mean of random pairs of this archive.",
    )
    scores: Scores
    percentile: float | None = Field(
        default=None,
        examples=[99.8],
        description="Share in % of random pairs of studies of different patients of this archive that score lower;"
        " null where the generation has no such figures for this kind of query.",
    )
    same_patient: bool = Field(default=False, description="Of the query's own patient.")
    similar_reports: SimilarReports
    study: Study
    report: Report | None
    labels: list[FindingLabel] = Field(
        default_factory=list, description="Findings that the report asserts, suspects or denies, as rules read them."
    )
    evidence: list[Evidence] = Field(
        default_factory=list,
        description="Sentences of the report's findings and impression that are nearest to the query, best first.",
    )

    @classmethod
    def of(cls, hit: index.SearchHit, rank: int, by: RankBy) -> Self:
        record = hit.study
        return cls(
            rank=rank,
            score=hit.score,
            score_kind="fused" if by == "fused" else "cosine",
            scores=Scores(image=hit.image, report=hit.report, fused=hit.score if by == "fused" else None),
            similar_reports=SimilarReports(count=hit.similar, study_instance_uids=list(hit.named)),
            study=Study.of(record),
            report=Report.of(record.report) if record.report else None,
        )


class UsedRanking(BaseModel):
    """How the hits were ranked."""

    by: RankBy
    image_weight: float | None = Field(description="Of fused rankings; the rest is the report's.", examples=[0.25])
    text_weight: float | None = Field(description="Of the text beside an image of weight 1.", examples=[1.25])
    without_weight: float | None = Field(description="Of each phrase of `without`, subtracted.", examples=[0.75])


class SearchReply(BaseModel):
    query: Query | None = Field(default=None, description="For queries with a study; on the first page.")
    model_fingerprint: str = Field(
        examples=["5f" * 32], description="Names the encoders; scores of different ones cannot be compared."
    )
    generation: int = Field(examples=[7], description="Generation of the index that was searched.")
    ranking: UsedRanking
    own_patient_excluded: bool = Field(
        default=False, description="Whether the query's own patient was known and left out of the hits."
    )
    hits: list[Hit] = Field(description="Best first. Fewer than top_k when the filters leave fewer.")
    findings_summary: FindingsSummary
    zero_shot: ZeroShotFindings | None = Field(
        default=None, description="Of the study that is asked with, where `zero_shot` was asked for; on the first page."
    )
    next_cursor: str | None = Field(
        default=None, description="For POST /v1/search/page; null where no more hits follow."
    )
    warnings: list[Notice]
