"""The architecture: slots, absent images, kept patches, adapters, texts of unlike lengths."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.alta import ALTA, SLOTS, ALTAConfig, ImageConfig, ImageTokens, ViTBlock, sine_cosine_positions
from model.training.objectives import trainable_names
from tests.tiny import VOCABULARY, tiny_config, tiny_model

ALL = torch.ones(2, 4, dtype=torch.bool)
FRONTAL_ONLY = torch.tensor([[True, False, False, False]] * 2)


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def encode(model: ALTA, images: Tensor, present: Tensor, noise: Tensor | None = None) -> ImageTokens:
    return model.image_encoder(images, present, noise)


@torch.no_grad()
def embed(model: ALTA, images: Tensor, present: Tensor) -> Tensor:
    return model.image_encoder.embed_study(model.image_encoder(images, present))


def same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-5)


# The published model


def test_the_default_configuration_has_the_published_size() -> None:
    with torch.device("meta"):
        model = ALTA(ALTAConfig())
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    total = sum(sizes.values()) + sum(buffer.numel() for buffer in model.buffers())  # fixed positions are counted
    trainable = sum(sizes[name] for name in trainable_names(model))
    assert round(total / 1e6, 2) == 242.18
    assert round(trainable / 1e6, 2) == 18.33
    assert round(100 * trainable / total, 2) == 7.57


def test_a_quarter_of_the_published_patches_is_kept() -> None:
    config = ImageConfig()
    assert config.patches == 196 and round(config.patches * (1 - config.mask_ratio)) == 49


def test_slots_are_two_times_by_two_views() -> None:
    assert SLOTS == ("current_frontal", "current_lateral", "prior_frontal", "prior_lateral")


def test_a_new_model_starts_as_the_paper_does() -> None:
    model = ALTA(tiny_config())
    text = model.text_encoder
    assert same(text.local_projection_head.dense_to_hidden.weight, text.cls_projection_head.dense_to_hidden.weight)
    assert not model.image_encoder.missing_token.any() and not model.image_encoder.missing_token.requires_grad
    scales = (model.logit_scale, model.logit_scale_local1, model.logit_scale_local2, model.logit_scale_local3)
    assert [float(scale.detach()) for scale in scales] == pytest.approx([math.log(1 / 0.07)] * 4)


def test_positions_are_column_then_row_and_zero_for_the_cls_token() -> None:
    width, side = 16, 5
    positions = sine_cosine_positions(width, side)[0]
    assert positions.shape == (26, width) and not positions[0].any()
    for row, column in ((0, 0), (1, 3), (4, 2)):
        angles = {axis: [axis * 10000 ** (-i / width) for i in range(width // 4)] for axis in (column, row)}
        expected = [wave(a) for axis in (column, row) for wave in (math.sin, math.cos) for a in angles[axis]]
        assert positions[1 + row * side + column].tolist() == pytest.approx(expected, abs=1e-6)


# Adapters


def test_adapters_change_nothing_at_first() -> None:
    torch.manual_seed(0)
    adapted, plain = ViTBlock(16, 2, reduction=4), ViTBlock(16, 2, reduction=None)
    plain.load_state_dict({name: value for name, value in adapted.state_dict().items() if "adapter" not in name})
    x = torch.randn(3, 7, 16)
    assert same(adapted(x), plain(x))


def test_a_text_layer_without_adapters_gives_the_same_at_first() -> None:
    model = ALTA(tiny_config()).eval()
    before = texts_of(model, ["clear"])
    for layer in model.text_encoder.layers:
        layer.attn_adapter = torch.nn.Identity()
        layer.mlp_adapter = torch.nn.Module()
        layer.mlp_adapter.forward = torch.zeros_like
    assert same(texts_of(model, ["clear"]), before)


# Slots and absent images


def test_grey_images_need_one_channel() -> None:
    model = tiny_model()
    grey = pictures(2, 4)[:, :, :1]
    assert same(embed(model, grey, ALL), embed(model, grey.expand(-1, -1, 3, -1, -1), ALL))


def test_where_absent_slots_are_ignored_a_lone_frontal_has_one_embedding() -> None:
    model, images = tiny_model("ignored"), pictures(2, 4)
    alone = torch.ones(2, 1, dtype=torch.bool)
    assert same(embed(model, images, FRONTAL_ONLY), embed(model, images[:, :1], alone))


def test_where_absent_slots_are_encoded_they_count() -> None:
    model, images = tiny_model("encoded"), pictures(2, 4)
    alone = torch.ones(2, 1, dtype=torch.bool)
    assert not same(embed(model, images, FRONTAL_ONLY), embed(model, images[:, :1], alone))
    tokens = encode(model, images, FRONTAL_ONLY)
    assert tokens.present.all() and tokens.cls[:, 1:].abs().sum() > 0
    assert same(tokens.pooled(), tokens.cls.mean(1))


def test_where_absent_slots_are_ignored_the_mean_is_over_present_ones() -> None:
    present = torch.tensor([[True, False, True, False], [True, True, True, True]])
    tokens = encode(tiny_model("ignored"), pictures(2, 4), present)
    assert torch.equal(tokens.present, present) and not tokens.cls[~present].any()
    assert same(tokens.pooled()[0], tokens.cls[0, [0, 2]].mean(0))
    assert same(tokens.pooled()[1], tokens.cls[1].mean(0))


@pytest.mark.parametrize("rule", ["encoded", "ignored"])
def test_the_pixels_of_an_absent_image_are_not_seen(rule: str) -> None:
    model, images = tiny_model(rule), pictures(2, 4)
    other = images.clone()
    other[:, 1:] = pictures(2, 3, seed=9)
    assert same(embed(model, images, FRONTAL_ONLY), embed(model, other, FRONTAL_ONLY))
    assert not same(embed(model, images, ALL), embed(model, other, ALL))


def test_an_absent_image_is_its_missing_token() -> None:
    model, images = tiny_model("encoded"), pictures(2, 4)
    before = embed(model, images, FRONTAL_ONLY)
    with torch.no_grad():
        model.image_encoder.missing_token.copy_(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))
    assert not same(embed(model, images, FRONTAL_ONLY), before)
    assert same(embed(model, images, ALL), embed(tiny_model("encoded"), images, ALL))


@pytest.mark.parametrize("swapped", [[1, 0, 2, 3], [2, 1, 0, 3], [0, 3, 2, 1]])
def test_an_image_means_another_thing_in_another_slot(swapped: list[int]) -> None:
    model, images = tiny_model(), pictures(2, 4)
    assert not same(embed(model, images[:, swapped], ALL), embed(model, images, ALL))
    with torch.no_grad():
        model.image_encoder.view_embedding.zero_()
        model.image_encoder.temporal_embedding.zero_()
    assert same(embed(model, images[:, swapped], ALL), embed(model, images, ALL))


@pytest.mark.parametrize(
    ("name", "index", "slots"),
    [
        ("view_embedding", 0, {"current_frontal", "prior_frontal"}),
        ("view_embedding", 1, {"current_lateral", "prior_lateral"}),
        ("temporal_embedding", 0, {"current_frontal", "current_lateral"}),
        ("temporal_embedding", 1, {"prior_frontal", "prior_lateral"}),
    ],
)
def test_every_slot_has_its_view_and_time(name: str, index: int, slots: set[str]) -> None:
    model, images = tiny_model(), pictures(1, 4)
    before = encode(model, images, ALL[:1]).cls[0]
    with torch.no_grad():
        getattr(model.image_encoder, name)[0, index, 0] += 3
    after = encode(model, images, ALL[:1]).cls[0]
    assert {slot for slot, a, b in zip(SLOTS, after, before, strict=True) if not same(a, b)} == slots


def test_slots_are_encoded_each_on_its_own() -> None:
    model, images = tiny_model(), pictures(2, 4)
    other = images.clone()
    other[:, 3] += 1
    assert same(encode(model, images, ALL).cls[:, :3], encode(model, other, ALL).cls[:, :3])


def test_studies_of_a_batch_do_not_see_one_another() -> None:
    for rule in ("encoded", "ignored"):
        model, images = tiny_model(rule), pictures(2, 4)
        present = torch.tensor([[True, True, False, False], [True, False, True, True]])
        one_by_one = [embed(model, images[i : i + 1], present[i : i + 1]) for i in range(2)]
        assert same(embed(model, images, present), torch.cat(one_by_one))


# Kept patches


def noise_of(seed: int = 0) -> Tensor:
    return torch.rand(2, 4, 16, generator=torch.Generator().manual_seed(seed))


def test_the_patches_of_least_noise_are_kept() -> None:
    noise = noise_of()
    tokens = encode(tiny_model(), pictures(2, 4), ALL, noise)
    assert tokens.patches.shape == (2, 4, 4, 16) and tokens.mask.shape == (2, 4, 16)
    kept = noise <= noise.sort(-1).values[:, :, 3:4]
    assert torch.equal(tokens.mask, ~kept)
    assert torch.equal(tokens.order[:, :, :4].sort(-1).values, kept.nonzero()[:, 2].reshape(2, 4, 4))


def test_without_noise_every_patch_is_kept_in_reading_order() -> None:
    tokens = encode(tiny_model(), pictures(2, 4), ALL)
    assert tokens.patches.shape == (2, 4, 16, 16) and not tokens.mask.any()
    assert torch.equal(tokens.order[1, 2], torch.arange(16))


def test_removed_patches_are_not_seen_and_kept_ones_are() -> None:
    model, images, noise = tiny_model(), pictures(1, 1), noise_of()[:1, :1]
    before = encode(model, images, ALL[:1, :1], noise)
    for patch in range(16):
        row, column = divmod(patch, 4)
        changed = images.clone()
        changed[..., row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] += 1
        after = encode(model, changed, ALL[:1, :1], noise)
        assert same(after.cls, before.cls) == bool(before.mask[0, 0, patch])


def test_keeping_all_patches_in_any_order_gives_the_same_study() -> None:
    model, images = tiny_model(), pictures(2, 4)
    everything = replace(model.image_encoder.config, mask_ratio=0.0)
    model.image_encoder.config = everything
    assert same(encode(model, images, ALL, noise_of()).cls, encode(model, images, ALL).cls)


def test_the_decoder_paints_in_reading_order_whatever_the_order_of_kept_patches() -> None:
    model, images, noise = tiny_model(), pictures(2, 1), noise_of()[:, :1]
    tokens = encode(model, images, ALL[:, :1], noise)
    order = torch.cat([tokens.order[:, :, :4].flip(-1), tokens.order[:, :, 4:].flip(-1)], -1)
    turned = replace(tokens, patches=tokens.patches.flip(2), order=order)
    with torch.no_grad():
        painted = model.image_decoder(tokens)
        assert painted.shape == (2, 16, 16 * 16 * 3)
        assert same(model.image_decoder(turned), painted)


def test_the_encoder_sees_the_painted_image_at_half_its_size() -> None:
    model = tiny_model()
    target = pictures(2).repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert model.halve(target).shape == (2, 3, 32, 32)
    assert same(model.halve(torch.full((1, 3, 64, 64), 0.7)), torch.full((1, 3, 32, 32), 0.7))
    assert torch.equal(model.halve(target[..., :32, :32]), target[..., :32, :32])  # a decoder of the same scale


# Texts


def tokens_of(texts: list[str], width: int) -> tuple[Tensor, Tensor]:
    ids = torch.zeros(len(texts), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        numbers = [VOCABULARY.index(word) for word in ["[CLS]", *text.split(), "[SEP]"]]
        ids[row, : len(numbers)], mask[row, : len(numbers)] = torch.tensor(numbers), 1
    return ids, mask


def texts_of(model: ALTA, texts: list[str], width: int = 24, context: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return model.text_encoder(*tokens_of(texts, width), context).hidden


MANY = [" ".join(VOCABULARY[5 + (3 * i + k) % 17] for k in range(1 + (7 * i) % 20)) for i in range(37)]


@pytest.mark.parametrize("context", [None, torch.randn(37, 24, generator=torch.Generator().manual_seed(0))])
def test_texts_of_unlike_lengths_run_together_as_they_do_alone(context: Tensor | None) -> None:
    model = tiny_model()
    together = texts_of(model, MANY, context=context)
    for row, text in enumerate(MANY):
        length = len(text.split()) + 2
        alone = texts_of(model, [text], length, None if context is None else context[row : row + 1])
        assert same(together[row, :length], alone[0])


def test_padding_changes_no_embedding() -> None:
    model = tiny_model()
    embed_texts: Callable[[Tensor, Tensor], Tensor] = lambda ids, mask: model.text_encoder.embed_text(  # noqa: E731
        model.text_encoder(ids, mask)
    )
    with torch.no_grad():
        narrow, wide = embed_texts(*tokens_of(MANY[:5], 22)), embed_texts(*tokens_of(MANY[:5], 40))
        ids, mask = tokens_of(MANY[:5], 40)
        other_padding = embed_texts(torch.where(mask == 1, ids, 7), mask)
    assert narrow.norm(dim=1).tolist() == pytest.approx([1] * 5)
    assert same(wide, narrow) and same(other_padding, narrow)


def test_words_and_their_order_matter() -> None:
    hidden = texts_of(tiny_model(), ["no effusion is seen", "effusion is seen", "is no effusion seen"])
    assert not same(hidden[0, 0], hidden[1, 0]) and not same(hidden[0, 0], hidden[2, 0])


def test_context_is_added_to_every_token() -> None:
    model = tiny_model()
    text = ["no effusion is seen"]
    assert same(texts_of(model, text, context=torch.zeros(1, 24)), texts_of(model, text))
    changed = texts_of(model, text, context=torch.ones(1, 24)) - texts_of(model, text)
    assert (changed[0, :6].abs().sum(-1) > 0).all()


def test_words_are_predicted_with_the_word_embeddings() -> None:
    model = tiny_model()
    hidden = torch.randn(3, 24)
    with torch.no_grad():
        before = model.text_encoder.predict_words(hidden)
        model.text_encoder.embeddings.word_embeddings.weight[9] += 1
        changed = model.text_encoder.predict_words(hidden) != before
    assert before.shape == (3, len(VOCABULARY))
    assert changed[:, 9].all() and changed.sum() == 3
