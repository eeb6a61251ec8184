"""Pages of docs/ and the commands in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from service.cli import app

__all__ = ["Page", "read_page"]

DOCS = Path(__file__).parents[1] / "docs"


@dataclass(frozen=True)
class Page:
    text: str

    @property
    def blocks(self) -> list[str]:
        return re.findall(r"^```sh\n(.*?)^```", self.text, flags=re.M | re.S)

    @property
    def lines(self) -> list[str]:
        """Those of its command blocks, without comments."""
        return [line.partition("#")[0].strip() for block in self.blocks for line in block.splitlines()]

    @property
    def commands(self) -> list[str]:
        """Every call of ``alta``, in blocks and in the text."""
        in_text = re.findall(r"`(alta [^`]+)`", self.text)
        return sorted({line for line in [*self.lines, *in_text] if line.startswith("alta ")})

    def section(self, title: str) -> list[str]:
        """The lines of a section's first command block."""
        block = re.search(rf"^##+ {title}\n.*?^```sh\n(.*?)^```", self.text, flags=re.M | re.S)
        assert block is not None
        return [line.partition("#")[0].strip() for line in block.group(1).splitlines()]

    def require_command(self, line: str) -> None:
        """The command exists, with the options and no more arguments than it takes."""
        words = shlex.split(line)[1:]
        command: Any = typer.main.get_command(app)
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, f"{line}: there is no {words[0]}"
            command = command.commands[words.pop(0)]
        if hasattr(command, "commands"):
            assert line not in self.lines, f"{line} names a group, not a command"
            return
        options = {name: parameter for parameter in command.params for name in parameter.opts if name.startswith("-")}
        arguments = [given for given in command.params if not any(name.startswith("-") for name in given.opts)]
        given = 0
        while words:
            word = words.pop(0)
            if word.startswith("-"):
                assert word in options, f"{line}: there is no {word}"
                if not options[word].is_flag:
                    assert words, f"{line}: {word} needs a value"
                    words.pop(0)
            else:
                given += 1
        assert given <= len(arguments) or any(argument.nargs == -1 for argument in arguments)
        if line in self.lines:  # to be typed as it stands
            assert given >= sum(argument.required for argument in arguments)


def read_page(name: str) -> Page:
    return Page((DOCS / name).read_text(encoding="utf-8"))
