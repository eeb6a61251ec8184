"""``alta`` as one types it, in this process."""

import logging
import sys

import pytest

from service import cli
from service.cli.console import console


def typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``alta`` with these arguments, in lines of 300 characters."""
    monkeypatch.setattr(console, "width", 300)
    monkeypatch.setattr(console, "stderr", False)
    monkeypatch.setattr(logging.root, "handlers", [])  # else the handler of an earlier call writes to a closed stream
    monkeypatch.setattr(sys, "argv", ["alta", *map(str, arguments)])
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    shown = capsys.readouterr()
    return code, shown.out, shown.err
