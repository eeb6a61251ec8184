"""``alta serve`` and ``alta demo``."""

import os
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from ..settings import Settings
from ..unknown_settings import refuse_misspelt
from .console import console

__all__ = ["demo", "serve"]


def serve() -> None:
    """Answer over HTTP; settings come from ALTA_* variables (see docs/api.md)."""
    from index import create_schema, open_catalog
    from model.checkpoint import read_fingerprint

    from ..access import require_safe_exposure
    from ..app import create_app
    from ..logs import configure_logging
    from ..observing import require_tracing
    from ..serving import Server

    refuse_misspelt(os.environ)
    settings = Settings()
    configure_logging(settings.log_level, settings.log_format)
    require_tracing(settings.traces)
    read_fingerprint(settings.model_path)  # a wrong folder is said in one line, before anything starts
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    create_schema(settings.catalog_url)
    with closing(open_catalog(settings.catalog_url)) as catalog:
        require_safe_exposure(settings, catalog)
    Server(create_app(settings), settings).run_until_told()


def demo(
    serve: Annotated[bool, typer.Option(help="Keep serving until Ctrl-C.")] = True,
    port: Annotated[int, typer.Option(help="Port of 127.0.0.1.")] = 8000,
    studies: Annotated[int, typer.Option(min=20, help="Simulated studies in the archive.")] = 400,
    folder: Annotated[Path, typer.Option(help="Everything the demo writes.")] = Path("data/demo"),
) -> None:
    """The whole product on a simulated archive, from files to answers: one query of each kind over HTTP."""
    from ..demo import run_demo

    run_demo(console, folder, port, studies, keep_serving=serve)
