"""What the reports of the hits say: sentence by sentence, and together."""

from typing import Literal

from pydantic import BaseModel, Field

__all__ = ["Evidence", "FindingCount", "FindingLabel", "FindingsSummary"]


class FindingLabel(BaseModel):
    """What a report or a sentence says of one finding; of several statements the strongest."""

    finding: str = Field(examples=["Pleural Effusion"])
    assertion: Literal["present", "uncertain", "absent"]
    laterality: Literal["left", "right", "bilateral"] | None = Field(description="Where the report says so.")


class Evidence(BaseModel):
    """A sentence of a hit's report that is near to the query."""

    text: str = Field(examples=["There is a small left pleural effusion."])
    score: float = Field(
        examples=[0.78],
        description="Cosine of the query's embedding and the sentence's, -1 to 1: of an image and a text for queries by"
        " image, of two texts for queries by text. No probability, and not comparable between the two.",
    )
    labels: list[FindingLabel] = Field(
        description="Findings that the sentence asserts, suspects or denies: what denies a query may be near to it."
        " Empty where it names none that the rules know, or is not English."
    )
    start: int | None = Field(
        examples=[10], description="First character in the report's `text`; null where `text` has other spaces."
    )
    end: int | None = Field(examples=[49], description="After its last character.")


class FindingCount(BaseModel):
    """One finding over the reports that were read; present, uncertain, absent and not_mentioned are all of them."""

    finding: str = Field(examples=["Pleural Effusion"])
    present: int = Field(examples=[7])
    uncertain: int = Field(examples=[0])
    absent: int = Field(examples=[1])
    not_mentioned: int = Field(examples=[2])
    sides: dict[Literal["right", "left", "bilateral"], int] = Field(
        description="Of the present ones, those that name a side.", examples=[{"right": 7}]
    )
    sentence: str = Field(examples=["7 of 10 mention right pleural effusion; 1 denies it."])


class FindingsSummary(BaseModel):
    """What the reports of this page's hits assert, suspect and deny, as rules for English read them. Hits are counted,
    not the studies whose reports say the same."""

    reports_read: int = Field(
        examples=[10], description="Hits whose report was read: there is one, in English, with words that are known."
    )
    findings: list[FindingCount] = Field(description="Those that a report names, the most mentioned first.")
