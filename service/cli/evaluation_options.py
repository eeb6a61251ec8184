"""Options that the commands of ``alta evaluate`` share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from model.prompts import PromptPair

__all__ = [
    "Findings",
    "Images",
    "LEVEL_OF",
    "Level",
    "Models",
    "NoLeakCheck",
    "Output",
    "Prompts",
    "Rounds",
    "Rows",
    "Split",
    "Tables",
    "prompt_pairs",
]

Rows = Annotated[Path, typer.Argument(metavar="LIST", help="CSV of what is evaluated; docs/evaluation.md.")]
Models = Annotated[
    list[Path] | None,
    typer.Option("--model", help="Folder of encoders; repeat to compare, the first is the baseline."),
]
Images = Annotated[Path | None, typer.Option(help="Where relative image paths start; default: the list's folder.")]
Split = Annotated[str, typer.Option(help="Rows of this split, where the list has that column; or all.")]
Tables = Annotated[
    list[Path] | None,
    typer.Option("--training-table", help="CSV with patient_id and split that the encoders were trained on."),
]
NoLeakCheck = Annotated[bool, typer.Option("--no-leak-check", help="Take patients that were trained on, too.")]
Output = Annotated[Path | None, typer.Option(help="Folder that receives results.json, results.md and plots.")]
Rounds = Annotated[int, typer.Option(min=20, help="Bootstrap rounds.")]
Prompts = Annotated[Path | None, typer.Option(help="TOML or JSON of prompts by finding; default: the built-in ones.")]
Findings = Annotated[list[str] | None, typer.Option("--finding", help="Ask only this finding; repeat for more.")]
Level = Annotated[Literal["frontal", "study"], typer.Option(help="Embed the frontal alone, or every image of the row.")]
LEVEL_OF = {"frontal": "single_image", "study": "study"}


def prompt_pairs(path: Path | None) -> "dict[str, PromptPair]":
    """From a file, else the built-in ones."""
    from model.evaluation.prompt_files import read_prompt_pairs
    from model.prompts import PROMPT_SETS

    return read_prompt_pairs(path) if path else dict(PROMPT_SETS)
