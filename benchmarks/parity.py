"""Does this implementation give the numbers of the published ALTA model?

    python benchmarks/parity.py --vectors PREFIX

reads PREFIX.json, PREFIX.npz and the inputs.py beside them, loads the parameters through the code that loads the
published ALTA.pth, and prints the largest error of every quantity. Exits 1 where it disagrees.
"""

import argparse
import importlib.util
import json
import re
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from model.alta import ALTA, ALTAConfig, ImageConfig, TextConfig
from model.losses import Losses, TrainingBatch, alta_losses
from model.published import load_alta, published_names
from model.training.objectives import trainable_names

# Largest error that counts as agreement; losses and gradient norms are relative.
TOLERANCE = {
    "image_embedding": 1e-5,
    "text_embedding": 1e-5,
    "study_embedding": 1e-5,
    "cls_embed": 1e-4,
    "patch_embed_first": 1e-4,
    "patch_embed_sum": 1e-3,
    "pred_first": 1e-4,
    "mask": 0.0,
    "losses": 1e-4,
    "grad_norm": 1e-3,
    "trainable": 0.0,
}
# A smaller norm is a sum that nearly cancels, and float32 keeps few of its digits: its error is relative to this.
SMALL_NORM = 1e-3


def compare(prefix: Path) -> dict[str, float]:
    """Largest error of every quantity of the vectors at ``prefix``."""
    inputs = import_inputs(prefix.parent / "inputs.py")
    expected = json.loads(prefix.with_suffix(".json").read_text())
    arrays = np.load(prefix.with_suffix(".npz"))
    model = ALTA(config_of(expected["parameters"])).eval()
    _load_through_a_file(model, expected["parameters"], inputs)

    batch = _batch(
        inputs.batch(expected["seed"], expected["batch"], expected["vocab_size"]),
        expected["batch"],
    )
    losses = alta_losses(model, batch)
    losses.total().backward()
    errors = {name: _largest(value, arrays[name]) for name, value in _quantities(model, batch, losses).items()}
    errors["losses"] = max(
        abs(float(value.detach()) - expected["losses"][name]) / abs(expected["losses"][name])
        for name, value in losses.by_name().items()
    )
    names = published_names(model)
    norms = {names[name]: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
    errors["grad_norm"] = max(
        abs(norms[name] - norm) / max(norm, SMALL_NORM) for name, norm in expected["grad_norm"].items()
    )
    ours = {names[name] for name in trainable_names(model)}
    errors["trainable"] = float(len(ours ^ set(expected["trainable"])))
    return errors


def config_of(parameters: dict[str, list[int]]) -> ALTAConfig:
    """The architecture from parameter shapes; what shapes do not tell is as in the published or the small model."""
    width = parameters["cls_token"][-1]
    text_width = parameters["bert_encoder.cls.predictions.transform.dense.weight"][0]
    decoder_width = parameters["decoder_embed.weight"][0]
    patch = parameters["patch_embed.proj.weight"][-1]

    def depth(pattern: str) -> int:
        return 1 + max(int(found[1]) for name in parameters if (found := re.match(pattern, name)))

    side = round((parameters["pos_embed"][1] - 1) ** 0.5)
    full = width == 768
    return ALTAConfig(
        image=ImageConfig(
            size=side * patch,
            patch=patch,
            width=width,
            depth=depth(r"blocks\.(\d+)"),
            heads=12 if full else 4,
            decoder_width=decoder_width,
            decoder_depth=depth(r"decoder_blocks\.(\d+)"),
            decoder_heads=6 if full else 4,
        ),
        text=TextConfig(
            vocabulary=parameters["bert_encoder.cls.predictions.bias"][0],
            width=text_width,
            depth=depth(r"bert_encoder\.bert\.encoder\.layer\.(\d+)"),
            heads=12 if full else 4,
            intermediate=parameters["bert_encoder.bert.encoder.layer.0.intermediate.dense.weight"][0],
            positions=parameters["bert_encoder.bert.embeddings.position_embeddings.weight"][0],
        ),
        embedding=parameters["projection_head.dense_to_output.weight"][0],
    )


def _load_through_a_file(model: ALTA, shapes: dict[str, list[int]], inputs: ModuleType) -> None:
    fixed = {"pos_embed", "decoder_pos_embed"}
    parameters = {
        name: torch.zeros(shape) if name == "missing_token" else torch.tensor(inputs.fill(name, shape))
        for name, shape in shapes.items()
        if name not in fixed
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ALTA.pth"
        torch.save({"model": parameters}, path)
        load_alta(model, path)


def _batch(arrays: dict[str, np.ndarray], size: int) -> TrainingBatch:
    values = {name: torch.tensor(array) for name, array in arrays.items()}
    return TrainingBatch(
        target=values["current_frontal"],
        others=torch.stack(
            [values[name] for name in ("current_lateral", "prior_frontal", "prior_lateral")],
            1,
        ),
        present=values["present"],
        input_ids=values["input_ids"],
        attention_mask=values["attention_mask"],
        masked_input_ids=values["masked_input_ids"],
        labels=values["labels"],
        noise=values["mask_noise"].unflatten(0, (size, 4)),
    )


def _quantities(model: ALTA, batch: TrainingBatch, losses: Losses) -> dict[str, torch.Tensor]:
    tokens = losses.image_tokens
    with torch.no_grad():
        frontal = model.image_encoder(model.halve(batch.target)[:, None], torch.ones(len(batch.target), 1).bool())
        image_embedding = model.image_encoder.embed_study(frontal)
    return {
        "image_embedding": image_embedding,
        "text_embedding": losses.text_embedding,
        "study_embedding": losses.study_embedding,
        "cls_embed": tokens.cls,
        "patch_embed_first": tokens.patches[:, 0, :3],
        "patch_embed_sum": tokens.patches.sum(-1).flatten(1),
        "pred_first": losses.painted[:, :2, :16],
        "mask": tokens.mask[:, 0],
    }


def _largest(value: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(value.detach().numpy().astype(np.float64) - expected).max())


def import_inputs(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("parity_inputs", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, required=True, metavar="PREFIX")
    errors = compare(parser.parse_args().vectors)
    table = Table("quantity", "largest error", "tolerance", "agrees")
    for name, error in errors.items():
        table.add_row(
            name,
            f"{error:.1e}",
            f"{TOLERANCE[name]:.0e}",
            "yes" if error <= TOLERANCE[name] else "NO",
        )
    Console().print(table)
    wrong = [name for name, error in errors.items() if not error <= TOLERANCE[name]]  # NaN disagrees
    worst = max(errors, key=lambda name: errors[name] / (TOLERANCE[name] or 1))
    print(
        json.dumps(
            {
                "agree": not wrong,
                "worst": errors[worst],
                "worst_quantity": worst,
                "errors": errors,
            }
        )
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
