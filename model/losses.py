"""The four ALTA losses, and the forward pass that yields them.

Axes: B studies, S slots, N patches, K kept patches, P patches of all slots of a study, W words, T tokens.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import repeat
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .alta import ALTA, ImageTokens, TextTokens

__all__ = [
    "LossWeights",
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
    labels (B, T) with -100 where nothing is predicted; noise (B, S, N) uniform, chooses the kept patches, None keeps
    all. report_key (B,) int64: studies with the same key say the same and are no negatives of each other; None: every
    study is a negative of every other, as published.
    """

    target: Tensor
    others: Tensor
    present: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    masked_input_ids: Tensor
    labels: Tensor
    noise: Tensor | None
    report_key: Tensor | None = None

    def to(self, device: torch.device) -> "TrainingBatch":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in values.items() if value is not None})

    def images(self, model: ALTA) -> Tensor:
        """Encoder input of all slots, (B, S, C, H, W)."""
        return torch.cat([model.halve(self.target)[:, None], self.others], 1)


@dataclass(frozen=True)
class LossWeights:
    """The paper's objective is the plain sum. A loss of weight 0 is not computed."""

    contrastive: float = 1.0
    local_contrastive: float = 1.0
    image_reconstruction: float = 1.0
    text_reconstruction: float = 1.0


PLAIN_SUM = LossWeights()


@dataclass(frozen=True)
class Losses:
    """Scalars, None for those of weight 0. The embeddings are kept for logging and tests, None where no loss asks."""

    contrastive: Tensor | None
    local_contrastive: Tensor | None
    image_reconstruction: Tensor | None
    text_reconstruction: Tensor | None
    image_tokens: ImageTokens
    study_embedding: Tensor | None  # (B, E)
    text_embedding: Tensor | None  # (B, E)
    painted: Tensor | None  # (B, N, values of a target patch)

    def by_name(self) -> dict[str, Tensor]:
        """Those that were computed."""
        values = {name: getattr(self, name) for name in asdict(PLAIN_SUM)}
        return {name: value for name, value in values.items() if value is not None}

    def total(self, weights: LossWeights = PLAIN_SUM, shares: Mapping[str, float] | None = None) -> Tensor:
        """Weighted sum. ``shares``: what each loss, a mean over its own items, counts in the mean over a batch of which
        this one is a part; 1 where it is not named."""
        factors = {name: weight * (shares or {}).get(name, 1.0) for name, weight in asdict(weights).items()}
        terms = [factors[name] * value for name, value in self.by_name().items()]
        return torch.stack(terms).sum()


Contrast = Callable[[Tensor, Tensor], Tensor]  # study and text embeddings, both (B, E), to a loss


def alta_losses(
    model: ALTA,
    batch: TrainingBatch,
    weights: LossWeights = PLAIN_SUM,
    local_group: int | None = None,
    contrast: Contrast | None = None,
    context: Literal["cls", "patches"] = "cls",
    texts_apart: bool = False,
) -> Losses:
    """Forward pass and losses of one batch. Both contrastive losses are computed in float32, under autocast too.

    local_group: studies that are contrasted with one another in the local loss, whose cost grows with their square;
    None is the whole batch. The paper's is the 24 studies of one GPU.
    contrast: stands in for the contrastive loss of this batch alone, to contrast it with more than itself.
    context: what of the images the masked report is read with: ALTA's mean cls token or MRM's mean patch token.
    texts_apart: read the reports as they are before the masked ones, not together; dropout then draws for them what it
    draws where they alone are read.
    """
    image = model.image_encoder(batch.images(model), batch.present, batch.noise)
    plain, masked = _read_texts(model, batch, weights, image, context, texts_apart)
    study_embedding = text_embedding = painted = None
    contrastive = local = image_loss = text_loss = None
    if weights.contrastive and plain is not None:
        study_embedding = model.image_encoder.embed_study(image)
        text_embedding = model.text_encoder.embed_text(plain)
        contrast = contrast or _contrast_within(model, batch.report_key)
        contrastive = contrast(study_embedding, text_embedding)
    if weights.local_contrastive and plain is not None:
        local = _local_loss(model, image, plain, local_group or len(batch.present), batch.report_key)
    if weights.image_reconstruction:
        painted = model.image_decoder(image)
        # A report without an image teaches the text tower only.
        image_loss = image_reconstruction_loss(painted, batch.target, image.mask[:, 0] & batch.present[:, :1])
    if masked is not None:
        text_loss = text_reconstruction_loss(model, masked, batch.labels)
    return Losses(
        contrastive, local, image_loss, text_loss, image, study_embedding, text_embedding, painted
    )  # fmt: skip


def contrastive_loss(
    study_embedding: Tensor, text_embedding: Tensor, logit_scale: Tensor, report_key: Tensor | None = None
) -> Tensor:
    """Symmetric cross-entropy over the batch (CLIP); both (B, E) of length 1, ``logit_scale`` in logs.

    With ``report_key`` (B,) the target of a study is shared evenly by all texts of its key. Under autocast too the
    product is one of float32: a logit of 100 has steps of a half in bfloat16.
    """
    with _float32(study_embedding):
        logits = logit_scale.exp() * study_embedding.float() @ text_embedding.float().T
        return _symmetric_cross_entropy(logits, report_key)


def local_contrastive_loss(similarity: Tensor, report_key: Tensor | None = None) -> Tensor:
    """Symmetric cross-entropy of ``local_similarity``, (B texts, B images)."""
    return _symmetric_cross_entropy(similarity, report_key)


def local_similarity(
    patches: Tensor,
    words: Tensor,
    patch_mask: Tensor,
    word_mask: Tensor,
    scales: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """How well the words of each text are found among the patches of each image (GLoRIA, ICCV 2021).

    patches (J, P, E) and words (I, W, E) from the local heads, not normalised; masks (J, P) and (I, W), True where
    there is one; scales in logs. Returns (I texts, J images). A text of no words, or an image of no patches, has none:
    NaN.
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
    if len(chosen) == 0:
        return painted.float().sum() * 0  # still part of the graph
    mean, variance = chosen.mean(-1, keepdim=True), chosen.var(-1, keepdim=True)
    return F.mse_loss(painted[removed].float(), (chosen - mean) / (variance + 1e-6).sqrt())


def text_reconstruction_loss(model: ALTA, masked: TextTokens, labels: Tensor) -> Tensor:
    """Cross-entropy on the masked tokens only; the vocabulary head runs on no other position."""
    hidden = masked.hidden[labels != -100]  # (M, D)
    if len(hidden) == 0:
        return model.text_encoder.predict_words(masked.hidden[:1, 0]).float().sum() * 0  # still part of the graph
    return F.cross_entropy(model.text_encoder.predict_words(hidden).float(), labels[labels != -100])


def _read_texts(
    model: ALTA,
    batch: TrainingBatch,
    weights: LossWeights,
    image: ImageTokens,
    context: Literal["cls", "patches"],
    apart: bool,
) -> tuple[TextTokens | None, TextTokens | None]:
    """The reports as they are and masked, each None where no loss asks. Both run as one batch but for ``apart``."""
    read, mask = model.text_encoder, batch.attention_mask
    wanted = bool(weights.contrastive or weights.local_contrastive)
    if not weights.text_reconstruction:
        return read(batch.input_ids, mask) if wanted else None, None
    seen = image.pooled() if context == "cls" else image.pooled_patches()
    told = model.image_to_text(seen) * batch.present.any(1, keepdim=True)  # (B, D)
    if apart or not wanted:
        plain = read(batch.input_ids, mask) if wanted else None
        return plain, read(batch.masked_input_ids, mask, told)
    ids = torch.cat([batch.input_ids, batch.masked_input_ids])
    both = read(ids, mask.repeat(2, 1), torch.cat([torch.zeros_like(told), told]))
    plain, masked = (TextTokens(hidden, mask) for hidden in both.hidden.chunk(2))
    return plain, masked


def _contrast_within(model: ALTA, report_key: Tensor | None) -> Contrast:
    return lambda study, text: contrastive_loss(study, text, model.logit_scale, report_key)


def _local_loss(model: ALTA, image: ImageTokens, text: TextTokens, group: int, report_key: Tensor | None) -> Tensor:
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
    keys = repeat(None) if report_key is None else report_key.split(group)
    with _float32(patches):
        losses = [
            local_contrastive_loss(local_similarity(p, w, pm, wm, scales), key) * len(p)
            for (p, w, pm, wm), key in zip(groups, keys, strict=False)  # without keys there is no end of them
        ]
    return torch.stack(losses).sum() / len(patches)  # a mean over studies: a last group may be smaller


def _float32(x: Tensor) -> torch.autocast:
    """Where autocast, if any, is off on the device of ``x``."""
    return torch.autocast(x.device.type, enabled=False)


def _symmetric_cross_entropy(logits: Tensor, key: Tensor | None) -> Tensor:
    if key is None:
        own = torch.arange(len(logits), device=logits.device)
    else:
        own = (key[:, None] == key[None, :]).to(logits.dtype)
        own = own / own.sum(1, keepdim=True)  # (B, B), symmetric: of the same sum in rows that share a key
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
