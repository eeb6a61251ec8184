"""The four ALTA losses, and the forward pass that yields them.

Axes: B studies, S slots, N patches, K kept patches, P patches of all slots of a study, W words, T tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .alta import ALTA, ImageTokens, TextTokens

__all__ = [
    "Losses",
    "TrainingBatch",
    "alta_losses",
    "contrastive_loss",
    "image_reconstruction_loss",
    "local_contrastive_loss",
    "local_similarity",
    "text_reconstruction_loss",
]


@dataclass(frozen=True)
class TrainingBatch:
    """One batch of studies.

    target (B, C, 2H, 2W): the current frontal at the decoder's resolution, C 3 or, for grey, 1; others
    (B, S - 1, C, H, W): the other three slots; present (B, S) bool; input_ids, attention_mask, masked_input_ids (B, T);
    labels (B, T) with -100 where nothing is predicted; noise (B, S, N) uniform, chooses the kept patches.
    """

    target: Tensor
    others: Tensor
    present: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    masked_input_ids: Tensor
    labels: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Losses:
    """Scalars; the paper's objective is their plain sum. The embeddings are kept for logging and tests."""

    contrastive: Tensor
    local_contrastive: Tensor
    image_reconstruction: Tensor
    text_reconstruction: Tensor
    image_tokens: ImageTokens
    study_embedding: Tensor  # (B, E)
    text_embedding: Tensor  # (B, E)
    painted: Tensor  # (B, N, values of a target patch)

    def total(self, local_weight: float = 1.0, text_weight: float = 1.0) -> Tensor:
        local, text = local_weight * self.local_contrastive, text_weight * self.text_reconstruction
        return self.contrastive + local + self.image_reconstruction + text

    def by_name(self) -> dict[str, Tensor]:
        names = (
            "contrastive",
            "local_contrastive",
            "image_reconstruction",
            "text_reconstruction",
        )
        return {name: getattr(self, name) for name in names}


def alta_losses(
    model: ALTA,
    batch: TrainingBatch,
    local_group: int | None = None,
    gather: Callable[[Tensor], Tensor] = lambda rows: rows,
) -> Losses:
    """Forward pass and losses of one batch.

    gather: brings the embeddings of all processes together for the contrastive loss, (B, E) to (all, E).

    local_group: studies that are contrasted with one another in the local loss, whose cost grows with their square;
    None is the whole batch. The paper's is the 24 studies of one GPU.
    """
    images = torch.cat([model.halve(batch.target)[:, None], batch.others], 1)  # (B, S, C, H, W)
    image = model.image_encoder(images, batch.present, batch.noise)
    text = model.text_encoder(batch.input_ids, batch.attention_mask)
    masked = model.text_encoder(
        batch.masked_input_ids,
        batch.attention_mask,
        model.image_to_text(image.pooled()),
    )

    study_embedding = model.image_encoder.embed_study(image)
    text_embedding = model.text_encoder.embed_text(text)
    painted = model.image_decoder(image)
    return Losses(
        contrastive=contrastive_loss(gather(study_embedding), gather(text_embedding), model.logit_scale),
        local_contrastive=_local_loss(model, image, text, local_group or len(batch.present)),
        image_reconstruction=image_reconstruction_loss(painted, batch.target, image.mask[:, 0]),
        text_reconstruction=text_reconstruction_loss(model, masked, batch.labels),
        image_tokens=image,
        study_embedding=study_embedding,
        text_embedding=text_embedding,
        painted=painted,
    )


def contrastive_loss(study_embedding: Tensor, text_embedding: Tensor, logit_scale: Tensor) -> Tensor:
    """Symmetric cross-entropy over the batch (CLIP); both (B, E) of length 1, ``logit_scale`` in logs."""
    return _symmetric_cross_entropy(logit_scale.exp() * study_embedding @ text_embedding.T)


def local_contrastive_loss(similarity: Tensor) -> Tensor:
    """Symmetric cross-entropy of ``local_similarity``, (B texts, B images)."""
    return _symmetric_cross_entropy(similarity)


def local_similarity(
    patches: Tensor,
    words: Tensor,
    patch_mask: Tensor,
    word_mask: Tensor,
    scales: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """How well the words of each text are found among the patches of each image (GLoRIA, ICCV 2021).

    patches (J, P, E) and words (I, W, E) from the local heads, not normalised; masks (J, P) and (I, W), True where
    there is one; scales in logs. Returns (I texts, J images).
    """
    attention_scale, word_scale, pair_scale = (scale.exp() for scale in scales)
    affinity = torch.einsum("jpe,iwe->ijpw", patches, words)
    over_words = affinity.masked_fill(~word_mask[:, None, None, :], -torch.inf).softmax(-1)  # (I, J, P, W)
    over_patches = (over_words * attention_scale).masked_fill(~patch_mask[None, :, :, None], -torch.inf).softmax(-2)
    context = torch.einsum("ijpw,jpe->ijwe", over_patches, patches)
    dot = torch.einsum("ijwe,iwe->ijw", context, words)
    norms = context.norm(dim=-1) * words.norm(dim=-1)[:, None]
    relevance = dot / norms.clamp(min=1e-8) * word_scale  # (I, J, W)
    return relevance.masked_fill(~word_mask[:, None, :], -torch.inf).logsumexp(-1) * pair_scale


def image_reconstruction_loss(painted: Tensor, target: Tensor, removed: Tensor) -> Tensor:
    """Mean squared error on the removed patches; each target patch is normalised by its own mean and variance.

    painted (B, N, p * p * 3), target (B, C, side * p, side * p), removed (B, N) bool.
    """
    target = target.expand(-1, 3, -1, -1)
    side = round(painted.shape[1] ** 0.5)
    p = target.shape[-1] // side
    patches = target.unflatten(3, (side, p)).unflatten(2, (side, p))  # (B, 3, rows, p, columns, p)
    patches = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # (B, N, p * p * 3)
    chosen = patches[removed].float()  # (R, p * p * 3)
    mean, variance = chosen.mean(-1, keepdim=True), chosen.var(-1, keepdim=True)
    return F.mse_loss(painted[removed].float(), (chosen - mean) / (variance + 1e-6).sqrt())


def text_reconstruction_loss(model: ALTA, masked: TextTokens, labels: Tensor) -> Tensor:
    """Cross-entropy on the masked tokens only; the vocabulary head runs on no other position."""
    hidden = masked.hidden[labels != -100]  # (M, D)
    if len(hidden) == 0:
        return hidden.sum()  # zero, and still part of the graph
    return F.cross_entropy(model.text_encoder.predict_words(hidden).float(), labels[labels != -100])


def _local_loss(model: ALTA, image: ImageTokens, text: TextTokens, group: int) -> Tensor:
    patches = model.image_encoder.local_projection_head(image.patches.flatten(1, 2)).float()  # (B, S * K, E)
    patch_mask = image.present.repeat_interleave(image.patches.shape[2], dim=1)  # (B, S * K)
    words = model.text_encoder.local_projection_head(text.hidden[:, 1:]).float()  # (B, T - 1, E)
    # The published word count is the first padding position - 1: the separator counts as a word.
    word_mask = text.attention_mask[:, 1:].bool()
    scales = (
        model.logit_scale_local1,
        model.logit_scale_local2,
        model.logit_scale_local3,
    )
    groups = zip(*(part.split(group) for part in (patches, words, patch_mask, word_mask)), strict=True)
    losses = [local_contrastive_loss(local_similarity(p, w, pm, wm, scales)) for p, w, pm, wm in groups]
    return torch.stack(losses).mean()


def _symmetric_cross_entropy(logits: Tensor) -> Tensor:
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
