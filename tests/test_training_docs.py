"""docs/training.md names every key of a configuration with its default."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from model.alta import ALTAConfig, ImageConfig, TextConfig
from model.checkpoint import Provenance
from model.image import ImageTransform
from model.losses import LossWeights
from model.training import TrainConfig
from model.training.config import BaseConfig, DataConfig, OptimConfig, ValidationConfig

PARTS: dict[str, Any] = {
    "top": TrainConfig,
    "base": BaseConfig,
    "data": DataConfig,
    "optim": OptimConfig,
    "losses": LossWeights,
    "validation": ValidationConfig,
    "model": ALTAConfig,
    "model.image": ImageConfig,
    "model.text": TextConfig,
    "transform": ImageTransform,
    "provenance": Provenance,
}
ELSEWHERE = {"adapters", "image", "text", *PARTS}  # the objective decides, or a section of its own
OTHERWISE = {"base_learning_rate", *(field.name for field in fields(LossWeights))}  # said in other words


@pytest.mark.parametrize("section", PARTS)
def test_every_key_and_its_default_are_documented(section: str) -> None:
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    [line] = [line for line in page.splitlines() if line.startswith((f"| `[{section}]` |", f"| {section} |"))]
    for field in fields(PARTS[section]):
        if field.name in ELSEWHERE:
            continue
        assert f"`{field.name}`" in line
        if isinstance(field.default, int | float) and field.name not in OTHERWISE:
            number = str(field.default).lower() if isinstance(field.default, bool) else f"{field.default:g}"
            assert f"`{field.name}` {number}" in line
