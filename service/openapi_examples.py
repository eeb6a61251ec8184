"""An example of a message, put together from the examples of its fields."""

from typing import Any, Final

__all__ = ["Examples"]

FORMATS: Final = {"date": "2024-03-01", "date-time": "2024-03-01T12:00:00Z", "binary": "(the file)"}


class _NoExample(Exception):
    """A text that nothing tells an example of."""


class Examples:
    """Of the schemas of one OpenAPI document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._schemas = document["components"]["schemas"]

    def of(self, schema: dict[str, Any]) -> Any:
        """The schema's own example, or one made of its fields'. None where some text of it has none."""
        try:
            return self._of(schema)
        except _NoExample:
            return None

    def _of(self, schema: dict[str, Any]) -> Any:
        if "$ref" in schema:
            return self._of(self._schemas[schema["$ref"].rpartition("/")[2]])
        if schema.get("examples"):
            return schema["examples"][0]
        for told in ("const", "default"):
            if schema.get(told) is not None:
                return schema[told]
        if "enum" in schema:
            return schema["enum"][0]
        if "anyOf" in schema:
            return self._of_any(schema["anyOf"])
        return self._of_type(schema)

    def _of_any(self, choices: list[dict[str, Any]]) -> Any:
        """Of the first that has one. A plain value that may be null and tells no example is null."""
        optional = {"type": "null"} in choices
        for choice in choices:
            if optional and choice.get("type") not in ("object", "array") and "$ref" not in choice:
                continue
            if (found := self.of(choice)) is not None:
                return found
        if optional:
            return None
        raise _NoExample

    def _of_type(self, schema: dict[str, Any]) -> Any:
        match schema.get("type"):
            case "object":
                return {name: self._of(field) for name, field in schema.get("properties", {}).items()}
            case "array":
                return [self._of(schema["items"])]
            case "integer" | "number":
                return schema.get("minimum", 1)
            case "boolean":
                return True
            case "null":
                return None
            case "string" if "contentMediaType" in schema:
                return FORMATS["binary"]
            case "string" if schema.get("format") in FORMATS:
                return FORMATS[schema["format"]]
        raise _NoExample
