"""Our checkpoint: what is written comes back, and its fingerprint names everything that decides an embedding."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint import load_checkpoint, read_fingerprint, save_checkpoint
from model.errors import CheckpointError
from tests.tiny import PROVENANCE, TRANSFORM, VOCABULARY, tiny_config, tiny_model, write_tiny_checkpoint

FILES = {"config.json", "model.safetensors", "vocab.txt"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_checkpoint(tmp_path / "encoders")


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


# What is written comes back


@pytest.mark.parametrize("rule", ["encoded", "ignored"])
def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path, rule: str) -> None:
    checkpoint = load_checkpoint(write_tiny_checkpoint(tmp_path / "new" / "encoders", rule))
    assert checkpoint.model.config == tiny_config(rule)
    assert (checkpoint.transform, checkpoint.provenance) == (TRANSFORM, PROVENANCE)
    assert checkpoint.tokenizer.vocabulary == list(VOCABULARY)
    assert checkpoint.tokenizer.context_length == 24
    assert not checkpoint.model.training
    expected = tiny_model(rule).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in checkpoint.model.state_dict().items())


def test_a_checkpoint_is_three_whole_files(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES


def test_weights_may_be_stored_in_half_precision(tmp_path: Path, folder: Path) -> None:
    save_checkpoint(tmp_path / "half", tiny_model(), list(VOCABULARY), TRANSFORM, PROVENANCE, torch.float16)
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    assert (tmp_path / "half" / "model.safetensors").stat().st_size < 0.6 * (
        folder / "model.safetensors"
    ).stat().st_size
    loaded, expected = load_checkpoint(tmp_path / "half").model.state_dict(), tiny_model().state_dict()
    assert all(value.dtype == torch.float32 for value in loaded.values())
    assert all(torch.allclose(value, expected[name], atol=1e-3) for name, value in loaded.items())


def test_saving_again_replaces_the_checkpoint(folder: Path) -> None:
    before = read_fingerprint(folder)
    write_tiny_checkpoint(folder, seed=1)
    assert read_fingerprint(folder) != before
    assert {path.name for path in folder.iterdir()} == FILES


# Fingerprint


def test_the_fingerprint_is_that_of_the_files_wherever_they_lie(tmp_path: Path, folder: Path) -> None:
    fingerprint = load_checkpoint(folder).fingerprint
    assert re.fullmatch(r"[0-9a-f]{64}", fingerprint)
    assert read_fingerprint(folder) == read_fingerprint(write_tiny_checkpoint(tmp_path / "again")) == fingerprint
    folder.rename(tmp_path / "moved")
    assert read_fingerprint(tmp_path / "moved") == fingerprint


def test_the_fingerprint_changes_with_whatever_decides_an_embedding(tmp_path: Path, folder: Path) -> None:
    shuffled = [*VOCABULARY[:-2], VOCABULARY[-1], VOCABULARY[-2]]
    variants = {
        "weights": (tiny_model(seed=1), VOCABULARY, TRANSFORM),
        "rule for absent slots": (tiny_model("ignored"), VOCABULARY, TRANSFORM),
        "vocabulary": (tiny_model(), shuffled, TRANSFORM),
        "resizing": (tiny_model(), VOCABULARY, replace(TRANSFORM, resize=40)),
        "mean": (tiny_model(), VOCABULARY, replace(TRANSFORM, mean=0.4)),
    }
    prints = {"as it is": read_fingerprint(folder)}
    for name, (model, vocabulary, transform) in variants.items():
        save_checkpoint(tmp_path / name, model, list(vocabulary), transform, PROVENANCE)
        prints[name] = load_checkpoint(tmp_path / name).fingerprint
    assert len(set(prints.values())) == len(prints)


def test_the_fingerprint_changes_with_a_single_weight(folder: Path) -> None:
    before, weights = read_fingerprint(folder), load_file(folder / "model.safetensors")
    weights["logit_scale"] += 1e-6
    save_file(weights, folder / "model.safetensors")
    assert read_fingerprint(folder) != before


def test_the_fingerprint_does_not_change_with_provenance(tmp_path: Path, folder: Path) -> None:
    renamed = replace(PROVENANCE, name="other", notice="another notice")
    save_checkpoint(tmp_path / "renamed", tiny_model(), list(VOCABULARY), TRANSFORM, renamed)
    assert read_fingerprint(tmp_path / "renamed") == read_fingerprint(folder)


# What cannot be loaded


def refused(folder: Path, *, fingerprint_too: bool = False) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    if fingerprint_too:
        with pytest.raises(CheckpointError):
            read_fingerprint(folder)
    return caught.value.message


def test_a_folder_without_a_checkpoint_says_what_was_expected(tmp_path: Path) -> None:
    assert "expected a folder written by `alta train`" in refused(tmp_path / "absent", fingerprint_too=True)


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert name in refused(folder, fingerprint_too=True)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "{}", '{"format": 2}', '{"format": 1}', b"\xff\xfe"])
def test_a_config_that_is_none_is_refused(folder: Path, content: str | bytes) -> None:
    (folder / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert "config.json" in refused(folder, fingerprint_too=True)


def test_a_damaged_config_names_the_file(folder: Path, subtests: pytest.Subtests) -> None:
    whole = (folder / "config.json").read_text()
    for section, key, value in (
        ("architecture", "embedding", 0),
        ("architecture", "adapter_reduction", "four"),
        ("architecture", "depth", 12),
        ("architecture", "image", None),
        ("architecture", "image", {"size": -1}),
        ("architecture", "image", {"heads": 5}),
        ("architecture", "image", {"patch": 0}),
        ("architecture", "text", {"width": "wide"}),
        ("image_transform", "colour", True),
        ("provenance", "name", ...),
    ):
        with subtests.test(f"{section}.{key} = {value}"):
            (folder / "config.json").write_text(whole)
            change_config(
                folder,
                lambda c: c[section].pop(key) if value is ... else c[section].update({key: value}),  # noqa: B023
            )
            assert "config.json does not describe an ALTA model" in refused(folder)


def test_images_of_another_size_than_the_model_reads_are_refused(folder: Path) -> None:
    change_config(folder, lambda config: config["image_transform"].update(crop=24))
    assert "images of 24 px for a model of 32 px" in refused(folder)


def test_weights_are_loaded_completely_or_not_at_all(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["extra.weight"] = weights.pop("logit_scale")
    save_file(weights, folder / "model.safetensors")
    assert "missing ['logit_scale']; unexpected ['extra.weight']" in refused(folder)


def test_weights_of_another_shape_are_named(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["image_to_text.bias"] = torch.zeros(3)
    save_file(weights, folder / "model.safetensors")
    assert "another shape than config.json says: ['image_to_text.bias']" in refused(folder)


@pytest.mark.parametrize("length", [0, 7, 500, -1])
def test_weights_cut_short_are_refused(folder: Path, length: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    assert "model.safetensors cannot be read" in refused(folder)


def test_a_vocabulary_of_another_size_is_refused(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY[:-1]) + "\n")
    assert f"has {len(VOCABULARY) - 1} tokens, the model expects {len(VOCABULARY)}" in refused(folder)
