"""Floating point operations of training on one study, counted from the modules of the real model.

The rule: a multiply-add is 2 operations, and only matrix products count; norms, activations, softmax, the optimiser and
the resizing of images are a percent or two of them. Layers, their sizes and what learns are read off the model itself,
built on torch's meta device, where it holds no numbers; which tokens pass through which part is written here, as in
``alta_losses``. The tests compare with ``torch.utils.flop_counter`` around the real step.

Backward, a linear layer costs its forward once for the gradient of its input and once for that of its weight. The first
is spent only where something below the layer learns, the second only where the weight itself does: a frozen layer over
a learned token costs one, one over nothing that learns none. Attention, whose both sides depend on its input, costs
two. What a fused kernel computes again, and padding, are not counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from ..alta import ALTA, SLOTS
from .config import TrainConfig
from .lora import add_lora
from .objectives import OBJECTIVES, choose_trainable
from .start import make_network
from .workload import Workload

__all__ = ["Flops", "Spent", "build_on_meta", "training_flops"]


@dataclass(frozen=True)
class Spent:
    forward: float = 0.0
    backward: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.forward + other.forward, self.backward + other.backward)

    @property
    def total(self) -> float:
        return self.forward + self.backward


@dataclass(frozen=True)
class Flops:
    """Of one study, by part of the step; only parts that the objective has."""

    parts: dict[str, Spent]

    @property
    def whole(self) -> Spent:
        return sum(self.parts.values(), Spent())


def build_on_meta(config: TrainConfig) -> ALTA:
    """The model as a run would build it, what learns chosen, without weights."""
    with torch.device("meta"):
        model = make_network(config.model)
        if OBJECTIVES[config.objective].lora:
            add_lora(model, config.optim.lora_rank)
    choose_trainable(model, config.objective, config.optim.trainable == "all")
    return model


def training_flops(
    config: TrainConfig,
    workload: Workload,
    studies: int | None = None,
    processes: int = 1,
    model: ALTA | None = None,
) -> Flops:
    """Of one study of a step of ``studies`` (``optim.batch`` where it is not said) on ``processes``.

    The utilisation of a device is ``training_flops(...).whole.total * studies / seconds / peak``. ``model`` saves
    building it; only its shapes and what learns are read.
    """
    model = build_on_meta(config) if model is None else model
    studies = studies or config.optim.batch
    return _Step(config, workload, studies, processes, model).flops()


class _Step:
    """The stages of ``alta_losses``, each a method."""

    def __init__(self, config: TrainConfig, work: Workload, studies: int, processes: int, model: ALTA) -> None:
        self.config, self.work, self.model = config, work, model
        self.studies, self.processes = studies, processes
        image, text = model.image_encoder, model.text_encoder
        added = (image.cls_token, image.view_embedding, image.temporal_embedding)
        self.image_starts = _learns(image.patch_embed.parameters()) or _learns(added)
        self.text_starts = _learns(text.embeddings.parameters())
        self.image_learns = self.image_starts or _learns(image.blocks.parameters()) or _learns(image.norm.parameters())
        self.text_learns = self.text_starts or _learns(text.layers.parameters())

    def flops(self) -> Flops:
        weights = self.config.losses
        parts = {"image encoder": self._image_encoder()}
        if weights.contrastive or weights.local_contrastive:
            parts["text, contrastive pass"] = self._text_encoder(self.text_starts)
        if weights.contrastive:
            parts["contrastive loss"] = self._contrastive()
            first = [*parts.values()]  # what a pass without gradient repeats
        if weights.local_contrastive:
            parts["local loss"] = self._local()
        if weights.image_reconstruction:
            parts["image decoder"] = self._image_decoder()
        if weights.text_reconstruction:
            parts["text, masked pass"] = self._masked_pass()
            parts["vocabulary head"] = self._vocabulary()
        if weights.contrastive and self._part < self.studies // self.processes:
            parts["first pass, in parts"] = Spent(sum(spent.forward for spent in first))
        return Flops(parts)

    @property
    def _part(self) -> int:
        """Studies that a process runs at once."""
        share = self.studies // self.processes
        return min(self.config.optim.micro_batch or share, share)

    def _image_encoder(self) -> Spent:
        encoder, work = self.model.image_encoder, self.work
        projection = encoder.patch_embed.proj.weight  # grey: its three channels are added up before the product
        values = projection.shape[2] * projection.shape[3]
        embedded = _product(
            work.images * work.kept, values, projection.shape[0], onward=False, learned=projection.requires_grad
        )
        length = 1 + work.kept
        return embedded + _blocks(encoder.blocks, work.images * length, work.images * length**2, self.image_starts)

    def _text_encoder(self, starts: bool) -> Spent:
        return _blocks(self.model.text_encoder.layers, self.work.tokens, self.work.tokens_squared, starts)

    def _contrastive(self) -> Spent:
        heads = _head(self.model.image_encoder.projection_head, 1, self.image_learns) + _head(
            self.model.text_encoder.cls_projection_head, 1, self.text_learns
        )
        # Every process contrasts the studies of all.
        return heads + _pairs(self.studies * self.processes, self.config.model.embedding)

    def _local(self) -> Spent:
        patches = len(SLOTS) * self.work.kept  # of absent images too; they are masked afterwards
        words = self.work.tokens - 1
        width = self.config.model.embedding
        heads = _head(self.model.image_encoder.local_projection_head, patches, self.image_learns) + _head(
            self.model.text_encoder.local_projection_head, words, self.text_learns
        )
        against = _mean_group(self.studies // self.processes, self._part, self.config.optim.local_group)
        # Affinity and context are products over all patches, the cosine is one over words.
        return heads + _pairs(against * words * (2 * patches + 1), width)

    def _image_decoder(self) -> Spent:
        decoder = self.model.image_decoder
        patches = self.config.model.image.patches
        starts = self.image_learns or _learns([*decoder.embed.parameters(), decoder.mask_token])
        embedded = _linears(decoder.embed, 1 + self.work.kept, self.image_learns)
        run = _blocks(decoder.blocks, 1 + patches, (1 + patches) ** 2, starts)
        onward = starts or _learns(decoder.blocks.parameters()) or _learns(decoder.norm.parameters())
        return embedded + run + _linears(decoder.pred, patches, onward)

    def _masked_pass(self) -> Spent:
        told = self.image_learns or _learns(self.model.image_to_text.parameters())
        return _linears(self.model.image_to_text, 1, self.image_learns) + self._text_encoder(told or self.text_starts)

    def _vocabulary(self) -> Spent:
        text, masked = self.model.text_encoder, self.work.masked
        words = text.embeddings.word_embeddings.weight  # (V, D), the output weights too
        told = self.image_learns or _learns(self.model.image_to_text.parameters())
        transform = text.mlm_head.transform
        onward = told or self.text_learns
        logits = onward or _learns(transform.parameters())
        return _linears(transform, masked, onward) + _product(
            masked, words.shape[1], words.shape[0], logits, words.requires_grad
        )


def _learns(parameters: Iterable[nn.Parameter]) -> bool:
    return any(parameter.requires_grad for parameter in parameters)


def _product(rows: float, width: int, out: int, onward: bool, learned: bool) -> Spent:
    """rows x (width, out). ``onward``: the gradient of the input is asked for; ``learned``: that of the weight."""
    once = 2 * rows * width * out
    return Spent(once, once * (onward + learned))


def _pairs(count: float, width: int) -> Spent:
    """Products of ``count`` pairs of vectors, both of which get a gradient."""
    once = 2 * count * width
    return Spent(once, 2 * once)


def _linears(module: nn.Module, rows: float, onward: bool) -> Spent:
    """All linear layers in ``module``, low-rank updates included, each over the same rows."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    each = (_product(rows, x.in_features, x.out_features, onward, x.weight.requires_grad) for x in layers)
    return sum(each, Spent())


def _head(head: nn.Module, rows: float, onward: bool) -> Spent:
    """Two layers; the second passes the gradient on where the first learns."""
    first, second = (layer for layer in head.modules() if isinstance(layer, nn.Linear))
    return _linears(first, rows, onward) + _linears(second, rows, onward or _learns(head.parameters()))


def _blocks(blocks: nn.ModuleList, rows: float, pairs: float, onward: bool) -> Spent:
    """Transformer blocks over ``rows`` tokens, ``pairs`` of which attend to each other. What learns anywhere in a block
    counts as at its entry."""
    spent = Spent()
    for block in blocks:
        onward = onward or _learns(block.parameters())
        width = next(layer.in_features for layer in block.modules() if isinstance(layer, nn.Linear))
        attention = 2 * 2 * pairs * width  # queries with keys, weights with values
        spent += _linears(block, rows, onward) + Spent(attention, 2 * attention * onward)
    return spent


def _mean_group(share: int, part: int, group: int) -> float:
    """With how many studies, itself included, the local loss contrasts the average one."""
    parts = [min(part, share - start) for start in range(0, share, part)]
    groups = [min(group, size - start) for size in parts for start in range(0, size, group)]
    return sum(size * size for size in groups) / share
