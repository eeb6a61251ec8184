"""``python generate_messages.py ../../docs/openapi.json > alta_client/messages.py``: replies as typed dictionaries."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# Of requests: whoever sends them may leave out what has a default.
ASKED = ("PromptSet", "ReportRequest", "SearchFilters")
PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
HEADER = '''"""Messages of the service, made from its OpenAPI document by ``generate_messages.py``.

Replies have every field; a service that is newer than this package may send more.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict
'''


def generate(document: Json) -> str:
    schemas: Json = document["components"]["schemas"]
    names = sorted(_reached(document, schemas))
    exported = "\n".join(f'    "{name}",' for name in names)
    classes = "\n\n".join(_class(name, schemas[name]) for name in names)
    return f"{HEADER}\n__all__ = [\n{exported}\n]\n\n\n{classes}"


def _reached(document: Json, schemas: Json) -> set[str]:
    """What a successful answer can contain, and what is asked with."""
    waiting = list(ASKED)
    for calls in document["paths"].values():
        for operation in calls.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {}) if status != "500" else {}
                for media in content.values():
                    waiting += _references(media.get("schema", {}))
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found and name in schemas:
            found.add(name)
            waiting += _references(schemas[name])
    return found


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref":
                yield value.rpartition("/")[2]
            elif key not in ("example", "examples"):
                yield from _references(value)
    elif isinstance(part, list):
        for item in part:
            yield from _references(item)


def _class(name: str, schema: Json) -> str:
    total = ", total=False" if name in ASKED else ""
    fields = [f"    {field}: {_type(part)}" for field, part in schema.get("properties", {}).items()]
    return "\n".join((f"class {name}(TypedDict{total}):", *(fields or ["    pass"]), ""))


def _type(schema: Json) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type(choice) for choice in schema["anyOf"]))
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return f"Literal[{', '.join(json.dumps(value) for value in values)}]"
    kind = schema.get("type")
    if kind == "array":
        return f"list[{_type(schema.get('items', {}))}]"
    if kind == "object":
        extra = schema.get("additionalProperties")
        return f"dict[str, {_type(extra) if isinstance(extra, dict) else 'Any'}]"
    return PLAIN.get(str(kind), "Any")


if __name__ == "__main__":
    sys.stdout.write(generate(json.loads(Path(sys.argv[1]).read_text())))
