"""One update: forward, backward, the processes' average, AdamW.

A batch that does not fit a device at once is run in parts without changing its gradient: a first pass without graph
yields all embeddings, the contrastive loss of the whole batch gives each its gradient, and a second pass, part by part,
carries that back through the towers (cached gradients, "Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup", RepL4NLP 2021). The other losses are means over studies or words and simply add up.
"""

import math
from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..alta import ALTA
from ..errors import AltaError
from ..losses import Losses, LossWeights, TrainingBatch, alta_losses, contrastive_loss
from .config import TrainConfig
from .distributed import World
from .objectives import OBJECTIVES

__all__ = ["AUTOCAST", "TrainingDiverged", "Update", "autocast", "split_batch"]

MAX_LOGIT_SCALE = math.log(100)  # CLIP's and ALTA's clamp
AUTOCAST = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TrainingDiverged(AltaError):
    slug = "training-diverged"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, AUTOCAST[precision], enabled=precision != "float32")


class Update:
    """``update(batch, seed)`` is one step of ``model``; the learning rate is set by the caller."""

    def __init__(self, model: ALTA, optimizer: torch.optim.Optimizer, config: TrainConfig, world: World) -> None:
        # Plain attention in bfloat16 as it stands; the default widens it to float32 first.
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
        self.model = model
        self.optimizer = optimizer
        self.config = config
        self.world = world
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=config.precision == "float16")
        self.learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._contrastive = torch.zeros(())  # of the last whole batch

    def __call__(self, batch: TrainingBatch, seed: int) -> dict[str, float]:
        """The losses of all processes, their sum and the gradient norm before clipping. Raises TrainingDiverged, in all
        processes alike, and then has changed no weight."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        values = self.backward(batch, seed)
        self.world.average_gradients(self.learned)
        self.scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.learned, self.config.optim.clip_norm))
        if not all(map(math.isfinite, values.values())):
            raise TrainingDiverged(f"The losses are {values}.")
        # Scaled float16 gradients may overflow; the scale is then halved. The scale of other types is 1.
        if not math.isfinite(norm) and self.scaler.get_scale() <= 1:
            raise TrainingDiverged(f"The losses are {values}, but the norm of their gradient is {norm}.")
        self.scaler.step(self.optimizer)  # passed over where float16 gradients overflowed
        self.scaler.update()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        return {**values, "grad_norm": round(norm, 4)}

    def backward(self, batch: TrainingBatch, seed: int) -> dict[str, float]:
        """Add the gradient of the whole batch, times the scale of float16; the losses and their weighted sum, those of
        all processes."""
        size = self.config.optim.micro_batch or len(batch.present)
        parts = split_batch(batch, size)
        whole = item_counts(batch)
        totals = self.world.shares_of_mean(whole)
        contrasts = self._contrasts(parts, batch.report_key, seed)
        sums: dict[str, Tensor] = {}
        for number, (part, contrast) in enumerate(zip(parts, contrasts, strict=True)):
            torch.manual_seed(seed + number)  # dropout, the same in both passes
            losses = self._forward(part, self.config.losses, contrast, texts_apart=len(parts) > 1)
            shares = {name: totals[name] * count / max(whole[name], 1) for name, count in item_counts(part).items()}
            total = losses.total(self.config.losses, shares)
            self.scaler.scale(total).backward()
            for name, value in losses.by_name().items():
                own = self._contrastive if name == "contrastive" else value.detach().float() * shares[name]
                sums[name] = own if name == "contrastive" or name not in sums else sums[name] + own
        means = self.world.mean(torch.stack(list(sums.values())))  # read once: a GPU is not waited for before
        values = dict(zip(sums, means.tolist(), strict=True))
        weighted = {name: getattr(self.config.losses, name) * value for name, value in values.items()}
        return {**{name: round(value, 5) for name, value in values.items()}, "total": round(sum(weighted.values()), 5)}

    def _contrasts(
        self, parts: list[TrainingBatch], key: Tensor | None, seed: int
    ) -> list[Callable[[Tensor, Tensor], Tensor]]:
        """For each part what stands for the contrastive loss of the whole batch, of which it has the gradient."""
        if not self.config.losses.contrastive:
            return [_unused] * len(parts)
        if len(parts) == 1:
            return [lambda study, text: self._contrast(study, text, key)]
        only = LossWeights(local_contrastive=0, image_reconstruction=0, text_reconstruction=0)
        pairs = []
        for number, part in enumerate(parts):
            torch.manual_seed(seed + number)
            with torch.no_grad():
                losses = self._forward(part, only, lambda study, text: study.sum(), texts_apart=True)
            assert losses.study_embedding is not None and losses.text_embedding is not None
            pairs.append((losses.study_embedding, losses.text_embedding))
        study, text = (torch.cat(side).float().requires_grad_() for side in zip(*pairs, strict=True))
        weight = self.config.losses.contrastive
        self.scaler.scale(weight * self._contrast(study, text, key)).backward()
        assert study.grad is not None and text.grad is not None
        scale = weight * self.scaler.get_scale()  # both are put back when the part is scaled and weighted
        sizes = [len(part.present) for part in parts]
        return [
            _Pull(study_gradient / scale, text_gradient / scale)
            for study_gradient, text_gradient in zip(study.grad.split(sizes), text.grad.split(sizes), strict=True)
        ]

    def _contrast(self, study: Tensor, text: Tensor, key: Tensor | None) -> Tensor:
        keys = None if key is None else self.world.gather(key)
        studies, texts = self.world.gather(study.float()), self.world.gather(text.float())
        loss = contrastive_loss(studies, texts, self.model.logit_scale, keys)
        self._contrastive = loss.detach()
        return loss

    def _forward(
        self,
        batch: TrainingBatch,
        weights: LossWeights,
        contrast: Callable[[Tensor, Tensor], Tensor],
        texts_apart: bool,
    ) -> Losses:
        # On a CPU the backward pass of fused attention is several times slower than plain matrix products.
        kernels = [SDPBackend.MATH] if self.world.device.type == "cpu" else list(_FUSED)
        with autocast(self.world.device, self.config.precision), sdpa_kernel(kernels):
            return alta_losses(
                self.model,
                batch,
                weights,
                self.config.optim.local_group,
                contrast,
                OBJECTIVES[self.config.objective].context,
                texts_apart,
            )


_FUSED = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)


class _Pull:
    """A loss whose gradient on the embeddings is the one given."""

    def __init__(self, study: Tensor, text: Tensor) -> None:
        self.study, self.text = study, text

    def __call__(self, study: Tensor, text: Tensor) -> Tensor:
        return (study * self.study).sum() + (text * self.text).sum()


def _unused(study: Tensor, text: Tensor) -> Tensor:
    raise AssertionError("no contrastive loss is asked for")


def item_counts(batch: TrainingBatch) -> dict[str, int]:
    """Items over which each loss is a mean; the contrastive one is of the whole batch already."""
    studies = len(batch.present)
    return {
        "local_contrastive": studies,
        "image_reconstruction": int(batch.present[:, 0].sum()),
        "text_reconstruction": int((batch.labels != -100).sum()),
    }


def split_batch(batch: TrainingBatch, size: int) -> list[TrainingBatch]:
    """Parts of at most ``size`` studies, in order."""
    names = [field.name for field in fields(TrainingBatch) if getattr(batch, field.name) is not None]
    starts = range(0, len(batch.present), size)
    return [replace(batch, **{n: getattr(batch, n)[start : start + size] for n in names}) for start in starts]
