"""Pages of the documentation, the fenced blocks in them, and the commands in these.

A comment on the line before a fence says what becomes of the block:

    <!-- not run: why -->       a reader runs it where no test can
    <!-- run by tests/x.py -->  another test runs it, or a script does
    <!-- run alone -->          run in an archive of its own, since what it does spoils those after it
    <!-- file adapted.toml -->  it is written to that file, for the commands after it

Without one it is run as it stands, after those above it on its page (``tests/docs_reader.py``).
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from service.cli import app

__all__ = ["PAGES", "ROOT", "Block", "Page", "blocks_of", "calls_of", "read_page", "require_command"]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "clients/python/README.md",
        ROOT / "model/demo/README.md",
        *DOCS.rglob("*.md"),
    )
)
FENCE = re.compile(r"^(?:<!-- (?P<marker>.*?) -->\n)?```(?P<language>[\w-]*)\n(?P<text>.*?)^```$", flags=re.M | re.S)
CALL = re.compile(r"(?:^|(?<=[\s;&|(]))alta (?:[^|;&)#\n'\"]|'[^']*'|\"[^\"]*\"|(?<=\S)#)*")  # to the next command


@dataclass(frozen=True)
class Block:
    """A fenced block: the page's path in the repository, the fence's line, from 1, and what stands in it."""

    page: str
    line: int
    language: str
    text: str
    marker: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


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
        require_command(line, as_it_stands=line in self.lines)


def require_command(line: str, as_it_stands: bool) -> None:
    """The command exists, with the options, and no more arguments than it takes; to be typed ``as_it_stands``, all."""
    words = shlex.split(line)[1:]
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        if words[0].isupper() and not as_it_stands:  # a placeholder: `alta evaluate PROTOCOL`
            return
        assert words[0] in command.commands, f"{line}: there is no {words[0]}"
        command = command.commands[words.pop(0)]
    if hasattr(command, "commands"):
        assert not as_it_stands, f"{line} names a group, not a command"
        return
    options = {name: parameter for parameter in command.params for name in parameter.opts if name.startswith("-")}
    options |= {name: option for option in command.params for name in option.secondary_opts}
    arguments = [given for given in command.params if not any(name.startswith("-") for name in given.opts)]
    given = 0
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            assert word in options, f"{line}: there is no {word}"
            if not options[word].is_flag:
                assert words or not as_it_stands, f"{line}: {word} needs a value"
                words = words[1:]
        else:
            given += 1
    assert given <= len(arguments) or any(argument.nargs == -1 for argument in arguments), f"{line}: too many arguments"
    if as_it_stands:
        assert given >= sum(argument.required for argument in arguments), f"{line}: too few arguments"


def blocks_of(page: str) -> list[Block]:
    """``page`` is a path in the repository."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start("language")) + 1,
            found["language"],
            found["text"],
            found["marker"] or "",
        )
        for found in FENCE.finditer(text)
    ]


def calls_of(block: Block) -> list[str]:
    """Every ``alta ...`` of a block of commands, without what is around it."""
    text = block.text.replace("\\\n", " ")
    return [found.group().partition(" #")[0].partition(" >")[0].strip() for found in CALL.finditer(text)]


def read_page(name: str) -> Page:
    return Page((DOCS / name).read_text(encoding="utf-8"))
