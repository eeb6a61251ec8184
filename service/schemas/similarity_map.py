"""Where on a radiograph the encoders see a phrase."""

from pydantic import BaseModel, Field

from .messages import Notice
from .query import Query

__all__ = ["MapBox", "SimilarityMapReply", "WordMap"]


class MapBox(BaseModel):
    """Borders in px of the image as it is stored, from its upper left corner; not necessarily whole."""

    top: float
    left: float
    bottom: float
    right: float


class WordMap(BaseModel):
    word: str = Field(examples=["pneumothorax"])
    highest: float = Field(description="The largest of its values.", examples=[0.31])
    values: list[list[float]] = Field(description="As `values` of the phrase.")


class SimilarityMapReply(BaseModel):
    query: Query
    model_fingerprint: str = Field(examples=["5f" * 32])
    phrase: str = Field(examples=["left pneumothorax"])
    statement: str = Field(
        description="What the map shows, and what it does not.",
        examples=["Cosines of local image and word features; no segmentation."],
    )
    score: float = Field(description="Cosine of the whole image's and the phrase's embedding, -1 to 1.", examples=[0.2])
    rows: int = Field(description="Rows of the image as it is stored (DICOM Rows).", examples=[2500])
    columns: int = Field(description="Columns of the image as it is stored.", examples=[2048])
    box: MapBox = Field(
        description="What of the image the map covers: what the encoders see. Beyond it nothing is said."
    )
    values: list[list[float]] = Field(
        description="The phrase's map: rows of patches that fill `box` evenly, in the order of the stored pixels. Each"
        " value is a cosine, -1 to 1, to what sets the patch apart from the rest of the same image.",
        examples=[[[0.02, 0.11], [-0.07, 0.3]]],
    )
    lowest: float = Field(description="The smallest of `values`.", examples=[-0.07])
    highest: float = Field(description="The largest of `values`.", examples=[0.3])
    words: list[WordMap] = Field(description="A map for each word of the phrase; `values` is their mean.")
    warnings: list[Notice]
