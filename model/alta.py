"""ALTA: a masked-record-model ViT and CXR-BERT, joined through adapters, for up to four images of a study.

References
- ALTA: "Efficient Medical Vision-Language Alignment Through Adapting Masked Vision Models", IEEE TMI 2025,
  arXiv 2506.08990.
- MRM: "Advancing Radiograph Representation Learning with Masked Record Modeling", ICLR 2023.
- MAE: "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022.

Axes: B studies, S slots, N patches, K kept patches, D width, T tokens, P tokens of all texts, E embedding,
V vocabulary.
Slots: current frontal, current lateral, prior frontal, prior lateral.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbones import (
    Attention,
    BertAttention,
    BertConfig,
    BertEmbeddings,
    BertIntermediate,
    BertOutput,
    BertPredictionHeadTransform,
    Mlp,
    PatchEmbed,
)
from .dropout import Dropout
from .linear import linear, use_fast_linear
from .packed import PackedTexts

__all__ = [
    "ALTA",
    "ALTAConfig",
    "ImageConfig",
    "ImageDecoder",
    "ImageEncoder",
    "ImageTokens",
    "SLOTS",
    "TextConfig",
    "TextEncoder",
    "TextTokens",
]

SLOTS = ("current_frontal", "current_lateral", "prior_frontal", "prior_lateral")


@dataclass(frozen=True)
class ImageConfig:
    size: int = 224
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    decoder_width: int = 768
    decoder_depth: int = 4
    decoder_heads: int = 6  # not 12 as in the encoder: MRM's published decoder
    target_scale: int = 2  # the decoder paints the image at twice the encoder's resolution (MRM)
    mask_ratio: float = 0.75

    @property
    def patches(self) -> int:
        return (self.size // self.patch) ** 2


@dataclass(frozen=True)
class TextConfig:
    vocabulary: int = 30522
    width: int = 768
    depth: int = 12
    heads: int = 12
    intermediate: int = 3072
    positions: int = 512
    context_length: int = 128  # tokens of a report that are read, special tokens included
    dropout: float = 0.1
    mask_ratio: float = 0.5


@dataclass(frozen=True)
class ALTAConfig:
    """Defaults are the published model.

    absent_slots: "encoded" is the published rule: an absent image is encoded from ``missing_token`` and
    counts in the mean over slots and in the local loss. "ignored" leaves it out of both, so that a lone frontal
    has the same embedding as a study that has no other image.

    adapters: "none" leaves the bottlenecks out: the masked record model and fine-tuned towers have none.
    temporal, multiview: whether prior and lateral images are read at all (the paper's ablations).
    """

    image: ImageConfig = field(default_factory=ImageConfig)
    text: TextConfig = field(default_factory=TextConfig)
    embedding: int = 128
    adapters: Literal["alta", "none"] = "alta"
    adapter_reduction: int = 4
    absent_slots: Literal["encoded", "ignored"] = "encoded"
    temporal: bool = True
    multiview: bool = True

    @property
    def slots_read(self) -> tuple[bool, bool, bool, bool]:
        """In the order of ``SLOTS``."""
        return True, self.multiview, self.temporal, self.multiview and self.temporal


@dataclass(frozen=True)
class ImageTokens:
    """What the image encoder gives for every slot.

    cls (B, S, D); patches (B, S, K, D); present (B, S) bool: slots that count;
    mask (B, S, N) bool: True where a patch was removed; order (B, S, N): patch indices, kept ones first.
    """

    cls: Tensor
    patches: Tensor
    present: Tensor
    mask: Tensor
    order: Tensor

    def pooled(self) -> Tensor:
        """Mean cls over the slots that count: (B, D)."""
        weight = self.present.to(self.cls.dtype).unsqueeze(-1)
        return (self.cls * weight).sum(1) / weight.sum(1).clamp(min=1)

    def pooled_patches(self) -> Tensor:
        """Mean of the kept patch tokens of slot 0, (B, D): what MRM tells its report decoder."""
        return self.patches[:, 0].mean(1)


@dataclass(frozen=True)
class TextTokens:
    """hidden (B, T, D) of the last layer; attention_mask (B, T), 1 where there is a token."""

    hidden: Tensor
    attention_mask: Tensor


class Adapter(nn.Module):
    """Bottleneck of width / reduction. The up-projection starts at zero, so it first changes nothing."""

    def __init__(self, width: int, reduction: int, skip: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, width // reduction)
        self.fc2 = nn.Linear(width // reduction, width)
        self.skip = skip
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        change = self.fc2(F.gelu(self.fc1(x)))
        return x + change if self.skip else change


class ProjectionHead(nn.Module):
    """The head of BioViL's CXR-BERT, here on both towers: (..., width) to (..., E), not normalised."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.dense_to_hidden = nn.Linear(width, embedding)
        self.norm = nn.LayerNorm(embedding, eps=1e-12)
        self.dense_to_output = nn.Linear(embedding, embedding)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense_to_output(self.norm(F.gelu(self.dense_to_hidden(x))))


class ViTBlock(nn.Module):
    """Pre-norm ViT block; with ``reduction`` the two ALTA adapters are added."""

    def __init__(self, width: int, heads: int, reduction: int | None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, num_heads=heads, qkv_bias=True)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, hidden_features=4 * width)
        self.attn_adapter = Adapter(width, reduction, skip=True) if reduction else None
        self.mlp_adapter = Adapter(width, reduction, skip=False) if reduction else None

    def forward(self, x: Tensor) -> Tensor:
        attended = self.attn(self.norm1(x))
        x = x + (self.attn_adapter(attended) if self.attn_adapter else attended)
        n = self.norm2(x)
        y = x + self.mlp(n)
        return y + 0.5 * self.mlp_adapter(n) if self.mlp_adapter else y


class ImageEncoder(nn.Module):
    def __init__(self, config: ALTAConfig) -> None:
        super().__init__()
        image = config.image
        self.config = image
        self.encode_absent = config.absent_slots == "encoded"
        self.patch_embed = PatchEmbed(image.size, image.patch, 3, image.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, image.width))
        self.missing_token = nn.Parameter(torch.zeros(1, image.patches, image.width), requires_grad=False)
        self.temporal_embedding = nn.Parameter(torch.zeros(1, 2, image.width))
        self.view_embedding = nn.Parameter(torch.zeros(1, 2, image.width))
        self.blocks = nn.ModuleList(ViTBlock(image.width, image.heads, _reduction(config)) for _ in range(image.depth))
        self.norm = nn.LayerNorm(image.width, eps=1e-6)
        self.projection_head = ProjectionHead(image.width, config.embedding)
        self.local_projection_head = ProjectionHead(image.width, config.embedding)
        self.register_buffer(
            "pos_embed",
            sine_cosine_positions(image.width, image.size // image.patch),
            persistent=False,
        )
        self.pos_embed: Tensor
        self.register_buffer("slots_read", torch.tensor(config.slots_read), persistent=False)
        self.slots_read: Tensor

    def forward(self, images: Tensor, present: Tensor, noise: Tensor | None = None) -> ImageTokens:
        """Encode the slots of a batch of studies.

        images (B, S, C, H, W) normalised, C 3 or, for grey, 1; present (B, S) bool; noise (B, S, N) uniform: the
        patches with the smallest noise are kept, None keeps all in reading order. S is a leading part of ``SLOTS``.
        """
        order, keep = self._choose_patches(images, noise)
        present = present & self.slots_read[: present.shape[1]]
        encoded = self.slots_read[: present.shape[1]].expand_as(present) if self.encode_absent else present  # (B, S)
        study, slot = encoded.nonzero(as_tuple=True)  # both (R,): the rows that are encoded
        tokens = self._embed_kept(images, study, slot, order[study, slot, :keep], present[study, slot])
        tokens = _to_compute_dtype(self._add_slots(tokens, slot))  # (R, 1 + K, D)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        placed = tokens.new_zeros(*encoded.shape, *tokens.shape[1:]).index_put((study, slot), tokens)
        mask = torch.ones_like(order, dtype=torch.bool).scatter(2, order[:, :, :keep], False)
        return ImageTokens(placed[:, :, 0], placed[:, :, 1:], encoded, mask, order)

    def embed_study(self, tokens: ImageTokens) -> Tensor:
        """(B, E) of length 1."""
        return F.normalize(self.projection_head(tokens.pooled()), dim=-1)

    def _choose_patches(self, images: Tensor, noise: Tensor | None) -> tuple[Tensor, int]:
        count = self.config.patches
        if noise is None:
            order = torch.arange(count, device=images.device).expand(*images.shape[:2], count)
            return order, count
        return noise.argsort(dim=-1, stable=True), round(count * (1 - self.config.mask_ratio))

    def _embed_kept(self, images: Tensor, study: Tensor, slot: Tensor, kept: Tensor, present: Tensor) -> Tensor:
        """Position-aware tokens (R, K, D) of the patches ``kept`` (R, K) of the images at study, slot, present (R,).

        Only kept patches are read and embedded: the convolution's stride is its kernel, so it is a matrix product. One
        channel stands for three equal ones, whose weights add up.
        """
        size = self.config.patch
        grid = images.unflatten(4, (-1, size)).unflatten(3, (-1, size))  # (B, S, C, rows, P, columns, P)
        grid = grid.permute(0, 1, 3, 5, 2, 4, 6)  # (B, S, rows, columns, C, P, P), still a view
        side = grid.shape[2]
        patches = grid[study[:, None], slot[:, None], kept // side, kept % side].flatten(2)  # (R, K, C * P * P)
        weight = self.patch_embed.proj.weight
        weight = weight.sum(1) if images.shape[2] == 1 else weight
        tokens = linear(patches, weight.flatten(1), self.patch_embed.proj.bias)
        tokens = torch.where(present[:, None, None], tokens, self.missing_token[0][kept].to(tokens.dtype))
        return tokens + self.pos_embed[0, 1:][kept]

    def _add_slots(self, tokens: Tensor, slot: Tensor) -> Tensor:
        """Put the cls token in front and add view and time of each row's slot: (R, 1 + K, D)."""
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        lateral, prior = slot % 2, slot // 2  # the order of SLOTS
        embedding = self.view_embedding[0, lateral] + self.temporal_embedding[0, prior]  # (R, D)
        return torch.cat([cls.to(tokens.dtype), tokens], 1) + embedding[:, None]


class TextLayer(nn.Module):
    """Post-norm BERT layer; with ``reduction`` the two ALTA adapters are added."""

    def __init__(self, bert: BertConfig, reduction: int | None) -> None:
        super().__init__()
        self.attention = BertAttention(bert)
        self.intermediate = BertIntermediate(bert)
        self.output = BertOutput(bert)
        self.attn_adapter = Adapter(bert.hidden_size, reduction, skip=True) if reduction else None
        self.mlp_adapter = Adapter(bert.hidden_size, reduction, skip=False) if reduction else None

    def forward(self, x: Tensor, texts: PackedTexts) -> Tensor:
        """(P, D)."""
        heads = self.attention.self
        drop = heads.dropout.p if self.training else 0.0
        attended = texts.attend(heads.query(x), heads.key(x), heads.value(x), heads.num_attention_heads, drop)
        a = self.attention.output(attended, x)
        a = self.attn_adapter(a) if self.attn_adapter else a
        y = self.output(self.intermediate(a), a)
        return y + 0.5 * self.mlp_adapter(a) if self.mlp_adapter else y


class MaskedLanguageHead(nn.Module):
    def __init__(self, bert: BertConfig) -> None:
        super().__init__()
        self.transform = BertPredictionHeadTransform(bert)
        self.bias = nn.Parameter(torch.zeros(bert.vocab_size))

    def forward(self, hidden: Tensor, word_embeddings: Tensor) -> Tensor:
        """(..., D) to logits (..., V); the output weights are the word embeddings (V, D)."""
        return linear(self.transform(hidden), word_embeddings, self.bias)


class TextEncoder(nn.Module):
    def __init__(self, config: ALTAConfig) -> None:
        super().__init__()
        text = config.text
        bert = BertConfig(
            vocab_size=text.vocabulary,
            hidden_size=text.width,
            num_hidden_layers=text.depth,
            num_attention_heads=text.heads,
            intermediate_size=text.intermediate,
            max_position_embeddings=text.positions,
            hidden_dropout_prob=text.dropout,
            attention_probs_dropout_prob=text.dropout,
        )
        self.config = text
        self.embeddings = BertEmbeddings(bert)
        self.layers = nn.ModuleList(TextLayer(bert, _reduction(config)) for _ in range(text.depth))
        self.mlm_head = MaskedLanguageHead(bert)
        self.cls_projection_head = ProjectionHead(text.width, config.embedding)
        self.local_projection_head = ProjectionHead(text.width, config.embedding)
        for module in list(self.modules()):
            if isinstance(getattr(module, "dropout", None), nn.Dropout):
                module.dropout = Dropout(text.dropout)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, context: Tensor | None = None) -> TextTokens:
        """input_ids and attention_mask (B, T), padding on the right; context (B, D) is added to every embedded token.

        ``hidden`` of padding is zero; none is computed.
        """
        texts = PackedTexts(attention_mask)
        ids = texts.pack(input_ids)[None]  # (1, P)
        hidden = self.embeddings(ids, torch.zeros_like(ids), texts.places[None])[0]  # (P, D)
        if context is not None:
            hidden = hidden + context.index_select(0, texts.rows)
        hidden = _to_compute_dtype(hidden)
        for layer in self.layers:
            hidden = layer(hidden, texts)
        return TextTokens(texts.unpack(hidden), attention_mask)

    def project(self, tokens: TextTokens) -> Tensor:
        """(B, E), not normalised: prompt ensembles average these."""
        return self.cls_projection_head(tokens.hidden[:, 0])

    def embed_text(self, tokens: TextTokens) -> Tensor:
        """(B, E) of length 1."""
        return F.normalize(self.project(tokens), dim=-1)

    def predict_words(self, hidden: Tensor) -> Tensor:
        return self.mlm_head(hidden, self.embeddings.word_embeddings.weight)


class ImageDecoder(nn.Module):
    """Paints the removed patches at ``target_scale`` times the encoder's resolution (MAE, MRM)."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config.width, config.decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.decoder_width))
        self.blocks = nn.ModuleList(
            ViTBlock(config.decoder_width, config.decoder_heads, None) for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(config.decoder_width, eps=1e-6)
        self.pred = nn.Linear(config.decoder_width, (config.target_scale * config.patch) ** 2 * 3)
        positions = sine_cosine_positions(config.decoder_width, config.size // config.patch)
        self.register_buffer("pos_embed", positions, persistent=False)
        self.pos_embed: Tensor

    def forward(self, tokens: ImageTokens) -> Tensor:
        """From slot 0: (B, N, P * P * 3), values in row, column, channel order."""
        cls, kept = self.embed(tokens.cls[:, 0]), self.embed(tokens.patches[:, 0])
        removed = tokens.order.shape[2] - kept.shape[1]
        shuffled = torch.cat([kept, self.mask_token.to(kept.dtype).expand(len(kept), removed, -1)], 1)
        place = tokens.order[:, 0].argsort(dim=-1)  # (B, N): where each patch stands in the shuffled order
        patches = shuffled.gather(1, place.unsqueeze(-1).expand_as(shuffled))
        x = _to_compute_dtype(torch.cat([cls[:, None], patches], 1) + self.pos_embed)
        for block in self.blocks:
            x = block(x)
        return self.pred(self.norm(x)[:, 1:])


class ALTA(nn.Module):
    """Both towers, the two decoders and the learned scales. Losses are in ``losses.py``."""

    def __init__(self, config: ALTAConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config)
        self.text_encoder = TextEncoder(config)
        self.image_decoder = ImageDecoder(config.image)
        self.image_to_text = nn.Linear(config.image.width, config.text.width)
        start = torch.tensor(1 / 0.07).log()
        self.logit_scale = nn.Parameter(start.clone())
        self.logit_scale_local1 = nn.Parameter(start.clone())
        self.logit_scale_local2 = nn.Parameter(start.clone())
        self.logit_scale_local3 = nn.Parameter(start.clone())
        self._initialise()
        use_fast_linear(self)

    def halve(self, target: Tensor) -> Tensor:
        """Encoder input (B, C, H, W) from the current frontal at target resolution (B, C, 2H, 2W)."""
        size = (self.config.image.size, self.config.image.size)
        if target.shape[-2:] == size:
            return target
        return F.interpolate(target, size, mode="bicubic", antialias=True, align_corners=False)

    def _initialise(self) -> None:
        """ViT as MAE (Xavier uniform), BERT as BERT (normal 0.02); adapters keep their zero up-projection."""
        image_parts = [m for part in (self.image_encoder, self.image_decoder) for m in part.modules()]
        adapters = {m for part in self.modules() if isinstance(part, Adapter) for m in part.modules()}
        for module in self.modules():
            if module in adapters:
                continue
            if isinstance(module, nn.Linear):
                if module in image_parts:
                    nn.init.xavier_uniform_(module.weight)
                else:
                    nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        encoder, decoder = self.image_encoder, self.image_decoder
        nn.init.xavier_uniform_(encoder.patch_embed.proj.weight.data.flatten(1))
        for token in (
            encoder.cls_token,
            encoder.temporal_embedding,
            encoder.view_embedding,
            decoder.mask_token,
        ):
            nn.init.normal_(token, std=0.02)
        local, cls = (
            self.text_encoder.local_projection_head,
            self.text_encoder.cls_projection_head,
        )
        local.load_state_dict(cls.state_dict())


def _reduction(config: ALTAConfig) -> int | None:
    return config.adapter_reduction if config.adapters == "alta" else None


def _to_compute_dtype(x: Tensor) -> Tensor:
    """Under autocast the residual stream itself is narrow: casting at every layer costs more than the layers."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def sine_cosine_positions(width: int, side: int) -> Tensor:
    """Fixed 2-D position embedding (1, 1 + side * side, width); the cls row is zero.

    The first half of the channels encodes the column, the second the row; each half holds sines, then cosines,
    of position x 10000^(-i / width). MAE divides by width / 4 there; the published MRM and ALTA weights do not.
    """
    frequency = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / width)
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    halves = [torch.outer(axis.flatten().double(), frequency) for axis in (column, row)]  # each (N, width / 4)
    grid = torch.cat([wave for half in halves for wave in (half.sin(), half.cos())], 1)
    return torch.cat([torch.zeros(1, width, dtype=torch.float64), grid])[None].float()
