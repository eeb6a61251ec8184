"""The service itself: its encoders and its health."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Health", "ModelCard", "Provenance"]


class Provenance(BaseModel):
    """Where the encoders come from, as their checkpoint says."""

    model_config = ConfigDict(from_attributes=True)

    name: str = Field(examples=["demo"])
    trained_on: str = Field(examples=["simulated radiographs"])
    license: str = Field(examples=["Apache-2.0"])
    notice: str = Field(description="What the encoders may be used for.", examples=["Not for clinical use."])


class ModelCard(BaseModel):
    fingerprint: str = Field(examples=["5f" * 32])
    dimension: int = Field(description="Width of an embedding.")
    context_length: int = Field(description="Tokens of a text that are read, special tokens included.")
    findings: list[str] = Field(
        description="Names with built-in prompt ensembles.", examples=[["Pneumothorax", "Pleural Effusion"]]
    )
    provenance: Provenance
    viewer_url: str | None = Field(
        description="Where the hospital's viewer shows a study: a URL in which `{study_instance_uid}` or"
        " `{accession_number}` is to be replaced, percent-encoded. Null where none is set.",
        examples=["https://ohif.example/viewer?StudyInstanceUIDs={study_instance_uid}"],
    )
    max_files: int
    max_upload_mb: int
    max_top_k: int


class Health(BaseModel):
    status: Literal["ok", "degraded", "unavailable"]
    reasons: list[str] = Field(
        description="Why searches cannot be answered, or not from the newest index.", examples=[[], ["canary-failed"]]
    )
    generation: int | None = None
