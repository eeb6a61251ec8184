"""Prompts from a file: TOML or JSON, by finding either both sides or, for choosing among classes, phrases alone.

{"Edema": {"positive": ["There is edema."], "negative": ["There is no edema."]}}
{"Edema": ["mild interstitial edema", "pulmonary vascular congestion"]}
"""

import json
import tomllib
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..prompts import PromptPair

__all__ = ["PromptFileError", "read_class_prompts", "read_prompt_pairs"]


class PromptFileError(InputError):
    slug = "bad-prompts"


def read_prompt_pairs(path: Path) -> dict[str, PromptPair]:
    """Both sides of every finding. Raises PromptFileError."""
    pairs = {}
    for name, given in _read(path).items():
        if not isinstance(given, dict) or set(given) != {"positive", "negative"}:
            raise PromptFileError(f"{path}: {name}: expected positive and negative, each a list of phrases.")
        sides = {side: _phrases(path, f"{name}.{side}", given[side]) for side in ("positive", "negative")}
        pairs[name] = PromptPair(sides["positive"], sides["negative"])
    return pairs


def read_class_prompts(path: Path) -> dict[str, tuple[str, ...]]:
    """Phrases of every class; of a finding with two sides the positive ones. Raises PromptFileError."""
    return {
        name: _phrases(path, name, given.get("positive") if isinstance(given, dict) else given)
        for name, given in _read(path).items()
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:  # bad TOML, JSON and UTF-8 are ValueErrors
        raise PromptFileError(f"{path}: the prompts cannot be read: {error}.") from error
    if not isinstance(content, dict) or not content:
        raise PromptFileError(f"{path}: expected findings by name, found {content!r:.60}.")
    return content


def _phrases(path: Path, name: str, given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not given or not all(isinstance(p, str) and p.strip() for p in given):
        raise PromptFileError(f"{path}: {name}: expected a list of phrases, found {given!r:.60}.")
    return tuple(given)
