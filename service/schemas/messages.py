"""What every message has: the base of requests, problems, notices, and the words shared by several."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = ["EXAMPLE_REQUEST_ID", "EXAMPLE_UID", "Message", "Name", "Notice", "Problem", "Uid"]

Uid = Annotated[str, StringConstraints(pattern=r"^[0-9.]{1,64}$")]  # PS3.5 9.1
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]

EXAMPLE_UID = "2.25.297410839285610394857261049586730194857"
EXAMPLE_REQUEST_ID = "0b0f6c1e6d0b4f0e9f6f0b8f5c1d2e3f"


class Message(BaseModel):
    """Base of all messages: unknown fields of a request are refused rather than ignored."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """RFC 9457 problem details. Some problems have members of their own, such as `errors` or `files`."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "/problems/empty-index",
                    "title": "Nothing to search in yet",
                    "status": 503,
                    "detail": "No generation is live. Run `alta index build`.",
                    "instance": "/v1/search/text-to-image",
                    "request_id": EXAMPLE_REQUEST_ID,
                }
            ]
        },
    )

    type: str = Field(description="Stable; GET it for an explanation.")
    title: str
    status: int
    detail: str = Field(description="What was expected, what was found, what to do.")
    instance: str = Field(description="Path of the request.")
    request_id: str = Field(description="Also in the `X-Request-ID` header and in the service's log.")


class Notice(Message):
    """The request was carried out, though not quite as sent."""

    code: str = Field(description="Stable name.", examples=["text-truncated"])
    detail: str = Field(examples=["Text 1 of 1 has 300 tokens; 256 were read."])
