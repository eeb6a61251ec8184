"""The help of every command as somebody reads it who has never seen one of them, in 80 columns."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from service.cli import app


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


ALL = list(commands(typer.main.get_command(app)))


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def shown(path: tuple[str, ...]) -> str:
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(("alta", *path)) for path, _ in ALL])
def test_a_command_and_each_of_its_options_are_explained_and_nothing_is_cut(
    path: tuple[str, ...], command: Any
) -> None:
    text = shown(path)
    assert "…" not in text
    assert "<bool>" not in text  # a flag takes no value
    assert command.help
    for parameter in command.params:
        assert parameter.help, parameter.name
        for name in parameter.opts if parameter.param_type_name == "option" else ():
            assert name in text.split() or name in text.replace("│", " ").split()


def test_paragraphs_are_wrapped_where_the_terminal_ends_not_where_the_source_does() -> None:
    lines = [line.strip() for line in shown(("worker",)).splitlines()]
    assert "time: another worker, or this one started again, goes on with the job two" in lines


def test_the_choices_of_an_option_are_whole() -> None:
    words = shown(("worker",)).replace("│", " ").replace(",", " ").replace(";", " ").split()
    assert {"embed", "index-build", "reindex", "ingest", "prune", "verify"} <= set(words)
    assert "superseded." in shown(("returns", "list"))


def test_who_knows_nothing_is_told_what_it_is_for_and_where_to_begin() -> None:
    text = " ".join(shown(()).split())
    assert "resemble a study" in text and "alta demo" in text and "docs/quickstart.md" in text
