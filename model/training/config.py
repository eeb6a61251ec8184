"""A training run, written down: one TOML file makes one checkpoint. Paths in it are relative to where it is run."""

import tomllib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ..alta import ALTAConfig, ImageConfig, TextConfig
from ..checkpoint import Provenance, read_architecture
from ..image import ImageTransform
from ..losses import LossWeights
from .base import BaseConfig
from .objectives import OBJECTIVES, ObjectiveName
from .problem import TrainingConfigError

__all__ = [
    "BaseConfig",
    "DataConfig",
    "OptimConfig",
    "TrainConfig",
    "TrainingConfigError",
    "ValidationConfig",
    "check_shares",
    "read_config",
]


@dataclass(frozen=True)
class DataConfig:
    """``table`` is a studies.csv of ``alta data prepare``; without one, studies are simulated: ``seed`` names the
    cohort, so another seed shares no patient with it."""

    table: str | None = None
    max_bad_share: float = 0.01  # of pictures that cannot be read; more stop the run
    seed: int = 1
    studies: int = 20_000  # simulated
    validation_seed: int = 2
    validation_studies: int = 400  # simulated, or at most so many of the table's split "validate"
    # Share of texts cut to one section: people search with phrases, not with whole reports.
    one_section: float = 0.0
    augmentation: float = 1.0  # strength of the affine part; 1 is the paper's
    # Studies that say the same are no negatives of each other: those of one report, or also all without a finding.
    same_report: Literal["negative", "identical", "identical_or_normal"] = "negative"
    new_tokens: int = 0  # words of these reports that a base's vocabulary learns


@dataclass(frozen=True)
class OptimConfig:
    """The schedule of the paper: linear warm-up, then cosine to zero; learning rate base x batch / 256."""

    batch: int = 96  # studies of all processes
    # Studies that a process runs at once; 0: its whole share. The contrastive loss sees the whole batch all the same.
    micro_batch: int = 0
    steps: int = 10_000
    horizon: int = 0  # step at which the cosine would reach zero; 0: the last. The paper stops at a third.
    warmup_steps: int = 500
    restart_at: int = 0  # step at which a second, lower cosine begins; 0: never
    base_learning_rate: float = 1.5e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    local_group: int = 24  # studies contrasted in the local loss: those of one GPU in the paper
    trainable: Literal["objective", "all"] = "objective"
    lora_rank: int = 16


@dataclass(frozen=True)
class ValidationConfig:
    """``select`` is the figure of the best checkpoint, which is the one that is written; None: the objective's."""

    every: int = 250  # steps
    select: Literal["recall_at_10", "zero_shot_auroc", "loss"] | None = None


@dataclass(frozen=True)
class TrainConfig:
    name: str
    objective: ObjectiveName = "alta"
    seed: int = 0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    trackers: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    base: BaseConfig = field(default_factory=BaseConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    # The paper sums the losses plainly, from pre-trained towers. From random ones the local loss has a gradient a
    # thousand times that of the others.
    losses: LossWeights = field(default_factory=LossWeights)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    model: ALTAConfig = field(default_factory=ALTAConfig)
    transform: ImageTransform = field(default_factory=ImageTransform)
    provenance: Provenance | None = None
    stored_dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        if problem := _problem(self):
            raise TrainingConfigError(problem)

    @property
    def selection(self) -> str:
        """Without a contrastive loss there is nothing to retrieve by."""
        return self.validation.select or (OBJECTIVES[self.objective].select if self.losses.contrastive else "loss")


def check_shares(config: TrainConfig, processes: int) -> None:
    """Raises TrainingConfigError where the processes would not have equally many studies of a batch."""
    if config.optim.batch % processes:
        raise TrainingConfigError(
            f"optim.batch is {config.optim.batch} for {processes} processes; it must be a multiple of their number."
        )


def read_config(path: Path) -> TrainConfig:
    """Read and check a TOML file; an unknown or ill-typed key is an error that names it."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingConfigError(f"{path}: cannot be read: {error.strerror}.") from error
    except ValueError as error:  # of TOML or of UTF-8
        raise TrainingConfigError(f"{path}: not TOML: {error}.") from error
    objective = content.get("objective", "alta")
    if objective not in OBJECTIVES:
        raise TrainingConfigError(f"{path}: objective is {objective!r}; expected one of {', '.join(OBJECTIVES)}.")
    base: BaseConfig = _build(BaseConfig, content.get("base", {}), path, "base")
    architecture, transform = _start(base)
    content["base"] = base
    content["model"] = _model(content.pop("model", {}), architecture, objective, path)
    content["transform"] = _build(ImageTransform, content.get("transform", {}), path, "transform", asdict(transform))
    losses = asdict(OBJECTIVES[objective].losses)
    content["losses"] = _build(LossWeights, content.get("losses", {}), path, "losses", losses)
    for name, kind in (("data", DataConfig), ("optim", OptimConfig), ("validation", ValidationConfig)):
        content[name] = _build(kind, content.get(name, {}), path, name)
    if "provenance" in content:
        content["provenance"] = _build(Provenance, content["provenance"], path, "provenance")
    try:
        config: TrainConfig = _build(TrainConfig, content, path, "top level")
    except TrainingConfigError as error:
        raise error if error.message.startswith(str(path)) else TrainingConfigError(f"{path}: {error}") from error
    return config


def _start(base: BaseConfig) -> tuple[ALTAConfig, ImageTransform]:
    return read_architecture(Path(base.checkpoint)) if base.checkpoint else (ALTAConfig(), ImageTransform())


def _model(given: Any, start: ALTAConfig, objective: ObjectiveName, path: Path) -> ALTAConfig:
    """The base's or the published architecture, with what the objective and the file change."""
    if not isinstance(given, dict):
        raise TrainingConfigError(f"{path}: model: expected a table, found {given!r}.")
    for key, why in (("adapters", "the objective decides"), ("slots_read", "temporal and multiview decide")):
        if key in given:
            raise TrainingConfigError(f"{path}: model: {key} cannot be set; {why}.")
    rule = OBJECTIVES[objective]
    start = replace(start, adapters=rule.adapters)
    if rule.frontal_only:
        start = replace(start, temporal=False, multiview=False)
    elif "temporal" not in given and "multiview" not in given:
        start = replace(start, temporal=True, multiview=True)  # a base that reads frontals only does not bind
    if rule.mask_ratio is not None:
        start = replace(start, image=replace(start.image, mask_ratio=rule.mask_ratio))
    values = {key: value for key, value in given.items() if key not in ("image", "text")}
    parts = {
        "image": _build(ImageConfig, given.get("image", {}), path, "model.image", asdict(start.image)),
        "text": _build(TextConfig, given.get("text", {}), path, "model.text", asdict(start.text)),
    }
    defaults = {key: value for key, value in asdict(start).items() if key not in parts}
    model: ALTAConfig = _build(ALTAConfig, {**values, **parts}, path, "model", defaults)
    return model


def _problem(config: TrainConfig) -> str:
    """What contradicts itself, and what to do; empty when nothing does."""
    base, data, optim, rule = config.base, config.data, config.optim, OBJECTIVES[config.objective]
    if impossible := _impossible_number(config):
        return impossible
    if data.table is None and optim.batch > data.studies:
        return f"optim.batch is {optim.batch}, data.studies {data.studies}; no batch can be filled."
    if config.transform.crop != config.model.image.size:
        return (
            f"transform.crop is {config.transform.crop} px, model.image.size {config.model.image.size};"
            " they must be the same."
        )
    if base.checkpoint and (base.mrm or base.cxr_bert):
        return "base: expected either checkpoint or mrm with cxr_bert, found both."
    if base.mrm is None and base.cxr_bert is not None:
        return "base: cxr_bert alone is half a base; name mrm, the file MRM.pth, too."
    if base.mrm is not None and base.cxr_bert is None:
        return "base: mrm alone is half a base; name cxr_bert, the CXR-BERT folder, too."
    if rule.needs_base and not base.given and optim.trainable == "objective":
        return (
            f'{config.objective} adapts a base: name one in [base], or set optim.trainable = "all" to learn'
            " everything from random weights."
        )
    if config.model.adapters != rule.adapters:
        return f"{config.objective} expects model.adapters {rule.adapters!r}, found {config.model.adapters!r}."
    if optim.micro_batch and config.losses.local_contrastive and optim.micro_batch % optim.local_group:
        return (
            f"optim.micro_batch is {optim.micro_batch}, optim.local_group {optim.local_group}; the first must be a"
            " multiple of the second."
        )
    if not any(asdict(config.losses).values()):
        return "losses: every weight is 0; nothing would be learned."
    if config.losses.contrastive and optim.batch < 2:
        return "optim.batch is 1; contrastive learning needs at least two studies."
    if config.selection != "loss" and not config.losses.contrastive:
        return f"validation.select is {config.selection}, which needs losses.contrastive; expected loss."
    if data.new_tokens and not base.checkpoint:
        return "data.new_tokens extends the vocabulary of a checkpoint; name one in base.checkpoint, or leave it out."
    return ""


def _impossible_number(config: TrainConfig) -> str:
    data, optim, image, text = config.data, config.optim, config.model.image, config.model.text
    for name, value, least in (
        ("optim.batch", optim.batch, 1),
        ("optim.micro_batch", optim.micro_batch, 0),
        ("optim.steps", optim.steps, 1),
        ("optim.warmup_steps", optim.warmup_steps, 0),
        ("optim.local_group", optim.local_group, 1),
        ("optim.lora_rank", optim.lora_rank, 1),
        ("validation.every", config.validation.every, 1),
        ("data.validation_studies", data.validation_studies, 1),
    ):
        if value < least:
            return f"{name} is {value}; expected at least {least}."
    for name, share in (
        ("model.image.mask_ratio", image.mask_ratio),
        ("model.text.mask_ratio", text.mask_ratio),
        ("model.text.dropout", text.dropout),
    ):
        if not 0 <= share < 1:
            return f"{name} is {share}; expected 0 to less than 1."
    if optim.horizon and optim.horizon < optim.steps:
        return f"optim.horizon is {optim.horizon}, optim.steps {optim.steps}; the rate would rise again after it."
    if image.size % image.patch:
        return f"model.image.size is {image.size}, which is no multiple of model.image.patch, {image.patch}."
    for name, width, heads in (
        ("model.image.", image.width, image.heads),
        ("model.image.decoder_", image.decoder_width, image.decoder_heads),
        ("model.text.", text.width, text.heads),
    ):
        if heads < 1 or width < 1 or width % heads:
            return f"{name}width is {width}, {name}heads {heads}; expected a width that is a multiple of the heads."
    if text.context_length > text.positions:
        return (
            f"model.text.context_length is {text.context_length}, model.text.positions {text.positions}; a report"
            " cannot have more tokens than there are positions."
        )
    return ""


def _build(kind: type[Any], values: Any, path: Path, where: str, defaults: dict[str, Any] | None = None) -> Any:
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
        return kind(**{**(defaults or {}), **values})
    except TypeError as error:
        raise TrainingConfigError(f"{path}: {where}: {error}.") from error
