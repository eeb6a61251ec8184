"""``alta serve`` and ``alta demo``."""

from pathlib import Path
from typing import Annotated

import typer

from model.errors import AltaError

from ..settings import Settings, require_safe_exposure
from .console import console

__all__ = ["demo", "serve"]


def serve() -> None:
    """Answer over HTTP; settings come from ALTA_* variables (see docs/api.md)."""
    import uvicorn

    from index import migrate
    from model.checkpoint import read_fingerprint

    from ..app import create_app
    from ..logs import configure_logging

    settings = Settings()
    configure_logging(settings.log_level, settings.log_format)
    try:
        require_safe_exposure(settings)
    except ValueError as error:
        raise AltaError(str(error)) from None
    read_fingerprint(settings.model_path)  # a wrong folder is said in one line, before anything starts
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    migrate(settings.catalog_url)
    # uvicorn's access log holds study UIDs; the service logs route templates only.
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, access_log=False, log_config=None)


def demo(
    serve: Annotated[bool, typer.Option(help="Keep serving until Ctrl-C.")] = True,
    port: Annotated[int, typer.Option(help="Port of 127.0.0.1.")] = 8000,
    studies: Annotated[int, typer.Option(min=20, help="Simulated studies in the archive.")] = 400,
    folder: Annotated[Path, typer.Option(help="Everything the demo writes.")] = Path("data/demo"),
) -> None:
    """The whole product on a simulated archive, from files to answers: one query of each kind over HTTP."""
    from ..demo import run_demo

    run_demo(console, folder, port, studies, keep_serving=serve)
