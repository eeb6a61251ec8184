"""What the command line shows: one console, progress bars, errors in one line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["console", "progress_bar", "staged_progress"]

console = Console(highlight=False)


@contextmanager
def staged_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Bars that appear as their stage begins: ``report(stage, done, total)``."""
    columns: tuple[Any, ...] = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield report


@contextmanager
def progress_bar(stage: str) -> Iterator[Callable[[int, int], None]]:
    """One bar: ``report(done, total)``."""
    with staged_progress() as report:
        yield lambda done, total: report(stage, done, total)
