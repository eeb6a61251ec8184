"""What the command line shows: one console, progress bars, errors in one line, names that can be copied."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Final, Protocol

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

__all__ = ["console", "plain", "print_file", "progress_bar", "staged_progress"]

console = Console(highlight=False)

LINE_EVERY_S: Final = 15.0  # of progress, where no bar is seen to move

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # a file may be named by somebody else, such as who packed a zip file


class Report(Protocol):
    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None: ...


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


@contextmanager
def staged_progress() -> Iterator[Report]:
    """Bars that appear as their stage begins: ``report(stage, done, total)``, with a note behind the bar if wanted.

    Where the output is no terminal but a pipe, a file or a log, lines now and then.
    """
    if not console.is_terminal:
        with _lines() as tell:
            yield tell
        return
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
    if not console.is_terminal:
        console.print(f"{stage}…")
    with staged_progress() as report:
        yield lambda done, total: report(stage, done, total)


@contextmanager
def _lines() -> Iterator[Report]:
    """A line when a stage begins, one now and then, and one of how far each came."""
    began = monotonic()
    latest: dict[str, str] = {}
    told: dict[str, tuple[float, str]] = {}  # when, and what

    def tell(stage: str) -> None:
        text = latest[stage]
        told[stage] = monotonic(), text
        console.print(f"{stage}: {text} after {monotonic() - began:.0f} s", markup=False, soft_wrap=True)

    def report(stage: str, done: int, total: int, note: str = "") -> None:
        latest[stage] = ", ".join(filter(None, (f"{done} of {total}", note)))
        if stage not in told or monotonic() - told[stage][0] >= LINE_EVERY_S:
            tell(stage)

    yield report
    for stage, text in latest.items():
        if told[stage][1] != text:
            tell(stage)


def print_file(name: str, about: str) -> None:
    """A file's name whole on a line of its own, at any width, and what there is to say of it indented below."""
    for line in (name, f"    {about}"):
        console.print(plain(line), markup=False, emoji=False, soft_wrap=True)


def plain(text: str) -> str:
    """Text of a file or a header as a terminal may show it: control characters are written out."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
