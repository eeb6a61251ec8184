"""What the OpenAPI document says beside what FastAPI finds in the routes: problems and examples, of every call."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI

from .access.gate import is_public
from .openapi_examples import Examples
from .problems import PROBLEMS
from .schemas import EXAMPLE_REQUEST_ID, Problem

__all__ = ["complete_openapi", "form_example", "problem_responses"]

PROBLEM: Final = "application/problem+json"
# No example is made: of binary data, and of forms, whose fields exclude one another (``form_example``).
UNMADE: Final = ("image/", "application/octet-stream", "multipart/")

CLIENT_LEFT: Final = 499  # for the log and metrics: nobody is there to be answered

# What is answered before a route is reached, or whatever it does.
OF_ALL: Final = (421, 500)
BEHIND_THE_GATE: Final = (401, 403, 429, 503)
WITH_BODY: Final = (400, 408, 413, 415)
OF_PARAMETERS: Final = 422


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Documentation of the problem answers of a call, beside those that every call has."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {status: {"description": "A problem.", "content": {PROBLEM: {"schema": schema}}} for status in statuses}


def form_example(**fields: Any) -> dict[str, Any]:
    """For ``openapi_extra``: a form that can be sent."""
    return {"requestBody": {"content": {"multipart/form-data": {"example": fields}}}}


def complete_openapi(app: FastAPI) -> None:
    """Let ``app.openapi()`` document every problem and give an example of every request and answer."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()  # which FastAPI keeps, and this completes
            document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
            for path, operation in _operations(document):
                _document_problems(path, operation)
                _add_examples(operation, Examples(document))
            document["components"]["responses"] = _problems_by_status()
            for unused in ("HTTPValidationError", "ValidationError"):
                document["components"]["schemas"].pop(unused, None)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, calls in document["paths"].items():
        for operation in calls.values():
            yield path, operation


def _document_problems(path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    statuses = set(OF_ALL)
    if not is_public(path):
        statuses.update(BEHIND_THE_GATE)
    if "requestBody" in operation:
        statuses.update(WITH_BODY)
    if "parameters" in operation:
        statuses.add(OF_PARAMETERS)
    for status, response in responses.items():
        # FastAPI's own 422 is not how this service answers.
        if PROBLEM in response.get("content", {}) or status == str(OF_PARAMETERS):
            statuses.add(int(status))
    for status in statuses:
        response = responses.get(str(status), {})
        if PROBLEM in response.get("content", {}) or status == OF_PARAMETERS or not response:
            responses[str(status)] = {"$ref": f"#/components/responses/{_name(status)}"}
    operation["responses"] = dict(sorted(responses.items()))


def _problems_by_status() -> dict[str, Any]:
    """Every problem as an example, under the status it comes with."""
    by_status: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for slug, problem in PROBLEMS.items():
        value = {
            "type": f"/problems/{slug}",
            "title": problem.title,
            "status": problem.status,
            "detail": problem.text,
            "instance": "/v1/search",
            "request_id": EXAMPLE_REQUEST_ID,
        }
        by_status[problem.status][slug] = {"summary": problem.title, "value": value}
    return {
        _name(status): {
            "description": "A problem document; GET its `type` for an explanation.",
            "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}},
        }
        for status, examples in sorted(by_status.items())
        if status != CLIENT_LEFT
    }


def _name(status: int) -> str:
    return f"Problem{status}"


def _add_examples(operation: dict[str, Any], examples: Examples) -> None:
    bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
    for body in bodies:
        for kind, media in body.get("content", {}).items():
            if kind.startswith(UNMADE) or "example" in media or "examples" in media:
                continue
            example = examples.of(media.get("schema", {}))
            if example is not None:
                media["example"] = example
