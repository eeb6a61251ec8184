"""Texts laid end to end: each token attends to its own text, as if it were alone; padding takes no part."""

import pytest
import torch
import torch.nn.functional as F

from model import packed as subject
from model.packed import PackedTexts

LENGTHS = [9, 3, 3, 12, 1, 5, 9, 11]


def masks(lengths: list[int]) -> torch.Tensor:
    return (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_packing_loses_nothing_and_padding_comes_back_as_zero() -> None:
    texts = PackedTexts(masks(LENGTHS))
    padded = draw(len(LENGTHS), 12, 4)
    assert torch.equal(texts.unpack(texts.pack(padded)), padded * masks(LENGTHS)[..., None])
    assert texts.pack(padded).shape == (sum(LENGTHS), 4)


def test_every_token_knows_its_text_and_its_place() -> None:
    texts = PackedTexts(masks(LENGTHS))
    padded = torch.arange(8 * 12).reshape(8, 12)
    assert torch.equal(texts.pack(padded), padded[texts.rows, texts.places])


@pytest.mark.parametrize("lengths", [LENGTHS, [4, 4, 4], [1], [2, 30], [0, 3, 0, 5], [0, 0, 1]])
@pytest.mark.parametrize("stretch", [1.0, 1.2, 100.0])
def test_attention_and_its_gradient_are_those_of_each_text_alone(
    lengths: list[int], stretch: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "STRETCH", stretch)
    texts = PackedTexts(masks(lengths))
    query, key, value = (draw(len(lengths), max(lengths), 6, seed=n).requires_grad_() for n in range(3))
    found = texts.attend(texts.pack(query), texts.pack(key), texts.pack(value), heads=2, drop=0.0)
    gradients = torch.autograd.grad(found.square().sum(), (query, key, value))
    alone = []
    for row, length in enumerate(lengths):
        q, k, v = (x[row : row + 1, :length].unflatten(2, (2, 3)).transpose(1, 2) for x in (query, key, value))
        one = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        alone.append(F.pad(one, (0, 0, 0, max(lengths) - length)))
    expected = torch.cat(alone)
    torch.testing.assert_close(texts.unpack(found), expected)
    for one, other in zip(
        gradients, torch.autograd.grad(expected.square().sum(), (query, key, value)), strict=True
    ):  # fmt: skip
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float32])
def test_a_mask_of_any_kind_is_read_alike(kind: torch.dtype) -> None:
    expected, texts = PackedTexts(masks(LENGTHS)), PackedTexts(masks(LENGTHS).to(kind))
    assert torch.equal(texts.rows, expected.rows) and texts._groups[0].stop == expected._groups[0].stop


@pytest.mark.parametrize("mask", [[0, 1, 1], [1, 0, 1]])
def test_padding_elsewhere_than_on_the_right_is_not_misread(mask: list[int]) -> None:
    with pytest.raises(AssertionError, match="on the right"):
        PackedTexts(torch.tensor([[1, 1, 1], mask]))


def test_dropping_attention_keeps_its_mean() -> None:
    texts = PackedTexts(masks([3, 5]))
    query, key, value = (draw(2, 5, 4, seed=n) for n in range(3))
    packed = [texts.pack(x) for x in (query, key, value)]
    torch.manual_seed(0)
    dropped = torch.stack([texts.attend(*packed, heads=2, drop=0.2) for _ in range(4000)])
    torch.testing.assert_close(dropped.mean(0), texts.attend(*packed, heads=2, drop=0.0), atol=0.05, rtol=0)
    assert dropped.std(0).max() > 0.05


def test_texts_of_about_one_length_share_a_group_of_bounded_size() -> None:
    even = PackedTexts(masks([7] * (subject.GROUP + 1)))
    assert [group.texts for group in even._groups] == [subject.GROUP, 1]
    assert all(group.readable is None for group in even._groups)  # nothing to hide, so faster kernels may run
    uneven = PackedTexts(masks([10, 11, 12, 13, 30]))
    assert [group.texts for group in uneven._groups] == [3, 1, 1]
