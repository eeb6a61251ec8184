"""``log.jsonl``: one line of figures at a time, written by the process that leads."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .distributed import World

__all__ = ["Journal"]


class Journal:
    """Lines of JSON, each on disk as soon as it is written; ``going_on`` appends to an interrupted run's."""

    def __init__(self, path: Path, world: World, going_on: bool) -> None:
        self._stream = path.open("a" if going_on else "w") if world.leads else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._stream:
            self._stream.close()

    def write(self, entry: dict[str, Any]) -> None:
        if self._stream:
            print(json.dumps(entry), file=self._stream, flush=True)
