"""Figures on held-out patients while a run goes on: they choose the checkpoint that is written."""

import math

import numpy as np
import torch
from torch import Tensor

from ..alta import ALTA
from ..evaluation.metrics import auroc, hit_ranks
from ..losses import alta_losses
from ..prompts import PROMPT_SETS
from ..text import ReportTokenizer
from .batches import BatchMaker, report_keys
from .config import TrainConfig
from .objectives import OBJECTIVES
from .step import autocast
from .studies import TrainingStudies

__all__ = ["FEWEST", "better", "scored_findings", "validate"]

CHUNK = 50  # studies at once
FEWEST = 5  # studies with and without a finding, for its AUROC to count


def better(figures: dict[str, float], best: dict[str, float] | None, select: str) -> bool:
    """Whether ``figures`` are the best so far by ``select``: the lowest loss, the highest of anything else.

    A figure that cannot be computed is never better, unless there is nothing else.
    """
    if best is None:
        return True
    value, standing = figures.get(select, math.nan), best.get(select, math.nan)
    if not (math.isfinite(value) and math.isfinite(standing)):
        return math.isfinite(value)
    return value < standing if select == "loss" else value > standing


@torch.inference_mode()
def validate(
    model: ALTA, studies: TrainingStudies, tokenizer: ReportTokenizer, config: TrainConfig, device: torch.device
) -> dict[str, float]:
    """``loss``, the weighted sum without augmentation and dropout; where images and texts are contrasted also
    ``recall_at_k`` of the paired report, or of one that reads the same, with all patches visible; where findings are
    known, the mean zero-shot AUROC of the built-in prompts."""
    model.eval()
    maker = BatchMaker(studies, tokenizer, config.model, config.transform, 0.0, config.data.same_report, device)
    contrasted = bool(config.losses.contrastive)
    losses, images, texts = [], [], []
    # Always the same studies together: the contrastive loss depends on who is in a batch.
    for number, rows in enumerate(np.array_split(np.arange(len(studies)), max(1, len(studies) // CHUNK))):
        batch = maker(rows, seed=number, augmentation=None)
        with autocast(device, config.precision):
            part = alta_losses(
                model,
                batch,
                config.losses,
                min(config.optim.local_group, len(rows)),
                context=OBJECTIVES[config.objective].context,
            )
            losses.append(float(part.total(config.losses)) * len(rows))
            if contrasted:
                whole = model.image_encoder(batch.images(model), batch.present)
                images.append(model.image_encoder.embed_study(whole).float().cpu())
                text = model.text_encoder(batch.input_ids, batch.attention_mask)
                texts.append(model.text_encoder.embed_text(text).float().cpu())
    figures = {"loss": round(sum(losses) / len(studies), 5)}
    if not contrasted:
        return figures
    similarity = (torch.cat(images) @ torch.cat(texts).T).numpy()
    keys = report_keys(studies, normal_alike=False)
    ranks = hit_ranks(similarity, keys[:, None] == keys)
    figures |= {f"recall_at_{k}": round(float((ranks <= k).mean()), 4) for k in (1, 5, 10)}
    if (area := _zero_shot(model, torch.cat(images), studies, tokenizer, config, device)) is not None:
        figures["zero_shot_auroc"] = round(area, 4)
    return figures


def _zero_shot(
    model: ALTA,
    images: Tensor,
    studies: TrainingStudies,
    tokenizer: ReportTokenizer,
    config: TrainConfig,
    device: torch.device,
) -> float | None:
    """Mean over the findings of which enough studies are known to have and not to have them; None without any."""
    known = np.array([labels is not None for labels in studies.labels], bool)
    areas = []
    for name, positive in scored_findings(studies).items():
        prompts = PROMPT_SETS[name]
        with autocast(device, config.precision):
            sides = [_direction(model, tokenizer, side, device) for side in (prompts.positive, prompts.negative)]
        scores = (images[torch.from_numpy(known)] @ (sides[0] - sides[1])).numpy()
        areas.append(auroc(scores, positive))
    return float(np.mean(areas)) if areas else None


def scored_findings(studies: TrainingStudies) -> dict[str, np.ndarray]:
    """Of the findings that enough studies are known to have and not to have: bool, of the studies whose findings are
    known."""
    known = [labels for labels in studies.labels if labels is not None]
    has = {name: np.array([_has(labels, name) for labels in known], bool) for name in PROMPT_SETS}
    return {name: found for name, found in has.items() if min(found.sum(), (~found).sum()) >= FEWEST}


def _has(labels: frozenset[str], name: str) -> bool:
    return not labels if name == "No Finding" else name in labels


def _direction(model: ALTA, tokenizer: ReportTokenizer, prompts: tuple[str, ...], device: torch.device) -> Tensor:
    tokens = tokenizer(prompts)
    ids, mask = (torch.from_numpy(array).to(device) for array in (tokens.input_ids, tokens.attention_mask))
    projected = model.text_encoder.project(model.text_encoder(ids, mask)).float()
    return torch.nn.functional.normalize(projected.mean(0), dim=-1).cpu()
