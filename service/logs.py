"""What the running service writes to its log: one line a message, nothing that may be about a patient.

Every line says which request or job it belongs to (``observing.work``), in text as well as in JSON.
"""

import json
import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal

from .observing import work_now

__all__ = ["LogFormat", "configure_logging"]

LogFormat = Literal["text", "json"]

# uvicorn's access logger stays silent: it would write paths, which hold study UIDs. Ours writes route templates.
LOGGERS: Final = ("service", "index", "model", "uvicorn")


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # what another handler made of the exception, with its message
        return super().format(record)

    def formatException(  # noqa: N802
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """Where an error arose and of what type, without its message, which may quote a patient's file."""
        kind, _, frames = ei
        return "".join(traceback.format_tb(frames)) + (kind.__qualname__ if kind else "")


class _Text(_Redacting):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        line = super().formatMessage(record)
        work = work_now()
        return f"{line} [{work.id}]" if work else line


class _Json(_Redacting):
    def format(self, record: logging.LogRecord) -> str:
        """One JSON object a line. Members of a message that is made from a mapping are members of their own too."""
        work = work_now()
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if work:
            fields[work.kind] = work.id
        if isinstance(record.args, Mapping):
            fields |= record.args
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False, default=str)


def configure_logging(level: str, form: LogFormat = "text") -> None:
    """Write our own loggers' messages, and uvicorn's, of ``level`` (debug, info, ...) and above to standard error.

    Other libraries' loggers stay as they are: what they say of a file has not been looked through.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if form == "json" else _Text())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(level.upper())
        logger.handlers = [handler]
        logger.propagate = False  # the root's handler would write every line again
