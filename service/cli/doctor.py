"""``alta doctor``."""

import json
import logging
import os
import sys
from typing import Annotated

import typer
from rich.markup import escape

from .console import console

__all__ = ["doctor"]

SHOWN = {"ok": "[green]ok  [/green]", "warn": "[yellow]warn[/yellow]", "fail": "[bold red]FAIL[/bold red]"}
BELOW = 26  # columns: under what was seen


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
    network: Annotated[
        bool, typer.Option("--network", help="Ask the systems that are configured, too, whether they answer.")
    ] = False,
    pacs: Annotated[
        list[str] | None,
        typer.Option(help="A node of the PACS to send C-ECHO to, TITLE@HOST:PORT; may be given several times."),
    ] = None,
) -> None:
    """Check this installation and say what to mend. Writes nothing, and is safe while the service runs.

    Exit code 1 where something fails; warnings do not count.
    """
    from ..doctor import Examination, Finding, examine

    logging.disable(logging.ERROR)  # what libraries say of a failure is in the finding
    try:
        findings: list[Finding] = []
        for finding in examine(os.environ, network=network, pacs=tuple(pacs or ())):
            findings.append(finding)
            if not as_json:
                _show(finding.check, finding.state, finding.saw, finding.remedy)
    finally:
        logging.disable(logging.NOTSET)
    done = Examination(tuple(findings))
    if as_json:
        state = "fail" if done.failures else "warn" if done.warnings else "ok"
        rows = [vars(finding) for finding in findings]
        report = {"state": state, "failures": done.failures, "warnings": done.warnings, "findings": rows}
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
    else:
        console.print(f"{_count(done.failures, 'failure')}, {_count(done.warnings, 'warning')}.")
    if done.failures:
        raise typer.Exit(1)


def _show(check: str, state: str, saw: str, remedy: str) -> None:
    console.print(f"{SHOWN[state]}  {escape(f'{check:<20}')}{escape(saw)}", soft_wrap=True)
    if remedy:
        console.print(f"{'':{BELOW}}{escape(remedy)}", soft_wrap=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
