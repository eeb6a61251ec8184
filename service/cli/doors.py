"""``alta pull`` and ``alta receive``: the doors that are no file. Their commands are in the ``door_*`` files."""

import typer

__all__ = ["pull", "receive"]

pull = typer.Typer(no_args_is_help=True, help="Fetch studies from a PACS or a DICOMweb server.")
receive = typer.Typer(no_args_is_help=True, help="Listen for studies or reports that others send.")
