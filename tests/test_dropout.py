"""Dropout: the share that is dropped, the mean that is kept, the seed that repeats it."""

import pytest
import torch

from model.dropout import Dropout, dropout
from tests.tiny import tiny_config


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_it_drops_the_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    x = dropout(torch.ones(1001, 1003), p)
    assert (x == 0).float().mean().item() == pytest.approx(p, abs=2e-3)
    assert x.mean().item() == pytest.approx(1, abs=1e-2)
    assert len(x.unique()) == 2  # nothing, or scaled up


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (dropout(torch.ones(100_000, 4), 0.5) > 0).float()  # four values share a draw
    correlation = torch.corrcoef(kept.T) - torch.eye(4)
    assert correlation.abs().max() < 0.02
    assert (kept.mean(0) - 0.5).abs().max() < 0.01


def test_a_seed_repeats_it_and_its_gradient_follows() -> None:
    x = torch.ones(5, 7, requires_grad=True)
    torch.manual_seed(3)
    first = dropout(x, 0.3)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.3), first)
    first.sum().backward()
    assert torch.equal(x.grad, first.detach())


def test_outside_training_nothing_is_dropped() -> None:
    layer = Dropout(0.5).eval()
    assert torch.equal(layer(torch.ones(100)), torch.ones(100))


def test_the_text_tower_drops_in_training_only() -> None:
    from model.alta import ALTA

    torch.manual_seed(0)
    model = ALTA(tiny_config(dropout=0.2))
    ids, mask = torch.arange(5, 13).reshape(2, 4), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    read = lambda: model.text_encoder(ids, mask).hidden  # noqa: E731
    assert not torch.equal(read(), read())
    model.eval()
    assert torch.equal(read(), read())
