"""One mapping from errors to HTTP: RFC 9457 problem details with stable types.

Every error of the product carries a slug (``model.errors``); ``PROBLEMS`` gives each slug its status, title
and the text that ``GET /problems/{slug}`` answers, so that a problem's ``type`` can be followed.

    InputError
      RequestError    a request cannot be carried out as it is; may carry extra members
"""

import logging
import traceback
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException

from model.errors import AltaError, ArchiveError, InputError

from .problems import PROBLEMS

__all__ = [
    "RETRY_AFTER",
    "RequestError",
    "add_error_handlers",
    "error_response",
    "internal_problem",
    "problem_response",
]

log = logging.getLogger(__name__)


class RequestError(InputError):
    """A request cannot be carried out as it is. ``members`` are added to the problem document, ``headers`` to the
    answer."""

    def __init__(self, message: str, slug: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(message, slug)
        self.headers = headers or {}
        self.members = members


# Validation happens before our own code sees a value; these fields have a type of their own all the same.
SLUG_OF_FIELD = {
    "top_k": "top-k-out-of-range",
    "files": "no-file",
    "filters": "bad-filter",
    **dict.fromkeys(("modality", "view", "sex", "date_from", "date_to", "age_min", "age_max"), "bad-filter"),
    **dict.fromkeys(("exclude_patient_of", "exclude_study"), "bad-filter"),
}

RETRY_AFTER = {  # seconds
    "overloaded": "1",
    "request-timed-out": "5",
    "too-busy": "5",
    "too-many-jobs": "60",
    "storage-full": "60",
}

HTTP_SLUGS = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "file-too-large",
}


def problem_response(
    request: Request,
    slug: str,
    detail: str,
    *,
    status: int | None = None,
    members: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    problem = PROBLEMS[slug]
    request.scope["problem"] = slug  # for who counts them
    body = {
        "type": f"/problems/{slug}",
        "title": problem.title,
        "status": status or problem.status,
        "detail": detail,
        "instance": request.url.path,
        "request_id": request.scope.get("request_id"),
        **(members or {}),
    }
    return JSONResponse(body, status or problem.status, headers=headers, media_type="application/problem+json")


def add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(AltaError, error_response)
    app.add_exception_handler(OperationalError, _database_error)
    app.add_exception_handler(DataError, _value_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


def internal_problem(request: Request, error: Exception) -> JSONResponse:
    """Log where an unexpected error arose, without its message, which may quote a header of a patient's file."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("request failed: %s\n%s", type(error).__qualname__, frames)
    return problem_response(request, "internal-error", "The request failed unexpectedly.")


async def error_response(request: Request, error: Exception) -> JSONResponse:
    """The problem document of an error of ours."""
    assert isinstance(error, AltaError)
    if not isinstance(error, InputError | ArchiveError):
        return internal_problem(request, error)
    if isinstance(error, ArchiveError) and error.slug not in PROBLEMS:
        # The operator's business, and the message may name files or servers.
        log.error("%s: %s", error.slug, error.message)
        return problem_response(request, ArchiveError.slug, f"The archive cannot answer: {error.slug}.")
    slug = error.slug if error.slug in PROBLEMS else InputError.slug
    members = error.members if isinstance(error, RequestError) else None
    headers = {"Retry-After": RETRY_AFTER[slug]} if slug in RETRY_AFTER else {}
    if isinstance(error, RequestError):
        headers |= error.headers
    return problem_response(request, slug, error.message, members=members, headers=headers)


async def _database_error(request: Request, error: Exception) -> JSONResponse:
    log.error("the database does not answer (%s)", type(error).__name__)
    return problem_response(request, ArchiveError.slug, "The archive cannot answer: database-unavailable.")


async def _value_error(request: Request, error: Exception) -> JSONResponse:
    """PostgreSQL has no NUL in texts; whatever a caller named with one is nowhere."""
    detail = "A value that was sent is none that the database knows: a text with a NUL, or a number out of its range."
    return problem_response(request, "invalid-request", detail)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    if any(e["type"] == "json_invalid" and isinstance(e["loc"][1], int) for e in errors):  # an offset in the body
        return problem_response(request, "bad-request", "The body is no well-formed JSON.")
    # Without the ``input`` that pydantic adds: an error must not repeat what may be about a patient.
    found = [{"location": [str(part) for part in e["loc"]], "message": e["msg"], "code": e["type"]} for e in errors]
    slugs = {_slug_of(tuple(e["loc"])) for e in errors}
    slug = slugs.pop() if len(slugs) == 1 else "invalid-request"
    detail = "; ".join(f"{'.'.join(e['location'][1:]) or e['location'][0]}: {e['message']}" for e in found)
    return problem_response(request, slug, detail, members={"errors": found})


def _slug_of(location: tuple[int | str, ...]) -> str:
    return next((SLUG_OF_FIELD[part] for part in location if part in SLUG_OF_FIELD), "invalid-request")


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    slug = HTTP_SLUGS.get(error.status_code, "bad-request" if error.status_code < 500 else "internal-error")
    detail = str(error.detail)
    if error.status_code == 400 and detail.startswith("Too many files"):
        slug = "too-many-files"  # Starlette's form parser, which stops at the first file over the limit
        return problem_response(request, slug, detail, headers=error.headers)
    return problem_response(request, slug, detail, status=error.status_code, headers=error.headers)
