"""Layers fused for a processor say what the layers they replace say, whatever the model is made of."""

import copy
import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from model import alta_encoder, fused
from model.alta import ALTA
from model.alta_encoder import AltaEncoder
from model.checkpoint import Checkpoint, load_checkpoint
from model.encoder import StudyImages
from model.precision import narrow
from service.settings import DEMO_ENCODERS
from tests.tiny import tiny_config, tiny_images, tiny_model

CPU = torch.device("cpu")
TEXTS = ["no effusion", "", "large left pneumothorax seen, the heart is enlarged", "clear"]

pytestmark = pytest.mark.skipif(not fused.can_fuse(), reason="this processor or this torch has no fused layers")


@pytest.fixture
def checkpoint() -> Checkpoint:
    return load_checkpoint(DEMO_ENCODERS)


@pytest.fixture(params=["alta", "none"])
def model(request: pytest.FixtureRequest) -> ALTA:
    if request.param == "alta":
        return tiny_model()
    torch.manual_seed(0)
    made = ALTA(replace(tiny_config(), adapters="none")).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if weight.ndim > 1 and ("blocks" in name or "layers" in name):
                weight.normal_(0, 0.2)
    return made


@pytest.fixture(params=[True, False], ids=["fused attention", "plain attention"])
def attention(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("model.fused", "model.packed", "model.precision"):
        monkeypatch.setattr(f"{module}.has_fused_attention", lambda: request.param)


def encoders(monkeypatch: pytest.MonkeyPatch, model: ALTA, checkpoint: Checkpoint) -> list[AltaEncoder]:
    """In float32, in bfloat16 with plain layers, in bfloat16 with fused ones."""
    made = []
    for dtype, can in ((torch.float32, True), (torch.bfloat16, False), (torch.bfloat16, True)):
        monkeypatch.setattr(alta_encoder, "can_fuse", lambda can=can: can)
        made.append(AltaEncoder(replace(checkpoint, model=copy.deepcopy(model)), CPU, dtype))
    assert [any("fused" in type(each).__module__ for each in one.model.modules()) for one in made] == [
        False,
        False,
        True,
    ]
    return made


def test_fused_layers_are_as_near_to_float32_as_plain_ones(
    monkeypatch: pytest.MonkeyPatch, model: ALTA, checkpoint: Checkpoint, attention: None
) -> None:
    checkpoint = replace(checkpoint, transform=replace(checkpoint.transform, resize=36, crop=32))
    films = tiny_images(12)
    studies = [
        StudyImages(films[at], films[at + 1] if at % 2 else None, films[at + 2] if at % 3 else None) for at in range(8)
    ]

    def embedded(encoder: AltaEncoder) -> np.ndarray:
        with torch.inference_mode():
            ids = torch.tensor([[2, 6, 7, 8, 3], [2, 9, 3, 0, 0], [2, 3, 0, 0, 0]])
            with encoder._autocast():
                hidden = encoder.model.text_encoder(ids, (ids > 0).long()).hidden.float()
        return np.concatenate([encoder.encode_studies(studies).ravel(), hidden.numpy().ravel()])

    exact, plain, found = (embedded(encoder) for encoder in encoders(monkeypatch, model, checkpoint))
    off = np.abs(plain - exact).max()
    assert 0 < off < 0.1
    assert np.abs(found - exact).max() < 2 * off
    assert np.sqrt(np.mean((found - exact) ** 2)) < 1.25 * np.sqrt(np.mean((plain - exact) ** 2))


def test_plain_weights_are_let_go() -> None:
    model = tiny_model()
    narrow(model)
    encoders = (model.image_encoder.blocks, model.text_encoder.layers)
    plain = [weakref.ref(weight) for part in encoders for weight in part.parameters() if weight.ndim > 1]
    fused.fuse(model)
    gc.collect()
    assert plain and not any(weight() is not None for weight in plain)


def test_what_would_train_or_save_fused_layers_is_told(monkeypatch: pytest.MonkeyPatch, checkpoint: Checkpoint) -> None:
    *_, found = encoders(monkeypatch, checkpoint.model, checkpoint)
    with pytest.raises(RuntimeError, match="cannot be trained"):
        found.model.train()
    with pytest.raises(RuntimeError, match="cannot be saved"):
        found.model.state_dict()
    found.model.eval()


def wrong_product(*arguments: object) -> torch.Tensor:
    return torch.zeros(32, 32, dtype=torch.bfloat16)


def other_arguments(x: torch.Tensor) -> torch.Tensor:
    return x


@pytest.mark.parametrize("operator", [wrong_product, other_arguments, None])
def test_a_torch_whose_operators_do_something_else_keeps_the_plain_layers(
    monkeypatch: pytest.MonkeyPatch, operator: object
) -> None:
    monkeypatch.setattr(fused.torch.ops, "mkldnn", Operators(operator))
    assert fused.can_fuse.__wrapped__() is False


class Operators:
    def __init__(self, product: object) -> None:
        self._reorder_linear_weight = torch.ops.mkldnn._reorder_linear_weight
        if product is not None:
            self._linear_pointwise = product
            product.binary = product  # type: ignore[attr-defined]


def test_maps_and_texts_of_the_demo_encoders_are_the_same(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Checkpoint
) -> None:
    _, plain, found = encoders(monkeypatch, checkpoint.model, checkpoint)
    assert (plain.encode_texts(TEXTS) * found.encode_texts(TEXTS)).sum(1) == pytest.approx(1, abs=1e-3)
    film = np.random.default_rng(0).standard_normal((plain.transform.crop,) * 2, np.float32)
    maps = [one.similarity_map(film, "left pleural effusion").values for one in (plain, found)]
    assert maps[0] == pytest.approx(maps[1], abs=0.05)
