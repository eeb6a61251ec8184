"""``alta``, the one command line. Commands import what they need when they run, so that ``--help`` is instant."""

import logging
import os
import sys
from typing import NoReturn

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.markup import escape

from model.errors import AltaError

from ..unknown_settings import describe_unknown, unknown_settings
from .archive import archive, db, ingest
from .audit import audit
from .backup import backup as backup
from .commands import Commands
from .console import console
from .data import data
from .delete import delete as delete
from .doctor import doctor
from .door_dicom import dicom as dicom
from .door_dicomweb import dicomweb as dicomweb
from .door_hl7 import hl7 as hl7
from .door_pacs import pacs as pacs
from .doors import pull, receive
from .embed import embed
from .encoders import adapters, import_published
from .evaluation import evaluate
from .forget import forget as forget
from .index import index
from .jobs import jobs
from .keys import keys
from .reports import reports as reports
from .returns import returns
from .serving import demo, serve
from .training import simulate, train
from .without_frontal import without_frontal as without_frontal
from .worker import worker

__all__ = ["app", "main"]

INTERRUPTED = 130  # what a shell makes of Ctrl-C, and typer of KeyboardInterrupt

app = Commands(
    "Find the past chest radiographs, and their reports, that resemble a study or show what a phrase says."
    " To see it: alta demo. With an archive of your own: alta ingest, embed, index build, serve (docs/quickstart.md).",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (demo, ingest, embed, serve, worker, doctor, train, simulate):
    app.command()(command)
app.command("import")(import_published)
for name, group in (
    ("data", data),
    ("adapters", adapters),
    ("pull", pull),
    ("receive", receive),
    ("index", index),
    ("jobs", jobs),
    ("returns", returns),
    ("archive", archive),
    ("evaluate", evaluate),
    ("keys", keys),
    ("audit", audit),
    ("db", db),
):
    app.add_typer(group, name=name)


def main() -> None:
    """Entry point: errors of ours are one line on standard error and exit code 1."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if sys.argv[1:2] != ["doctor"]:  # which says so among the rest
        for name, meant in unknown_settings(os.environ).items():
            typer.echo(f"alta: {describe_unknown(name, meant)}.".replace("?.", "?"), err=True)
    try:
        app()
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            console.stderr = True
            console.print("Stopped. What was committed stays; the same command goes on.")
        raise
    except AltaError as error:
        _fail(error.message)
    except SettingsError as error:  # raised before a value reaches its field's own check
        _fail(f"The settings are wrong: {error}. Lists and mappings are written as JSON, see docs/api.md.")
    except ValidationError as error:  # only settings are validated here
        wrong = "; ".join(f"ALTA_{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        _fail(f"The settings are wrong. {wrong}")


def _fail(message: str) -> NoReturn:
    console.stderr = True
    console.print(f"[red]alta:[/red] {escape(message)}", soft_wrap=True)
    sys.exit(1)
