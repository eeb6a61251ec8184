"""What an adapting run has learned, alone: about 8 % of the weights, to be laid over the base it was learned from.

A folder with adapters.safetensors, adapters.json, vocab.txt and the run's training.json. The base is recognised by a
hash of the weights that stay as they were, so it may come from a checkpoint of ours or from the published files.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ..alta import ALTA
from ..checkpoint import Provenance, parse_architecture, save_checkpoint, write_whole
from ..errors import CheckpointError
from ..image import ImageTransform
from ..text import ReportTokenizer
from .base import BaseConfig, check_base_files
from .lora import low_rank_parameters, plain_name
from .output import RECORD, check_folder, clear_output
from .problem import TrainingConfigError
from .start import inherit_terms, load_base

__all__ = ["apply_adapters", "export_adapters"]

FORMAT = 1


def export_adapters(
    folder: Path,
    model: ALTA,
    tokenizer: ReportTokenizer,
    transform: ImageTransform,
    provenance: Provenance,
    record: bytes,
) -> None:
    """Write what learns in ``model``; each file appears whole or not at all. ``record``: the run's training.json, which
    tells an evaluation whose patients were trained on."""
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    factors = low_rank_parameters(model)
    own = {name: p for name, p in learned.items() if ".lora_" not in name}
    kept = {plain_name(name): p for name, p in model.named_parameters() if name not in learned}
    description = {
        "format": FORMAT,
        "base_weights_sha256": _digest(kept),
        "architecture": asdict(model.config),
        "image_transform": asdict(transform),
        "provenance": asdict(provenance),
    }
    weights = {plain_name(name): value.detach().float().cpu().contiguous() for name, value in (own | factors).items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "vocab.txt", ("\n".join(tokenizer.vocabulary) + "\n").encode())
    write_whole(folder / RECORD, record)
    write_whole(folder / "adapters.safetensors", save(weights))
    write_whole(folder / "adapters.json", (json.dumps(description, indent=2) + "\n").encode())


def apply_adapters(folder: Path, base: BaseConfig, output: Path, overwrite: bool = False) -> None:
    """Write the checkpoint of ``base`` with the adapters of ``folder`` over it; ``overwrite``: encoders of a run in
    ``output`` are replaced. Raises CheckpointError when they were learned over another base, TrainingConfigError when
    ``output`` is not theirs to write."""
    if folder.resolve().is_relative_to(output.resolve()):
        raise TrainingConfigError(f"{output} holds the adapters themselves; name another folder for the encoders.")
    check_folder(output, base, overwrite)
    check_base_files(base)
    description = _describe(folder)
    architecture, transform = parse_architecture(folder / "adapters.json", description)
    tokenizer = ReportTokenizer(folder / "vocab.txt", architecture.text.context_length)
    model = ALTA(architecture)
    load_base(model, tokenizer, base)
    try:
        weights = load_file(folder / "adapters.safetensors")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder}/adapters.safetensors cannot be read: {error}.") from error
    own = dict(model.named_parameters())
    factors = {name for name in weights if name.endswith((".lora_A", ".lora_B"))}
    if unknown := sorted(name for name in weights.keys() - factors if name not in own):
        raise CheckpointError(f"{folder}: adapters for parts this model has not: {', '.join(unknown[:5])}.")
    kept = {name: value for name, value in own.items() if name not in weights}
    if _digest(kept) != description["base_weights_sha256"]:
        raise CheckpointError(f"{folder}: these adapters were learned over another base; name that one.")
    with torch.no_grad():
        for name in sorted(weights.keys() - factors):
            own[name].copy_(weights[name])
        for name in sorted(name.removesuffix(".lora_A") for name in factors if name.endswith(".lora_A")):
            own[name].add_(weights[f"{name}.lora_B"] @ weights[f"{name}.lora_A"])
    provenance = inherit_terms(Provenance(**description["provenance"]), base)
    clear_output(output)
    save_checkpoint(output, model, tokenizer.vocabulary, transform, provenance)
    if (folder / RECORD).exists():
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        record["config"]["base"] = asdict(base)  # where it lies here
        write_whole(output / RECORD, (json.dumps(record, indent=2) + "\n").encode())


def _describe(folder: Path) -> dict[str, Any]:
    path = folder / "adapters.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: no adapters.json; expected a folder `adapters` of a training run.") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}.") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise CheckpointError(f"{path}: expected format {FORMAT}, found {description!r:.80}.")
    return description


def _digest(parameters: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(parameters):
        digest.update(name.encode())
        digest.update(parameters[name].detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
