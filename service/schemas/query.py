"""How a query's files were read."""

from typing import Literal

from pydantic import BaseModel, Field

__all__ = ["Query", "QueryFile"]


class QueryFile(BaseModel):
    """What was recognised in one uploaded file. Files are named by position: their names may be about a patient."""

    field: Literal["files", "prior_files"]
    position: int = Field(description="From 0, in the order sent.")
    status: Literal["used", "unused", "refused"]
    format: Literal["dicom", "picture"] | None = None
    slot: str | None = Field(default=None, description="Encoder slot the image fills.", examples=["current_frontal"])
    view: str | None = Field(default=None, description="frontal, lateral or unknown.")
    view_position: str | None = Field(default=None, description="DICOM ViewPosition.", examples=["PA"])
    view_source: str | None = Field(
        default=None,
        description="Where the view comes from: client (`views` of the request), header, classifier (what the picture"
        " shows) or assumed (a picture that does not show its view clearly counts as frontal). A header may say that"
        " the view is oblique, which is neither; none where nothing tells it.",
        examples=["header"],
    )
    modality: str | None = Field(default=None, examples=["DX"])
    reason: str | None = Field(default=None, description="Problem slug of a refused file.", examples=["wrong-modality"])
    detail: str | None = Field(default=None, description="Why the file was refused or is unused.")


class Query(BaseModel):
    """How the study that is asked with was read."""

    study_instance_uid: str | None = Field(default=None, description="None where only JPEG or PNG files were sent.")
    from_archive: bool = Field(default=False, description="Whether it was named by its UID rather than sent.")
    slots: list[str] = Field(description="Encoder slots that were filled.", examples=[["current_frontal"]])
    prior_source: Literal["uploaded", "archive"] | None = Field(
        default=None,
        description="Where the prior study came from. Archive: found there, by the Patient ID of the header.",
    )
    files: list[QueryFile] = Field(description="Those that were sent.")
