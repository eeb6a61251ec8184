"""What a call can end in, other than its result.

ClientError
  Problem        the service answered with a problem document (RFC 9457)
  Unreachable    no answer came: connection, time limit, protocol
  JobFailed      a job that was waited for ended without success
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["ClientError", "JobFailed", "Problem", "Unreachable"]


class ClientError(Exception):
    """Base of all errors of this package."""


class Problem(ClientError):
    """The service refused or failed. ``slug`` is stable; what each one means is at ``GET /problems/{slug}``."""

    def __init__(self, status: int, slug: str, detail: str, document: Mapping[str, Any]) -> None:
        super().__init__(f"{slug} ({status}): {detail}")
        self.status = status
        self.slug = slug
        self.detail = detail
        self.document = document

    @property
    def request_id(self) -> str | None:
        """By which the operator finds the request in the service's log."""
        return self.document.get("request_id")


class Unreachable(ClientError):
    """No answer came. Whether the service did what was asked is unknown, unless the connection was never made."""


class JobFailed(ClientError):
    """``job``: as the service describes it."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        super().__init__(f"job {job.get('id')} ended as {job.get('state')}: {job.get('error') or 'no reason given'}")
        self.job = job
