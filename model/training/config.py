"""A training run, written down: one TOML file makes one checkpoint."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ..alta import ALTAConfig, ImageConfig, TextConfig
from ..checkpoint import Provenance
from ..errors import AltaError
from ..image import ImageTransform

__all__ = [
    "DataConfig",
    "OptimConfig",
    "TrainConfig",
    "TrainingConfigError",
    "read_config",
]


class TrainingConfigError(AltaError):
    slug = "bad-training-config"


@dataclass(frozen=True)
class DataConfig:
    """Simulated studies: ``seed`` names the cohort, so another seed shares no patient with it."""

    seed: int = 1
    studies: int = 20_000
    validation_seed: int = 2
    validation_studies: int = 400
    # Share of texts cut to one section: people search with phrases, not with whole reports.
    one_section: float = 0.5
    augmentation: float = 1.0  # strength of the affine part; 1 is the paper's


@dataclass(frozen=True)
class OptimConfig:
    """The schedule of the paper: linear warm-up, then cosine to zero; learning rate base x batch / 256."""

    batch: int = 96
    steps: int = 10_000
    warmup_steps: int = 500
    restart_at: int = 0  # step at which a second, lower cosine begins; 0: never
    base_learning_rate: float = 1.5e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    local_group: int = 24  # studies contrasted in the local loss: those of one GPU in the paper
    # The paper sums the losses plainly, from pre-trained towers. From random ones the local loss has a gradient a
    # thousand times that of the others.
    local_weight: float = 1.0
    trainable: Literal["adapters", "all"] = "adapters"


@dataclass(frozen=True)
class TrainConfig:
    name: str
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    model: ALTAConfig = field(default_factory=ALTAConfig)
    transform: ImageTransform = field(default_factory=ImageTransform)
    provenance: Provenance | None = None
    stored_dtype: Literal["float32", "float16"] = "float32"


def read_config(path: Path) -> TrainConfig:
    """Read and check a TOML file; an unknown or ill-typed key is an error that names it."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingConfigError(f"{path}: cannot be read: {error.strerror}.") from error
    except ValueError as error:  # of TOML or of UTF-8
        raise TrainingConfigError(f"{path}: not TOML: {error}.") from error
    model = content.pop("model", {})
    if not isinstance(model, dict):
        raise TrainingConfigError(f"{path}: model: expected a table, found {model!r}.")
    parts = {
        "image": _build(ImageConfig, model.pop("image", {}), path, "model.image"),
        "text": _build(TextConfig, model.pop("text", {}), path, "model.text"),
    }
    content["model"] = _build(ALTAConfig, {**model, **parts}, path, "model")
    for name, kind in (
        ("data", DataConfig),
        ("optim", OptimConfig),
        ("transform", ImageTransform),
    ):
        if name in content:
            content[name] = _build(kind, content[name], path, name)
    if "provenance" in content:
        content["provenance"] = _build(Provenance, content["provenance"], path, "provenance")
    config: TrainConfig = _build(TrainConfig, content, path, "top level")
    if config.optim.batch > config.data.studies:
        raise TrainingConfigError(
            f"{path}: optim.batch is {config.optim.batch}, data.studies {config.data.studies}; no batch can be filled."
        )
    if config.transform.crop != config.model.image.size:
        raise TrainingConfigError(
            f"{path}: transform.crop is {config.transform.crop} px, model.image.size {config.model.image.size};"
            " they must be the same."
        )
    return config


def _build(kind: type[Any], values: dict[str, Any], path: Path, where: str) -> Any:
    if not isinstance(values, dict):
        raise TrainingConfigError(f"{path}: {where}: expected a table, found {values!r}.")
    known = get_type_hints(kind)
    if unknown := sorted(values.keys() - known):
        raise TrainingConfigError(
            f"{path}: {where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}."
        )
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for key, value in values.items():
        try:
            TypeAdapter(known[key]).validate_python(value, strict=True)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise TrainingConfigError(f"{path}: {where}: {key} is {value!r}. {problem}.") from error
    try:
        return kind(**values)
    except TypeError as error:
        raise TrainingConfigError(f"{path}: {where}: {error}.") from error
