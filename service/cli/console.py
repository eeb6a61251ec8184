"""What the command line shows: one console, progress bars, errors in one line, names that can be copied."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["console", "print_file", "progress_bar", "staged_progress"]

console = Console(highlight=False)

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # a file may be named by somebody else, such as who packed a zip file


class Report(Protocol):
    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None: ...


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


@contextmanager
def staged_progress() -> Iterator[Report]:
    """Bars that appear as their stage begins: ``report(stage, done, total)``, with a note behind the bar if wanted."""
    columns: tuple[Any, ...] = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        _Rate(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int, note: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total, note=note)
            progress.update(tasks[stage], completed=done, total=total, note=note)

        yield report


@contextmanager
def progress_bar(stage: str) -> Iterator[Callable[[int, int], None]]:
    """One bar: ``report(done, total)``."""
    with staged_progress() as report:
        yield lambda done, total: report(stage, done, total)


def print_file(name: str, about: str) -> None:
    """A file's name whole on a line of its own, at any width, and what there is to say of it indented below."""
    for line in (name, f"    {about}"):
        shown = _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", line)
        console.print(shown, markup=False, emoji=False, soft_wrap=True)
