"""Linear layers: the product of F.linear and its gradients, whichever library multiplies."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model import linear as subject
from model.linear import Linear, linear, use_fast_linear
from tests.tiny import tiny_model


@pytest.fixture(params=["oneDNN", "MKL"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    chosen: str = request.param
    if chosen == "oneDNN" and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(subject, "_onednn_is_faster", lambda: chosen == "oneDNN")
    monkeypatch.setattr(subject, "SMALL", 0)
    return chosen


@pytest.mark.parametrize("shape", [(7, 12), (2, 5, 12), (2, 3, 4, 12)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_product_and_gradients_are_those_of_torch(library: str, shape: tuple[int, ...], with_bias: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    given = [torch.randn(size, generator=draw) for size in (shape, (9, 12), (9,))][: 2 + with_bias]
    pull = torch.randn(*shape[:-1], 9, generator=draw)
    results = []
    for function in (linear, F.linear):
        x, *weights = (value.clone().requires_grad_() for value in given)
        y = function(x, *weights)
        (y * pull).sum().backward()
        results.append([y.detach(), x.grad, *(w.grad for w in weights)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_frozen_weight_gets_no_gradient_and_passes_it_on(library: str) -> None:
    x, weight = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    linear(x, weight).sum().backward()
    assert weight.grad is None
    torch.testing.assert_close(x.grad, weight.sum(0).expand(3, 4))


def test_a_gradient_may_be_differentiated_again(library: str) -> None:
    found = []
    for function in (linear, F.linear):
        draw = torch.Generator().manual_seed(0)
        x, weight = (torch.randn(size, generator=draw).requires_grad_() for size in ((3, 4), (5, 4)))
        (slope,) = torch.autograd.grad(function(x, weight).square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), (x, weight)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_vector_and_no_rows_at_all_are_multiplied_alike(library: str) -> None:
    weight, bias = torch.randn(5, 4), torch.randn(5)
    for x in (torch.randn(4), torch.randn(0, 4), torch.randn(2, 0, 4)):
        torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias))
    with torch.inference_mode():
        assert linear(torch.randn(3, 4), weight.requires_grad_(), bias).is_inference()


def test_what_comes_in_columns_is_multiplied_alike(library: str) -> None:
    x, weight = torch.randn(4, 6).t(), torch.randn(4, 5).t()
    torch.testing.assert_close(linear(x, weight), F.linear(x, weight))


def test_other_numbers_than_float32_are_left_to_torch(library: str) -> None:
    x, weight = torch.randn(3, 4), torch.randn(5, 4)
    assert linear(x.double(), weight.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16


def test_the_whole_model_takes_it_and_keeps_its_names(library: str) -> None:
    model = tiny_model()
    plain = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    assert plain == [] and any(type(module) is Linear for module in model.modules())
    layers = nn.Sequential(nn.Linear(3, 2))
    names = list(layers.state_dict())
    use_fast_linear(layers)
    assert list(layers.state_dict()) == names and isinstance(layers[0], Linear)
