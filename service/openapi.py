"""What the OpenAPI document says about problems."""

from typing import Any

from fastapi import FastAPI

from .schemas import Problem

__all__ = ["describe_problems", "problem_responses"]

REFERENCE = {"$ref": "#/components/schemas/Problem"}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Documentation of the problem answers of a call."""
    return {
        status: {
            "description": "A problem document; GET its `type` for an explanation.",
            "content": {"application/problem+json": {"schema": REFERENCE}},
        }
        for status in statuses
    }


def describe_problems(app: FastAPI) -> None:
    """Add the problem document, which no route returns, to the schemas of ``app``."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()  # kept by FastAPI after the first call
        document["components"]["schemas"].setdefault("Problem", Problem.model_json_schema())
        return document

    app.openapi = openapi  # type: ignore[method-assign]
