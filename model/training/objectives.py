"""What is learned and from which losses: the base, ALTA, and what the paper compares it with.

Objective   towers                        learns                                      losses
mrm         without adapters, frontal     both towers and the decoder                 both reconstructions
alta        with adapters                 what the paper lists, 7.6 % of the weights  all four
lora        low-rank updates instead      as alta, without its adapters               all four
clip        without adapters              both towers                                 contrastive
frozen      without adapters              projection heads and scales                 both contrastive
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from ..alta import ALTA
from ..losses import LossWeights

__all__ = ["OBJECTIVES", "Objective", "ObjectiveName", "choose_trainable", "trainable_names"]

ObjectiveName = Literal["mrm", "alta", "lora", "clip", "frozen"]


@dataclass(frozen=True)
class Objective:
    adapters: Literal["alta", "none"]
    losses: LossWeights
    needs_base: bool  # most weights stay as they are, so they must come from somewhere
    lora: bool = False
    frontal_only: bool = False
    context: Literal["cls", "patches"] = "cls"
    mask_ratio: float | None = None  # None: the architecture's
    select: Literal["recall_at_10", "loss"] = "recall_at_10"  # validation figure of the best checkpoint


OBJECTIVES: dict[ObjectiveName, Objective] = {
    "mrm": Objective(
        "none",
        LossWeights(contrastive=0, local_contrastive=0),
        needs_base=False,
        frontal_only=True,
        context="patches",
        select="loss",
    ),
    "alta": Objective("alta", LossWeights(), needs_base=True),
    "lora": Objective("none", LossWeights(), needs_base=True, lora=True),
    "clip": Objective(
        "none",
        LossWeights(local_contrastive=0, image_reconstruction=0, text_reconstruction=0),
        needs_base=False,
        mask_ratio=0.0,  # CLIP sees the whole picture
    ),
    "frozen": Objective("none", LossWeights(image_reconstruction=0, text_reconstruction=0), needs_base=True),
}

HEADS = ("projection_head.", "logit_scale")
SLOT_EMBEDDINGS = ("temporal_embedding", "view_embedding")


def choose_trainable(model: ALTA, objective: ObjectiveName, everything: bool = False) -> None:
    """``everything``: all that can learn, whatever the objective would leave as it is."""
    learned = _all(model) if everything else trainable_names(model, objective)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in learned)


def trainable_names(model: ALTA, objective: ObjectiveName = "alta") -> set[str]:
    if objective == "mrm":
        return {name for name in _all(model) if not _has(name, HEADS) and not _has(name, SLOT_EMBEDDINGS)}
    if objective == "clip":
        unused = ("image_decoder.", "image_to_text.", "mlm_head.", "local_projection_head.", "logit_scale_local")
        return {name for name in _all(model) if not _has(name, unused)}
    if objective == "frozen":
        return {name for name in _all(model) if _has(name, HEADS)}
    return _adapting(model)


def _adapting(model: ALTA) -> set[str]:
    """Adapters or low-rank updates, norms, heads, scales, the learned tokens and what the decoders need to follow."""
    norms = {
        f"{name}.{parameter}"
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm)
        for parameter in ("weight", "bias")
    }
    parts = ("adapter.", ".lora_", "cls_token", *HEADS, *SLOT_EMBEDDINGS)
    decoders = ("image_decoder.embed.", "image_decoder.mask_token", "image_decoder.pred.", "text_encoder.mlm_head.")
    return {name for name in _all(model) if name in norms or _has(name, parts) or name.startswith(decoders)}


def _all(model: ALTA) -> set[str]:
    return {name for name, _ in model.named_parameters()} - {"image_encoder.missing_token"}


def _has(name: str, parts: tuple[str, ...]) -> bool:
    return any(part in name for part in parts)
