"""What a run costs, before it runs: parameters, operations, hours, and the comparison that the paper makes."""

from dataclasses import dataclass, replace
from typing import Literal

from ..alta import ALTA, ALTAConfig, TextConfig
from .config import BaseConfig, OptimConfig, TrainConfig, check_shares
from .flops import Flops, build_on_meta, training_flops
from .objectives import OBJECTIVES
from .workload import Workload, expected_workload

__all__ = [
    "ALTA_EPOCHS",
    "MRM_EPOCHS",
    "Compared",
    "Estimate",
    "Parameters",
    "compare_as_published",
    "count_parameters",
    "estimate_run",
]

ALTA_EPOCHS, MRM_EPOCHS = 30, 200  # over the same studies, as published

# What the published MRM (github.com/RL4M/MRM-pytorch) reads reports with; here it is ALTA's text tower.
MRM_TEXT = TextConfig(vocabulary=30000, width=384, depth=6, heads=6, intermediate=1536, context_length=100)


@dataclass(frozen=True)
class Parameters:
    total: int = 0
    trainable: int = 0

    def __add__(self, other: "Parameters") -> "Parameters":
        return Parameters(self.total + other.total, self.trainable + other.trainable)

    @property
    def share(self) -> float:
        return self.trainable / self.total


@dataclass(frozen=True)
class Estimate:
    """notes: in sentences, what of the workload was measured and what assumed."""

    parameters: dict[str, Parameters]
    workload: Workload
    flops: Flops  # of a study
    studies_seen: int
    epochs: float
    notes: list[str]

    @property
    def all_parameters(self) -> Parameters:
        return sum(self.parameters.values(), Parameters())

    @property
    def total(self) -> float:
        """Operations of the whole run."""
        return self.flops.whole.total * self.studies_seen


@dataclass(frozen=True)
class Compared:
    name: str
    parameters: Parameters
    flops: Flops  # of a study
    epochs: int

    @property
    def total(self) -> float:
        """Operations that one study of the data costs over all epochs."""
        return self.flops.whole.total * self.epochs


def estimate_run(config: TrainConfig, tokens: float | None = None, processes: int = 1) -> Estimate:
    """Of the run that ``config`` describes, on ``processes``; ``tokens`` a report where they are not to be counted or
    assumed. No weights are loaded and no pictures read. Raises TrainingConfigError, TableError."""
    batch = config.optim.batch
    check_shares(config, processes)
    config, workload, studies, notes = expected_workload(config, tokens)
    model = build_on_meta(config)
    seen = config.optim.steps * batch
    epochs = config.optim.steps / (studies // batch)  # a last batch that is not full is left out
    flops = training_flops(config, workload, processes=processes, model=model)
    return Estimate(count_parameters(model), workload, flops, seen, epochs, notes)


def count_parameters(model: ALTA) -> dict[str, Parameters]:
    """By part; each parameter is in one. The fixed position embeddings of the images are counted, as published."""
    parts = {name: Parameters() for name in ("image encoder", "text encoder", "image decoder", "vocabulary head")}
    parts |= {name: Parameters() for name in ("adapters", "projection heads and scales")}
    for name, parameter in model.named_parameters():
        count = parameter.numel()
        parts[_part(name)] += Parameters(count, count if parameter.requires_grad else 0)
    for name, buffer in model.named_buffers():
        if name.endswith("pos_embed"):
            parts[_part(name)] += Parameters(buffer.numel(), 0)
    return {name: counted for name, counted in parts.items() if counted.total}


def _part(name: str) -> str:
    if "adapter." in name or ".lora_" in name:
        return "adapters"
    if "projection_head." in name or "logit_scale" in name:
        return "projection heads and scales"
    if "mlm_head." in name or name.startswith("image_to_text."):
        return "vocabulary head"  # and what tells it of the images
    return name.split(".")[0].replace("_", " ")


def compare_as_published(tokens: float) -> list[Compared]:
    """ALTA, ALTA without prior and lateral, then what they are measured against, all at the published size and with
    ``tokens`` a report, as far as each reads."""
    frontal = ALTAConfig(temporal=False, multiview=False)
    return [
        _published("ALTA", "alta", ALTAConfig(), 96, ALTA_EPOCHS, tokens),
        _published("ALTA, frontal only", "alta", frontal, 96, ALTA_EPOCHS, tokens),
        _published("MRM, as published", "mrm", replace(frontal, text=MRM_TEXT), 256, MRM_EPOCHS, tokens),
        _published("MRM, as trained here", "mrm", frontal, 256, MRM_EPOCHS, tokens),
        _published("CLIP, all weights", "clip", ALTAConfig(), 96, ALTA_EPOCHS, tokens),
    ]


def _published(
    name: str, objective: Literal["mrm", "alta", "clip"], model: ALTAConfig, batch: int, epochs: int, tokens: float
) -> Compared:
    rule = OBJECTIVES[objective]
    image = model.image if rule.mask_ratio is None else replace(model.image, mask_ratio=rule.mask_ratio)
    config = TrainConfig(
        name,
        objective,
        base=BaseConfig(checkpoint="-"),  # named, not read
        optim=OptimConfig(batch=batch),
        losses=rule.losses,
        model=replace(model, adapters=rule.adapters, image=image),
    )
    _, workload, _, _ = expected_workload(config, min(tokens, model.text.context_length))
    built = build_on_meta(config)
    parameters = sum(count_parameters(built).values(), Parameters())
    return Compared(name, parameters, training_flops(config, workload, model=built), epochs)
