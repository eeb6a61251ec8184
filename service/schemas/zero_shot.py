"""Zero-shot classification."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from .messages import Message, Name, Notice
from .query import Query

__all__ = [
    "LabelScore",
    "PairScore",
    "PromptSet",
    "UsedCalibration",
    "ZeroShotFindings",
    "ZeroShotReply",
    "ZeroShotRequest",
]

Phrase = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class PromptSet(Message):
    """A finding as phrasings for its presence and for its absence; each side becomes one direction."""

    name: Name
    positive: list[Phrase] = Field(min_length=1, max_length=64)
    negative: list[Phrase] = Field(min_length=1, max_length=64)


class ZeroShotRequest(Message):
    """Give `labels`, or `prompts`, or neither for the built-in ensembles of the CheXpert findings."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"labels": ["Pneumothorax", "Pleural Effusion", "No Finding"]},
                {
                    "prompts": [
                        {
                            "name": "rib fracture",
                            "positive": ["acute rib fracture", "displaced fracture of a rib"],
                            "negative": ["no rib fracture", "the ribs are intact"],
                        }
                    ]
                },
            ]
        }
    )

    labels: list[Name] = Field(default_factory=list, max_length=100)
    prompts: list[PromptSet] = Field(default_factory=list, max_length=100)


class PairScore(BaseModel):
    name: str = Field(examples=["Pneumothorax"])
    prompts: Literal["built-in", "given"]
    positive_cosine: float = Field(examples=[0.41])
    negative_cosine: float = Field(examples=[0.12])
    score: float = Field(
        examples=[0.57], description="exp(positive) / (exp(positive) + exp(negative)), see `score_kind`."
    )

    probability: float | None = Field(
        default=None,
        description="Of the finding, at the prevalence of the calibration's sample; none where it is not calibrated.",
        examples=[0.83],
    )
    decision: Literal["present", "absent", "uncertain"] | None = Field(
        default=None,
        description="Uncertain: another sample of the site's patients might have decided otherwise. None where the"
        " finding is not calibrated.",
        examples=["present"],
    )
    not_calibrated: str | None = Field(
        default=None, description="Why there is no probability.", examples=["too few cases: 3 with the finding"]
    )


class LabelScore(BaseModel):
    name: str = Field(examples=["Pneumothorax"])
    prompts: Literal["built-in", "given"] = Field(description="Built-in: the label is a finding with an ensemble.")
    cosine: float = Field(examples=[0.41])
    score: float = Field(examples=[0.38], description="Softmax of the cosines over the labels sent, see `score_kind`.")
    best: bool = Field(description="The label with the highest cosine.")


class UsedCalibration(BaseModel):
    """What probabilities and decisions rest on."""

    sample: str = Field(description="Name of the labelled sample.", examples=["labelled-2024.csv"])
    date: str = Field(description="Of the fit, ISO 8601.", examples=["2025-03-01"])
    studies: int
    patients: int
    level: Literal["frontal", "study"] = Field(
        description="Whether it was fitted on frontal images alone or on studies with all their images."
    )
    findings: list[str] = Field(description="Those that are calibrated.", examples=[["Pneumothorax"]])


class ZeroShotFindings(BaseModel):
    """How the built-in findings, or prompts, fit a study."""

    score_kind: str = Field(
        description="What `score` is, in a sentence.", examples=["softmax over the two cosines; uncalibrated"]
    )
    calibration: UsedCalibration | None = Field(
        default=None, description="The calibration beside the encoders, where one was applied."
    )
    probabilities: str = Field(
        description="What probabilities and decisions are, or why there are none, in a sentence.",
        examples=["no calibration fits these encoders"],
    )
    findings: list[PairScore] = Field(description="For prompts and the built-in findings.")


class ZeroShotReply(ZeroShotFindings):
    query: Query
    model_fingerprint: str = Field(examples=["5f" * 32])
    labels: list[LabelScore] = Field(description="For labels, in the order sent.")
    warnings: list[Notice]
