"""``alta`` as one types it, in this process."""

import logging
import sys

import pytest

from service import cli
from service.cli.console import console
from service.logs import LOGGERS


def typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``alta`` with these arguments, in lines of 300 characters."""
    monkeypatch.setattr(console, "width", 300)
    monkeypatch.setattr(console, "stderr", False)
    monkeypatch.setattr(logging.root, "handlers", [])
    loggers = [logging.getLogger(name) for name in (*LOGGERS, *logging.root.manager.loggerDict)]
    before = [(logger, logger.level, logger.handlers, logger.propagate) for logger in loggers]
    monkeypatch.setattr(sys, "argv", ["alta", *map(str, arguments)])
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:  # as the end of a process does: what a server set up would go on writing to this test's stream
        for logger, level, handlers, propagate in before:
            logger.setLevel(level)
            logger.handlers, logger.propagate = handlers, propagate
    shown = capsys.readouterr()
    return code, shown.out, shown.err
