"""The four losses: fast forms against loops over one study, one patch and one pair at a time."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model import losses as subject
from model.alta import ALTA, TextTokens
from model.losses import (
    Losses,
    LossWeights,
    TrainingBatch,
    alta_losses,
    contrastive_loss,
    image_reconstruction_loss,
    local_contrastive_loss,
    local_similarity,
    text_reconstruction_loss,
)
from tests import naive_alta
from tests.tiny import VOCABULARY, tiny_model

STUDIES = 6


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch(channels: int = 3, widest: int = 20) -> TrainingBatch:
    """Six studies with every kind of absence; the first text is as long as the batch is wide."""
    present = torch.tensor(
        [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0], [1, 0, 1, 0]], dtype=torch.bool
    )
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, len(VOCABULARY), (STUDIES, widest), generator=generator)
    lengths = torch.tensor([widest, 5, 9, 3, widest - 1, 12])
    mask = (torch.arange(widest) < lengths[:, None]).long()
    ids = torch.where(mask == 1, ids, 0)
    ids[:, 0] = 2
    ids[torch.arange(STUDIES), lengths - 1] = 3
    chosen = (torch.rand(ids.shape, generator=generator) < 0.5) & (ids > 4)
    return TrainingBatch(
        target=draw(STUDIES, channels, 64, 64),
        others=draw(STUDIES, 3, channels, 32, 32, seed=2),
        present=present,
        input_ids=ids,
        attention_mask=mask,
        masked_input_ids=torch.where(chosen, 4, ids),
        labels=torch.where(chosen, ids, -100),
        noise=torch.rand(STUDIES, 4, 16, generator=generator),
    )


def losses_of(model: ALTA, data: TrainingBatch, group: int | None = None) -> Losses:
    with torch.no_grad():
        return alta_losses(model, data, local_group=group)


def value(x: Tensor) -> float:
    return float(x.detach())


# Contrastive


def test_contrastive_loss_is_the_mean_of_both_cross_entropies() -> None:
    study, text = F.normalize(draw(5, 8), dim=1), F.normalize(draw(5, 8, seed=1), dim=1)
    scale = torch.tensor(2.0)
    expected = 0.0
    for i in range(5):
        to_texts = torch.stack([scale.exp() * study[i] @ text[j] for j in range(5)])
        to_studies = torch.stack([scale.exp() * study[j] @ text[i] for j in range(5)])
        expected -= value(to_texts.log_softmax(0)[i] + to_studies.log_softmax(0)[i]) / 10
    assert value(contrastive_loss(study, text, scale)) == pytest.approx(expected, abs=1e-5)


def test_contrastive_loss_falls_to_zero_for_pairs_that_fit_and_is_chance_for_equal_ones() -> None:
    apart, equal = torch.eye(8), torch.ones(8, 8) / 8**0.5
    assert value(contrastive_loss(apart, apart, torch.tensor(100.0).log())) == pytest.approx(0, abs=1e-6)
    assert value(contrastive_loss(equal, equal, torch.tensor(0.0))) == pytest.approx(torch.tensor(8.0).log().item())


def test_gathered_embeddings_are_contrasted_with_one_another() -> None:
    model, data = tiny_model(), batch()
    alone = losses_of(model, data)
    others = F.normalize(draw(4, 8), dim=1)
    with torch.no_grad():
        gathered = alta_losses(
            model,
            data,
            contrast=lambda *pair: contrastive_loss(*(torch.cat([rows, others]) for rows in pair), model.logit_scale),
        )
    pair = [torch.cat([rows, others]) for rows in (alone.study_embedding, alone.text_embedding)]
    assert value(gathered.contrastive) == pytest.approx(value(contrastive_loss(*pair, model.logit_scale)))
    assert value(gathered.contrastive) != pytest.approx(value(alone.contrastive))


def test_studies_that_say_the_same_are_no_negatives_of_each_other() -> None:
    study, text = F.normalize(draw(5, 8), dim=1), F.normalize(draw(5, 8, seed=1), dim=1)
    scale, keys = torch.tensor(1.5), torch.tensor([4, 7, 4, 9, 4])
    logits = scale.exp() * study @ text.T
    expected = 0.0
    for i in range(5):
        same = [j for j in range(5) if keys[j] == keys[i]]
        for j in same:
            expected -= value(logits.log_softmax(1)[i, j] + logits.log_softmax(0)[j, i]) / len(same) / 10
    assert value(contrastive_loss(study, text, scale, keys)) == pytest.approx(expected, abs=1e-5)
    alone = contrastive_loss(study, text, scale, torch.arange(5))
    assert value(alone) == pytest.approx(value(contrastive_loss(study, text, scale)), abs=1e-6)


# Local contrastive


def test_local_similarity_is_that_of_each_pair_alone() -> None:
    patches, words = draw(3, 7, 8), draw(4, 5, 8, seed=1)
    patch_mask = torch.tensor([[True] * 7, [True] * 3 + [False] * 4, [True] * 6 + [False]])
    word_mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [True] + [False] * 4, [True] * 4 + [False]])
    scales = {f"logit_scale_local{n}": torch.tensor(s) for n, s in ((1, 1.3), (2, 0.7), (3, 0.4))}
    fast = local_similarity(patches, words, patch_mask, word_mask, tuple(scales.values()))
    assert fast.shape == (4, 3)
    for i in range(4):
        for j in range(3):
            pair = naive_alta.local_similarity(scales, patches[j][patch_mask[j]], words[i][word_mask[i]])
            assert value(fast[i, j]) == pytest.approx(value(pair), abs=1e-4)


def test_masked_words_and_patches_have_no_influence_and_no_gradient() -> None:
    patches, words = draw(2, 4, 8).requires_grad_(), draw(2, 3, 8, seed=1).requires_grad_()
    patch_mask = torch.tensor([[True, True, False, False]] * 2)
    word_mask = torch.tensor([[True, True, False]] * 2)
    scales = tuple(torch.tensor(1.0) for _ in range(3))
    local_contrastive_loss(local_similarity(patches, words, patch_mask, word_mask, scales)).backward()
    assert patches.grad is not None and words.grad is not None
    assert torch.isfinite(patches.grad).all() and torch.isfinite(words.grad).all()
    assert not patches.grad[:, 2:].any() and not words.grad[:, 2:].any()
    assert patches.grad[:, :2].any() and words.grad[:, :2].any()


@pytest.mark.parametrize("rule", ["encoded", "ignored"])
@pytest.mark.parametrize("group", [None, 2, 4])
def test_local_loss_is_the_mean_over_studies_of_that_of_their_group(rule: str, group: int | None) -> None:
    model, data = tiny_model(rule), batch()
    scales = {name: getattr(model, name).detach() for name in (f"logit_scale_local{n}" for n in (1, 2, 3))}
    with torch.no_grad():
        image = model.image_encoder(
            torch.cat([model.halve(data.target)[:, None], data.others], 1), data.present, data.noise
        )
        hidden = model.text_encoder(data.input_ids, data.attention_mask).hidden
        patches, words = [], []
        for i in range(STUDIES):
            counted = image.patches[i][image.present[i]].flatten(0, 1)
            patches.append(model.image_encoder.local_projection_head(counted))
            # up to the first padding position, [CLS] left out, [SEP] included
            words.append(model.text_encoder.local_projection_head(hidden[i, 1 : int(data.attention_mask[i].sum())]))
        per_group = []
        for start in range(0, STUDIES, group or STUDIES):
            rows = range(start, min(start + (group or STUDIES), STUDIES))
            pairs = [[naive_alta.local_similarity(scales, patches[j], words[i]) for j in rows] for i in rows]
            per_group.append(naive_alta.cross_entropies(torch.tensor(pairs)) * len(rows))
    expected = value(torch.stack(per_group).sum()) / STUDIES
    assert value(losses_of(model, data, group).local_contrastive) == pytest.approx(expected, rel=1e-4)


# Image reconstruction


def test_image_loss_is_the_mean_over_removed_patches_of_their_normalised_error() -> None:
    painted, target = draw(3, 16, 8 * 8 * 3), 3 + 2 * draw(3, 3, 32, 32, seed=1)
    removed = torch.rand(3, 16, generator=torch.Generator().manual_seed(2)) < 0.6
    total = sum(
        value(naive_alta.image_loss(painted[i], target[i], removed[i].nonzero().flatten().tolist())) for i in range(3)
    )
    fast = image_reconstruction_loss(painted, target, removed)
    assert value(fast) == pytest.approx(total / int(removed.sum()), rel=1e-4)


def test_a_grey_target_stands_for_three_equal_channels() -> None:
    painted, grey, removed = draw(2, 16, 8 * 8 * 3), draw(2, 1, 32, 32, seed=1), torch.ones(2, 16, dtype=torch.bool)
    expected = image_reconstruction_loss(painted, grey.expand(-1, 3, -1, -1), removed)
    assert value(image_reconstruction_loss(painted, grey, removed)) == pytest.approx(value(expected))


def test_the_exact_picture_has_no_image_loss_and_flat_patches_are_no_division_by_zero() -> None:
    target = draw(1, 3, 32, 32)
    patches = [
        target[0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].permute(1, 2, 0).flatten()
        for row in range(4) for column in range(4)
    ]  # fmt: skip
    exact = torch.stack([(patch - patch.mean()) / (patch.var() + 1e-6).sqrt() for patch in patches])[None]
    removed = torch.ones(1, 16, dtype=torch.bool)
    assert value(image_reconstruction_loss(exact, target, removed)) == pytest.approx(0, abs=1e-9)
    assert value(image_reconstruction_loss(exact * 0, target * 0 + 0.3, removed)) == pytest.approx(0, abs=1e-6)


def test_kept_patches_have_no_image_loss() -> None:
    painted, target = draw(2, 16, 8 * 8 * 3), draw(2, 3, 32, 32, seed=1)
    removed = torch.arange(16).expand(2, 16) % 2 == 0
    other = painted.clone()
    other[~removed] += 5
    assert value(image_reconstruction_loss(other, target, removed)) == value(
        image_reconstruction_loss(painted, target, removed)
    )


# Text reconstruction


def test_text_loss_is_the_cross_entropy_of_masked_tokens_alone() -> None:
    model, data = tiny_model(), batch()
    with torch.no_grad():
        masked = model.text_encoder(data.masked_input_ids, data.attention_mask)
        logits = model.text_encoder.predict_words(masked.hidden)
        expected = F.cross_entropy(logits.flatten(0, 1), data.labels.flatten(), ignore_index=-100)
        assert value(text_reconstruction_loss(model, masked, data.labels)) == pytest.approx(value(expected), abs=1e-5)


def test_without_masked_tokens_the_text_loss_is_zero_and_has_a_gradient() -> None:
    """Of the head too: processes average their gradients, so each has the same."""
    hidden, model = draw(2, 5, 24).requires_grad_(), tiny_model()
    loss = text_reconstruction_loss(model, TextTokens(hidden, torch.ones(2, 5)), torch.full((2, 5), -100))
    loss.backward()
    assert value(loss) == 0
    for x in (hidden, *model.text_encoder.mlm_head.parameters()):
        assert x.grad is not None and not x.grad.any()


# All four


def test_autocast_does_not_coarsen_the_contrastive_losses() -> None:
    study, text = F.normalize(draw(5, 8), dim=1), F.normalize(draw(5, 8, seed=1), dim=1)
    scale = torch.tensor(100.0).log()
    expected = contrastive_loss(study, text, scale)
    model, data = tiny_model(), batch()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.equal(contrastive_loss(study, text, scale), expected)
        image = model.image_encoder(data.images(model), data.present, data.noise)
        words = model.text_encoder(data.input_ids, data.attention_mask)
        local = subject._local_loss(model, image, words, STUDIES, None)
        patches = model.image_encoder.local_projection_head(image.patches.flatten(1, 2)).float()
        heard = model.text_encoder.local_projection_head(words.hidden[:, 1:]).float()
    masks = image.present.repeat_interleave(image.patches.shape[2], 1), data.attention_mask[:, 1:].bool()
    scales = model.logit_scale_local1, model.logit_scale_local2, model.logit_scale_local3
    assert value(local) == pytest.approx(
        value(local_contrastive_loss(local_similarity(patches, heard, *masks, scales)))
    )


def test_reports_read_apart_have_the_losses_of_reports_read_together() -> None:
    model, data = tiny_model(), batch()
    with torch.no_grad():
        apart = alta_losses(model, data, texts_apart=True).by_name()
    expected = {name: value(loss) for name, loss in losses_of(model, data).by_name().items()}
    assert {name: value(loss) for name, loss in apart.items()} == pytest.approx(expected, rel=1e-4)


def test_the_objective_is_the_sum_of_the_four() -> None:
    losses = losses_of(tiny_model(), batch())
    values = {name: value(loss) for name, loss in losses.by_name().items()}
    assert list(values) == ["contrastive", "local_contrastive", "image_reconstruction", "text_reconstruction"]
    assert value(losses.total()) == pytest.approx(sum(values.values()), rel=1e-6)
    lighter = sum(values.values()) - 0.75 * values["local_contrastive"]
    assert value(losses.total(LossWeights(local_contrastive=0.25))) == pytest.approx(lighter, rel=1e-6)


def test_the_masked_report_is_read_with_the_images_and_the_contrasted_one_without() -> None:
    model, data = tiny_model(), batch()
    before = losses_of(model, data)
    with torch.no_grad():
        model.image_to_text.bias += draw(24)
    after = losses_of(model, data)
    assert torch.equal(after.text_embedding, before.text_embedding)
    assert value(after.text_reconstruction) != pytest.approx(value(before.text_reconstruction))


def test_grey_batches_have_the_losses_of_three_equal_channels() -> None:
    model, grey = tiny_model(), batch(channels=1)
    colour = replace(grey, target=grey.target.expand(-1, 3, -1, -1), others=grey.others.expand(-1, -1, 3, -1, -1))
    expected = {name: value(loss) for name, loss in losses_of(model, colour).by_name().items()}
    assert {name: value(loss) for name, loss in losses_of(model, grey).by_name().items()} == pytest.approx(
        expected, rel=1e-4
    )


@pytest.mark.parametrize("rule", ["encoded", "ignored"])
def test_every_parameter_that_can_learn_gets_a_finite_gradient(rule: str) -> None:
    model = tiny_model(rule).requires_grad_(True)
    model.image_encoder.missing_token.requires_grad_(False)
    alta_losses(model, batch(), local_group=4).total().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    # The decoder sees the cls token, so all but the token that is never trained is reached.
    assert without == {"image_encoder.missing_token"}
