"""What the running service writes to its log: one line a message, nothing that may be about a patient."""

import logging
import traceback
from types import TracebackType

__all__ = ["configure_logging"]

LOGGERS = ("service", "index", "model")


class _Formatter(logging.Formatter):
    def formatException(  # noqa: N802
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """Where an error arose and of what type, without its message, which may quote a patient's file."""
        kind, _, frames = ei
        return "".join(traceback.format_tb(frames)) + (kind.__qualname__ if kind else "")


def configure_logging(level: str) -> None:
    """Write our own loggers' messages of ``level`` (debug, info, ...) and above to standard error.

    Other libraries' loggers stay as they are: what they say of a file has not been looked through.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(level.upper())
        logger.handlers = [handler]
        logger.propagate = False  # the root's handler would write every line again
