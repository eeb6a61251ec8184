"""Published weights by name: ALTA.pth, MRM.pth and the CXR-BERT folder.

Every parameter of a file must be known and every parameter that the file is meant to bring must be there;
an error names what is missing and what is unexpected. Files are read with ``weights_only``: no pickled code runs.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from .alta import ALTA, TextConfig
from .errors import CheckpointError

__all__ = [
    "alta_name",
    "load_alta",
    "load_cxr_bert",
    "load_mrm",
    "load_published_parameters",
    "published_names",
]

# Published names to ours, first match wins. The rest of a name (``blocks.0.attn.qkv.weight``) is the same.
RENAMES = (
    (r"^bert_encoder\.bert\.embeddings\.", "text_encoder.embeddings."),
    (r"^bert_encoder\.bert\.encoder\.layer\.", "text_encoder.layers."),
    (r"^bert_encoder\.cls\.predictions\.", "text_encoder.mlm_head."),
    (r"^bert_encoder\.(cls|local)_projection_head\.", r"text_encoder.\1_projection_head."),
    (r"^bert_embed\.", "image_to_text."),
    (r"^decoder_(embed|pred|norm|blocks)\.", r"image_decoder.\1."),
    (r"^mask_token$", "image_decoder.mask_token"),
    (r"^decoder_pos_embed$", "image_decoder.pos_embed"),
    (r"^(logit_scale)", r"\1"),
    (r"^(?=cls_token|missing_token|pos_embed|temporal_|view_|patch_embed|blocks|norm|projection_|local_projection_)",
     "image_encoder."),
)  # fmt: skip
# What follows from other parameters, or is not part of ALTA (BERT's pooler and index buffers).
DERIVED = re.compile(r"position_ids$|token_type_ids$|cls\.predictions\.decoder\.(weight|bias)$|bert\.pooler\.")
POSITIONS = {"image_encoder.pos_embed", "image_decoder.pos_embed"}
NOT_IN_MRM = re.compile(
    r"adapter|temporal_embedding|view_embedding|missing_token|projection_head|logit_scale|^text_|^image_to_text"
)


def alta_name(published: str) -> str:
    """Our name of a published parameter; an unknown name is returned as it is."""
    name = published
    for pattern, replacement in RENAMES:
        name, found = re.subn(pattern, replacement, published, count=1)
        if found:
            break
    name = name.replace("adapter.D_fc", "adapter.fc")
    return re.sub(r"(projection_head)\.LayerNorm\.", r"\1.norm.", name)


def published_names(model: ALTA) -> dict[str, str]:
    """Our parameter names to the published ones."""
    names = {}
    for ours in model.state_dict():
        name = re.sub(r"(projection_head)\.norm\.", r"\1.LayerNorm.", ours).replace("adapter.fc", "adapter.D_fc")
        name = re.sub(r"^text_encoder\.embeddings\.", "bert_encoder.bert.embeddings.", name)
        name = re.sub(r"^text_encoder\.layers\.", "bert_encoder.bert.encoder.layer.", name)
        name = re.sub(r"^text_encoder\.mlm_head\.", "bert_encoder.cls.predictions.", name)
        name = re.sub(r"^text_encoder\.", "bert_encoder.", name)
        name = re.sub(r"^image_to_text\.", "bert_embed.", name)
        name = re.sub(r"^image_encoder\.", "", name)
        name = re.sub(r"^image_decoder\.mask_token$", "mask_token", name)
        names[ours] = re.sub(r"^image_decoder\.", "decoder_", name)
    return names


def load_alta(model: ALTA, path: Path) -> None:
    """Load ``ALTA.pth``: every parameter, possibly under the key ``model``. Raises CheckpointError."""
    load_published_parameters(model, _read(path), str(path))


def load_published_parameters(model: ALTA, parameters: dict[str, Tensor], source: str) -> None:
    """Load a complete state dict with published names."""
    _load(model, parameters, source, expected=lambda name: True)


def load_mrm(model: ALTA, path: Path) -> None:
    """Load ``MRM.pth``: ViT and image decoder; adapters, slots, heads and the text tower keep their values.

    MRM's own report decoder has no place in ALTA and is passed over.
    """
    parameters = {name: value for name, value in _read(path).items() if not name.startswith("bert_")}
    _load(model, parameters, str(path), expected=lambda name: not NOT_IN_MRM.search(name))


def load_cxr_bert(model: ALTA, folder: Path) -> None:
    """Load a Hugging Face CXR-BERT folder into the text tower; the local head starts as a copy of the cls head."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            break
    else:
        raise CheckpointError(f"{folder}: expected model.safetensors or pytorch_model.bin, found neither.")
    _check_text_config(model.config.text, folder)
    parameters = {f"bert_encoder.{key}": value for key, value in _read(folder / name).items()}
    new = re.compile(r"adapter|local_projection_head")
    wanted = lambda ours: ours.startswith("text_encoder.") and not new.search(ours)  # noqa: E731
    _load(model, parameters, str(folder), expected=wanted)
    text = model.text_encoder
    text.local_projection_head.load_state_dict(text.cls_projection_head.state_dict())


def _check_text_config(text: TextConfig, folder: Path) -> None:
    try:
        found = dict(json.loads((folder / "config.json").read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: config.json cannot be read: {error}.") from error
    pairs = {
        "vocab_size": text.vocabulary,
        "hidden_size": text.width,
        "num_hidden_layers": text.depth,
        "num_attention_heads": text.heads,
        "intermediate_size": text.intermediate,
    }
    wrong = [f"{key} is {found.get(key)}, expected {want}" for key, want in pairs.items() if found.get(key) != want]
    if wrong:
        raise CheckpointError(f"{folder}: another text model: {'; '.join(wrong)}.")


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file.") from None
    except Exception as error:  # torch raises many kinds on broken files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: no readable checkpoint of plain tensors: {reason}") from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{path}: expected a dictionary of tensors.")
    return content


def _load(
    model: ALTA,
    parameters: dict[str, Tensor],
    source: str,
    expected: Callable[[str], bool],
) -> None:
    given = {alta_name(name): value for name, value in parameters.items() if not DERIVED.search(name)}
    own = model.state_dict()
    wanted = {name for name in own if expected(name)}
    _check_positions(model, {name: given.pop(name) for name in POSITIONS & given.keys()}, source)
    problems = []
    if missing := sorted(wanted - given.keys()):
        problems.append(f"missing: {_listed(missing)}")
    if unexpected := sorted(given.keys() - wanted):
        problems.append(f"unexpected: {_listed(unexpected)}")
    shared = sorted(wanted & given.keys())
    if reshaped := [
        f"{n} {tuple(given[n].shape)} for {tuple(own[n].shape)}" for n in shared if given[n].shape != own[n].shape
    ]:
        problems.append(f"of another shape: {_listed(reshaped)}")
    if problems:
        raise CheckpointError(f"{source} does not fit this model; {'; '.join(problems)}.")
    model.load_state_dict({name: given[name].float() for name in shared}, strict=False)


def _check_positions(model: ALTA, given: dict[str, Tensor], source: str) -> None:
    for name, value in given.items():
        own = model.get_buffer(name)
        if value.shape != own.shape or not torch.allclose(value.float(), own, atol=1e-4):
            raise CheckpointError(f"{source}: {name} is not the fixed sine-cosine embedding of the published weights.")


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
