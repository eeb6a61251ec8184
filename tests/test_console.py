"""How far a command is: a bar at a terminal, lines through a pipe, as they happen."""

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from rich.console import Console

from service.cli.console import LINE_EVERY_S, progress_bar, staged_progress

shown = import_module("service.cli.console")  # ``service.cli`` has the console itself under that name


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(shown, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """What has come out of a pipe since it was asked last, though nobody has closed it."""
    out, into = os.pipe()
    os.set_blocking(out, False)

    def read() -> list[str]:
        try:
            return os.read(out, 1 << 16).decode().splitlines()
        except BlockingIOError:
            return []

    with os.fdopen(into, "w", buffering=1 << 16) as file:
        monkeypatch.setattr(shown, "console", Console(file=file, highlight=False))
        yield read
    os.close(out)


def test_a_stage_says_through_a_pipe_that_it_begins_how_far_it_is_and_what_came_of_it(
    piped: Callable[[], list[str]], clock: list[float]
) -> None:
    with progress_bar("simulating") as report:
        assert piped() == ["simulating…"]
        report(1, 400)
        assert piped() == ["simulating: 1 of 400 after 0 s"]
        report(2, 400)
        assert piped() == []
        clock[0] += LINE_EVERY_S
        report(3, 400)
        assert piped() == ["simulating: 3 of 400 after 15 s"]
        clock[0] += 5
        report(400, 400)
        assert piped() == []
    assert piped() == ["simulating: 400 of 400 after 20 s"]


def test_stages_are_told_apart_and_none_is_told_twice(piped: Callable[[], list[str]], clock: list[float]) -> None:
    with staged_progress() as report:
        report("searching", 1, 1)
        report("fetching", 0, 7, "[waiting]")
        report("fetching", 7, 7)
    assert piped() == [
        "searching: 1 of 1 after 0 s",
        "fetching: 0 of 7, [waiting] after 0 s",
        "fetching: 7 of 7 after 0 s",
    ]


def test_a_terminal_has_a_bar_and_no_such_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "shown").open("w") as file:
        monkeypatch.setattr(shown, "console", Console(file=file, force_terminal=True, width=100))
        with progress_bar("simulating") as report:
            report(400, 400)
    text = (tmp_path / "shown").read_text()
    assert "━" in text and "400/400" in text and "simulating…" not in text and "after" not in text
