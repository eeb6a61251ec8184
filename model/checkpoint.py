"""Our checkpoint: a folder with model.safetensors, config.json and vocab.txt.

config.json holds the architecture, the image constants and where the weights come from, so that embedding an
archive and serving it can never disagree about preprocessing.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from .alta import ALTA, ALTAConfig, ImageConfig, TextConfig
from .errors import CheckpointError
from .image import PIPELINE_VERSION, ImageTransform
from .text import ReportTokenizer

__all__ = [
    "Checkpoint",
    "Provenance",
    "load_checkpoint",
    "opened_whole",
    "parse_architecture",
    "read_architecture",
    "read_fingerprint",
    "read_provenance",
    "read_run",
    "save_checkpoint",
    "write_whole",
]

FORMAT = 1


@dataclass(frozen=True)
class Provenance:
    """Where weights come from and what may be done with them; shown wherever the model answers."""

    name: str
    trained_on: str
    license: str
    notice: str


@dataclass(frozen=True)
class Checkpoint:
    """fingerprint: SHA-256 over weights, architecture, image constants, pipeline version and vocabulary, 64 hexadecimal
    digits. The inference dtype is not in it: bfloat16 moves a cosine by less than 0.001."""

    model: ALTA
    tokenizer: ReportTokenizer
    transform: ImageTransform
    provenance: Provenance
    fingerprint: str


def save_checkpoint(
    folder: Path,
    model: ALTA,
    vocabulary: list[str],
    transform: ImageTransform,
    provenance: Provenance,
    dtype: torch.dtype = torch.float32,
    parameters: Mapping[str, torch.Tensor] | None = None,
    run: str | None = None,
) -> None:
    """Write a checkpoint; each file appears whole or not at all.

    dtype: of the stored weights; parameters: stand in for the model's own; run: the mark of the training run that
    writes them, by which it knows them again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "format": FORMAT,
        "architecture": dataclasses.asdict(model.config),
        "image_transform": dataclasses.asdict(transform),
        "provenance": dataclasses.asdict(provenance),
    }
    if run is not None:
        config["run"] = run
    given = parameters or _parameters(model)
    weights = {name: value.detach().to("cpu", dtype).contiguous() for name, value in given.items()}
    write_whole(folder / "vocab.txt", ("\n".join(vocabulary) + "\n").encode())
    write_whole(folder / "model.safetensors", save(weights))
    write_whole(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint, strictly. Raises CheckpointError that says what to mend."""
    config = _read_config(folder)
    architecture, transform = parse_architecture(folder / "config.json", config)
    try:
        model = ALTA(architecture)
        provenance = Provenance(**config["provenance"])
    except Exception as error:  # numbers that make no network break it in many ways
        raise _not_alta(folder / "config.json", error) from error
    if transform.crop != architecture.image.size:
        found = f"images of {transform.crop} px for a model of {architecture.image.size} px"
        raise CheckpointError(f"{folder}/config.json: {found}.")
    _load_weights(model, folder / "model.safetensors")
    tokenizer = ReportTokenizer(folder / "vocab.txt", architecture.text.context_length)
    if len(tokenizer.vocabulary) != architecture.text.vocabulary:
        known, expected = len(tokenizer.vocabulary), architecture.text.vocabulary
        raise CheckpointError(f"{folder}/vocab.txt has {known} tokens, the model expects {expected}.")
    return Checkpoint(model.eval(), tokenizer, transform, provenance, _fingerprint(folder, config))


def read_fingerprint(folder: Path) -> str:
    """The fingerprint of a checkpoint without loading it. Raises CheckpointError."""
    return _fingerprint(folder, _read_config(folder))


def read_architecture(folder: Path) -> tuple[ALTAConfig, ImageTransform]:
    """Architecture and image constants of a checkpoint without loading it. Raises CheckpointError."""
    return parse_architecture(folder / "config.json", _read_config(folder))


def read_provenance(folder: Path) -> Provenance:
    """Where a checkpoint comes from, without loading it. Raises CheckpointError."""
    try:
        return Provenance(**_read_config(folder)["provenance"])
    except TypeError as error:
        raise _not_alta(folder / "config.json", error) from error


def read_run(folder: Path) -> str | None:
    """The mark of the training run that wrote the checkpoint; None where there is none."""
    try:
        return _read_config(folder).get("run")
    except CheckpointError:
        return None


def parse_architecture(path: Path, config: Mapping[str, Any]) -> tuple[ALTAConfig, ImageTransform]:
    """From the content of a description at ``path``. Raises CheckpointError."""
    try:
        architecture = dict(config["architecture"])
        image = ImageConfig(**architecture.pop("image"))
        text = TextConfig(**architecture.pop("text"))
        return ALTAConfig(image=image, text=text, **architecture), ImageTransform(**config["image_transform"])
    except Exception as error:
        raise _not_alta(path, error) from error


def _not_alta(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} does not describe an ALTA model: {error!r}.")


def _parameters(model: ALTA) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters())


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = "no config.json" if folder.is_dir() else "there is no such folder"
        raise CheckpointError(f"{folder}: {found}; expected a folder written by `alta train`.") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}/config.json cannot be read: {error}.") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CheckpointError(f"{folder}/config.json: expected format {FORMAT}, found {config!r:.80}.")
    if missing := sorted({"architecture", "image_transform", "provenance"} - config.keys()):
        raise CheckpointError(f"{folder}/config.json: missing {', '.join(missing)}.")
    return config


def _load_weights(model: ALTA, path: Path) -> None:
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}.") from error
    own = _parameters(model)
    missing, unexpected = (
        sorted(own.keys() - weights.keys()),
        sorted(weights.keys() - own.keys()),
    )
    if missing or unexpected:
        raise CheckpointError(f"{path}: missing {missing[:8] or 'nothing'}; unexpected {unexpected[:8] or 'nothing'}.")
    if wrong := [name for name in own if own[name].shape != weights[name].shape]:
        raise CheckpointError(f"{path}: parameters of another shape than config.json says: {wrong[:8]}.")
    model.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False)


def _fingerprint(folder: Path, config: dict[str, Any]) -> str:
    digest = hashlib.sha256(f"pipeline {PIPELINE_VERSION}".encode())
    for key in ("architecture", "image_transform"):
        digest.update(json.dumps(config[key], sort_keys=True).encode())
    for name in ("vocab.txt", "model.safetensors"):
        try:
            digest.update((folder / name).read_bytes())
        except OSError as error:
            raise CheckpointError(f"{folder / name} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """The file appears whole or not at all."""
    with opened_whole(path) as stream:
        stream.write(content)


@contextmanager
def opened_whole(path: Path) -> Iterator[BinaryIO]:
    """To write to: the file appears whole when all went well, and else stays as it was, and nothing is left behind."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
