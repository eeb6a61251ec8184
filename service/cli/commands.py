"""Groups of commands whose help reads well at any width."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = ["Commands"]

F = TypeVar("F", bound=Callable[..., Any])


class Commands(typer.Typer):
    """A group of commands: without one of them it shows its help."""

    def __init__(self, help: str, **given: Any) -> None:
        super().__init__(cls=_Group, no_args_is_help=True, help=help, **given)

    def command(self, name: str | None = None, **given: Any) -> Callable[[F], F]:
        return super().command(name, cls=_Command, **given)


class _Command(TyperCommand):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        _make_readable(self, ctx)
        super().format_help(ctx, formatter)


class _Group(TyperGroup):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        _make_readable(self, ctx)
        super().format_help(ctx, formatter)


def _make_readable(shown: TyperCommand | TyperGroup, ctx: Any) -> None:
    # Typer keeps the line breaks of later paragraphs as they are in the source.
    shown.help = re.sub(r"(?<!\n)\n(?!\n)", " ", shown.help or "")
    for option in shown.get_params(ctx):
        if getattr(option, "is_flag", False):
            option.metavar = ""  # else "<bool>", as if it took a value
