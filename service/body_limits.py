"""How large a request's body may be, by what it is for."""

from dataclasses import dataclass
from typing import Final

from index.multipart import media_type

from .settings import Settings

__all__ = ["BodyLimit", "body_limit", "is_utf8_form", "takes_instances"]

# JSON is parsed whole and may take thirty times its size in memory; all but reports on the event loop besides.
JSON_BYTES: Final = 2**20
REPORT_BYTES: Final = 16 * 2**20  # a Bundle of a thousand reports has some 10 MiB


@dataclass(frozen=True)
class BodyLimit:
    """reason: the setting that it comes from, or what it is for."""

    bytes: int
    reason: str

    @property
    def exceeded(self) -> str:
        """What is said of a longer body."""
        return f"The request body is over the limit of {self.bytes // 2**20} MiB ({self.reason})."


def takes_instances(method: str, path: str) -> bool:
    """Whether bodies are taken in there as they come, file by file onto the disk."""
    return path.startswith("/dicomweb/") or (method, path) == ("POST", "/v1/studies")


def is_utf8_form(content_type: str) -> bool:
    """Whether the text of a form is in UTF-8, as that of all browsers (RFC 7578 5.1.2); True where it is no form.

    Starlette would decode it by whatever codec of Python's the header names: a MiB of ``punycode`` takes half a minute.
    """
    kind, parameters = media_type(content_type)
    return kind != "multipart/form-data" or parameters.get("charset", "utf-8").lower() in ("utf-8", "utf8", "us-ascii")


def body_limit(settings: Settings, method: str, path: str, content_type: str) -> BodyLimit:
    if takes_instances(method, path):
        return BodyLimit(settings.stow_max_bytes, "ALTA_STOW_MAX_MB")
    kind, _ = media_type(content_type)
    if kind == "multipart/form-data":
        return BodyLimit(settings.max_upload_bytes, "ALTA_MAX_UPLOAD_MB")
    return BodyLimit(REPORT_BYTES, "reports") if path.startswith("/v1/reports") else BodyLimit(JSON_BYTES, "JSON")
