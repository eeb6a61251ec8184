"""``python -m service.export_openapi > docs/openapi.json`` refreshes the committed copy of the API description."""

import json
import sys

from .app import create_app
from .settings import Settings

__all__ = ["document"]


def document() -> str:
    """The OpenAPI document as it is committed."""
    return json.dumps(create_app(Settings()).openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
