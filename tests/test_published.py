"""Published weights are loaded by name, completely or not at all, and no file runs code."""

import json
import pickle
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.parity import config_of
from model.alta import ALTA
from model.errors import CheckpointError
from model.published import alta_name, load_alta, load_cxr_bert, load_mrm, published_names
from tests.tiny import tiny_config, tiny_model

VECTORS = Path(__file__).parent / "data" / "parity"


def alta_parameters(model: ALTA) -> dict[str, Tensor]:
    """As in ALTA.pth: published names, the fixed positions and BERT's index buffer among them."""
    names = published_names(model)
    return {names[ours]: value.clone() for ours, value in model.state_dict().items()} | {
        "pos_embed": model.image_encoder.pos_embed,
        "decoder_pos_embed": model.image_decoder.pos_embed,
        "bert_encoder.bert.embeddings.position_ids": torch.arange(40)[None],
        "bert_encoder.cls.predictions.decoder.weight": model.text_encoder.embeddings.word_embeddings.weight.detach(),
        "bert_encoder.cls.predictions.decoder.bias": model.text_encoder.mlm_head.bias.detach(),
    }


def mrm_parameters(model: ALTA) -> dict[str, Tensor]:
    """As in MRM.pth: a ViT, the image decoder, and a report decoder of its own."""
    beginnings = ("cls_token", "pos_embed", "patch_embed", "blocks", "norm", "decoder_", "mask_token")
    alta = alta_parameters(model)
    own = {name: value for name, value in alta.items() if name.startswith(beginnings) and "adapter" not in name}
    return own | {"bert_mlp.weight": torch.zeros(3), "bert_encoder.model.decoder.bias": torch.zeros(5)}


def bert_parameters(model: ALTA) -> dict[str, Tensor]:
    """As in the CXR-BERT folder: BERT with a masked language head and the cls projection."""
    return {
        name.removeprefix("bert_encoder."): value.clone()
        for name, value in alta_parameters(model).items()
        if name.startswith("bert_encoder.") and "adapter" not in name and "local_projection_head" not in name
    } | {"bert.pooler.dense.weight": torch.zeros(24, 24), "bert.pooler.dense.bias": torch.zeros(24)}


def write_bert(folder: Path, kind: str, **changes: int) -> Path:
    text = tiny_config().text
    config = {
        "vocab_size": text.vocabulary, "hidden_size": text.width, "num_hidden_layers": text.depth,
        "num_attention_heads": text.heads, "intermediate_size": text.intermediate,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config | changes))
    parameters = bert_parameters(tiny_model(seed=1))
    if kind == "safetensors":
        save_file(parameters, folder / "model.safetensors")
    else:
        torch.save(parameters, folder / "pytorch_model.bin")
    return folder


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def equal(a: ALTA, b: ALTA, beginning: str = "") -> dict[str, bool]:
    other = b.state_dict()
    return {name: torch.equal(v, other[name]) for name, v in a.state_dict().items() if name.startswith(beginning)}


# Names


def test_names_are_those_of_the_published_model() -> None:
    shapes = json.loads((VECTORS / "small.json").read_text())["parameters"]
    with torch.device("meta"):
        model = ALTA(config_of(shapes))
    names = published_names(model)
    assert {names[ours]: list(v.shape) for ours, v in model.state_dict().items()} == {
        name: shape for name, shape in shapes.items() if not name.endswith("pos_embed")
    }
    assert all(alta_name(published) == ours for ours, published in names.items())


def test_an_unknown_name_stays_as_it_is() -> None:
    assert alta_name("momentum_encoder.weight") == "momentum_encoder.weight"


# ALTA.pth


@pytest.mark.parametrize("under_model", [False, True])
@pytest.mark.parametrize("old_format", [False, True])
def test_alta_weights_come_back_as_they_were(tmp_path: Path, under_model: bool, old_format: bool) -> None:
    trained, model = tiny_model(seed=1), tiny_model(seed=2)
    parameters = alta_parameters(trained)
    content = {"model": parameters, "epoch": 30} if under_model else parameters
    torch.save(content, tmp_path / "ALTA.pth", _use_new_zipfile_serialization=not old_format)
    load_alta(model, tmp_path / "ALTA.pth")
    assert all(equal(model, trained).values())


def test_half_precision_values_become_single(tmp_path: Path) -> None:
    trained, model = tiny_model(seed=1), tiny_model(seed=2)
    parameters = alta_parameters(trained)
    parameters["missing_token"] = torch.full((1, 16, 16), 0.5, dtype=torch.float16)
    load_alta(model, saved(tmp_path / "ALTA.pth", parameters))
    assert model.image_encoder.missing_token.dtype == torch.float32
    assert (model.image_encoder.missing_token == 0.5).all()


def test_a_file_that_does_not_fit_names_every_kind_of_difference_and_changes_nothing(tmp_path: Path) -> None:
    model, before = tiny_model(seed=2), tiny_model(seed=2)
    parameters = alta_parameters(tiny_model(seed=1))
    del parameters["blocks.1.attn_adapter.D_fc1.bias"], parameters["temporal_embedding"]
    parameters["head.weight"] = torch.zeros(2)
    parameters["projection_head.LayerNorm.weight"] = torch.zeros(99)
    with pytest.raises(CheckpointError) as caught:
        load_alta(model, saved(tmp_path / "ALTA.pth", parameters))
    message = caught.value.message
    missing, unexpected, reshaped = message.split(";")[1:]
    assert "missing: image_encoder.blocks.1.attn_adapter.fc1.bias, image_encoder.temporal_embedding" in missing
    assert "unexpected: head.weight" in unexpected
    assert "of another shape: image_encoder.projection_head.norm.weight (99,) for (8,)" in reshaped
    assert "ALTA.pth" in message
    assert all(equal(model, before).values())


def test_a_long_list_of_differences_is_cut(tmp_path: Path) -> None:
    path = saved(tmp_path / "ALTA.pth", {"unrelated.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"and \d+ more; unexpected: unrelated\.weight\."):
        load_alta(tiny_model(), path)


@pytest.mark.parametrize("name", ["pos_embed", "decoder_pos_embed"])
def test_positions_other_than_the_fixed_ones_are_refused(tmp_path: Path, name: str) -> None:
    for wrong in (lambda own: own.flip(-1), lambda own: own[:, 1:]):
        parameters = alta_parameters(tiny_model())
        parameters[name] = wrong(parameters[name]).contiguous()
        ours = {"pos_embed": "image_encoder.pos_embed", "decoder_pos_embed": "image_decoder.pos_embed"}[name]
        with pytest.raises(CheckpointError, match=f"{ours} is not the fixed sine-cosine embedding"):
            load_alta(tiny_model(), saved(tmp_path / "ALTA.pth", parameters))


# MRM.pth


def test_mrm_brings_the_vit_and_the_decoder_and_leaves_the_rest(tmp_path: Path) -> None:
    base, model, before = tiny_model(seed=1), tiny_model(seed=2), tiny_model(seed=2)
    load_mrm(model, saved(tmp_path / "MRM.pth", {"model": mrm_parameters(base)}))
    for name, loaded in equal(model, base).items():
        brought = published_names(model)[name] in mrm_parameters(base)
        assert loaded == brought or "missing_token" in name or "logit_scale" in name, name
    kept = {name for name, same in equal(model, before).items() if same}
    assert {"image_encoder.view_embedding", "image_encoder.blocks.0.attn_adapter.fc2.weight"} <= kept
    assert all(same for name, same in equal(model, before, "text_encoder").items())


def test_an_mrm_file_without_its_decoder_is_refused(tmp_path: Path) -> None:
    parameters = {name: v for name, v in mrm_parameters(tiny_model()).items() if not name.startswith("decoder_pred")}
    with pytest.raises(CheckpointError, match=r"missing: image_decoder\.pred\.bias, image_decoder\.pred\.weight"):
        load_mrm(tiny_model(), saved(tmp_path / "MRM.pth", parameters))


def test_alta_weights_are_no_mrm_weights(tmp_path: Path) -> None:
    path = saved(tmp_path / "ALTA.pth", alta_parameters(tiny_model()))
    with pytest.raises(CheckpointError, match=r"unexpected: .*adapter"):
        load_mrm(tiny_model(), path)


# CXR-BERT


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_cxr_bert_fills_the_text_tower(tmp_path: Path, kind: str) -> None:
    base, model, before = tiny_model(seed=1), tiny_model(seed=2), tiny_model(seed=2)
    load_cxr_bert(model, write_bert(tmp_path, kind))
    for name, loaded in equal(model, base, "text_encoder").items():
        assert loaded != ("adapter" in name or "local_projection_head" in name), name
    assert all(equal(model, before, "image_").values())
    text = model.text_encoder
    for ours, theirs in zip(
        text.local_projection_head.parameters(), text.cls_projection_head.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs) and ours is not theirs


def test_another_bert_is_refused_with_what_differs(tmp_path: Path) -> None:
    write_bert(tmp_path, "safetensors", num_attention_heads=4, vocab_size=30522)
    with pytest.raises(
        CheckpointError, match=r"vocab_size is 30522, expected .*; num_attention_heads is 4, expected 2"
    ):
        load_cxr_bert(tiny_model(), tmp_path)


def test_an_incomplete_bert_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected model\.safetensors or pytorch_model\.bin, found neither"):
        load_cxr_bert(tiny_model(), tmp_path)
    write_bert(tmp_path, "safetensors")
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        load_cxr_bert(tiny_model(), tmp_path)
    (tmp_path / "config.json").write_text("[1, 2]")
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        load_cxr_bert(tiny_model(), tmp_path)


# Files that are none


class Payload:
    """Unpickled carelessly, it writes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, writer: str) -> None:
    trace, path = tmp_path / "trace", tmp_path / "ALTA.pth"
    content = {"model": alta_parameters(tiny_model()), "extra": Payload(trace)}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="no readable checkpoint of plain tensors"):
        load_alta(tiny_model(), path)
    assert not trace.exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.pth: no such file"):
        load_alta(tiny_model(), tmp_path / "absent.pth")


@pytest.mark.parametrize("content", [[1, 2], {}, {"model": {}}, {"a": 3}, {"model": {"a": "text"}}, torch.zeros(2)])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(CheckpointError, match="expected a dictionary of tensors"):
        load_alta(tiny_model(), saved(tmp_path / "ALTA.pth", content))


@pytest.mark.parametrize("old_format", [False, True])
def test_a_damaged_file_is_refused_or_read(tmp_path: Path, old_format: bool) -> None:
    path, chance = tmp_path / "ALTA.pth", random.Random(0)
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=not old_format)
    whole, model = path.read_bytes(), tiny_model()
    for attempt in range(80):
        data = bytearray(whole[: chance.randrange(len(whole))] if attempt % 2 else whole)
        for _ in range(3 * (1 - attempt % 2)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        with pytest.raises(CheckpointError):  # even whole, it is no ALTA
            load_alta(model, path)
