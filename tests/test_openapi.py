"""The OpenAPI document: whatever route is added, its calls are summarised, exemplified, and their problems told."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from fastapi import APIRouter
from pydantic import BaseModel

from service.access.gate import is_public
from service.app import create_app
from service.openapi import complete_openapi
from service.openapi_examples import Examples
from service.problems import PROBLEMS
from service.settings import Settings

PROBLEM = "application/problem+json"
BINARY = ("image/", "application/octet-stream")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, calls in document["paths"].items():
        for method, operation in calls.items():
            yield path, f"{method.upper()} {path}", operation


def resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        target: Any = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        part = target
    return part


def examples_of(document: dict[str, Any], media: dict[str, Any]) -> list[Any]:
    schema = resolved(document, media.get("schema", {}))
    named = [example["value"] for example in media.get("examples", {}).values()]
    return [*([media["example"]] if "example" in media else []), *named, *schema.get("examples", [])]


def bodies(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(whose, media type, media) of the request and each answer."""
    parts = {"request": operation.get("requestBody", {}), **operation["responses"]}
    for whose, part in parts.items():
        for kind, media in resolved(document, part).get("content", {}).items():
            yield whose, kind, media


def test_every_call_has_a_summary_and_a_description(document: dict[str, Any]) -> None:
    assert [
        name for _, name, call in operations(document) if not (call.get("summary") and call.get("description"))
    ] == []


def test_every_request_and_every_answer_has_an_example(document: dict[str, Any]) -> None:
    without = [
        f"{name}: {whose} ({kind})"
        for _, name, operation in operations(document)
        for whose, kind, media in bodies(document, operation)
        if not kind.startswith(BINARY) and not examples_of(document, media)
    ]
    assert without == [], "give the texts of its message `examples=[...]`"


def test_examples_are_what_their_schemas_say(document: dict[str, Any]) -> None:
    wrong = []
    for _, name, operation in operations(document):
        for whose, kind, media in bodies(document, operation):
            if kind.startswith(("multipart/", "text/")) or "schema" not in media:
                continue
            checker = jsonschema.Draft202012Validator({**media["schema"], "components": document["components"]})
            for example in examples_of(document, media):
                wrong += [f"{name}: {whose}: {error.message}" for error in checker.iter_errors(example)]
    assert wrong == []


def test_examples_of_forms_have_the_fields_that_there_are(document: dict[str, Any]) -> None:
    wrong = []
    for _, name, operation in operations(document):
        for _, kind, media in bodies(document, operation):
            if kind == "multipart/form-data":
                schema = resolved(document, media["schema"])
                parts = [schema, *(resolved(document, part) for part in schema.get("allOf", []))]
                known = {field for part in parts for field in part.get("properties", {})}
                wrong += [f"{name}: {field}" for field in set(media["example"]) - known]
    assert wrong == []


def test_every_parameter_that_must_be_there_has_an_example(document: dict[str, Any]) -> None:
    without = [
        f"{name}: {parameter['name']}"
        for _, name, operation in operations(document)
        for parameter in operation.get("parameters", [])
        if parameter.get("required")
        and not ("example" in parameter or resolved(document, parameter["schema"]).get("examples"))
    ]
    assert without == []


def test_every_call_documents_the_problems_that_any_call_can_have(document: dict[str, Any]) -> None:
    missing = []
    for path, name, operation in operations(document):
        expected = {421, 500} | (set() if is_public(path) else {401, 403, 429, 503})
        expected |= {400, 408, 413} if "requestBody" in operation else set()
        expected |= {422} if "parameters" in operation else set()
        missing += [f"{name}: {status}" for status in expected if str(status) not in operation["responses"]]
    assert missing == []


def test_answers_of_400_and_above_are_problems_unless_a_call_says_what_else(document: dict[str, Any]) -> None:
    others = {
        (name, status)
        for _, name, operation in operations(document)
        for status, response in operation["responses"].items()
        if int(status) >= 400 and PROBLEM not in resolved(document, response).get("content", {})
    }
    told = {(name, status) for name, status in others if name.startswith("POST ") and status == "409"}
    assert others - told == {("GET /readyz", "503")}  # 409: what became of each file or report, of which none was taken


def test_every_problem_is_an_example_under_its_status(document: dict[str, Any]) -> None:
    found = {
        slug: example["value"]["status"]
        for response in document["components"]["responses"].values()
        for slug, example in response["content"][PROBLEM]["examples"].items()
    }
    expected = {slug: problem.status for slug, problem in PROBLEMS.items()}
    del expected["client-left"]  # 499 is for logs: nobody is there to be answered
    assert found == expected


def test_nothing_refers_to_what_is_not_there(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "')[1:]}:
        resolved(document, {"$ref": reference})


def test_a_route_without_examples_is_found_out() -> None:
    class Untold(BaseModel):
        """A message."""

        word: str

    app = create_app(Settings())
    router = APIRouter()

    @router.post("/v1/untold")
    def untold(body: Untold) -> Untold:
        return body

    app.include_router(router)
    complete_openapi(app)
    document = app.openapi()
    with pytest.raises(AssertionError, match="POST /v1/untold: request"):
        test_every_request_and_every_answer_has_an_example(document)
    test_every_call_documents_the_problems_that_any_call_can_have(document)


def test_an_example_is_made_of_the_examples_of_fields() -> None:
    schemas = {
        "Inner": {"type": "object", "properties": {"uid": {"type": "string", "examples": ["1.2"]}}},
        "Outer": {
            "type": "object",
            "properties": {
                "inner": {"anyOf": [{"$ref": "#/components/schemas/Inner"}, {"type": "null"}]},
                "many": {"type": "array", "items": {"$ref": "#/components/schemas/Inner"}},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "kind": {"enum": ["a", "b"]},
                "day": {"type": "string", "format": "date"},
            },
        },
    }
    examples = Examples({"components": {"schemas": schemas}})
    assert examples.of({"$ref": "#/components/schemas/Outer"}) == {
        "inner": {"uid": "1.2"},
        "many": [{"uid": "1.2"}],
        "note": None,
        "kind": "a",
        "day": "2024-03-01",
    }
    assert examples.of({"type": "object", "properties": {"word": {"type": "string"}}}) is None
