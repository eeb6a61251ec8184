"""What the encoders of `python -m benchmarks.claims` know before anything is contrasted, and after.

    python -m benchmarks.probe --output runs/claims [--seeds 3]

Ridge regression from a tower's own state to each finding, fitted on 4,000 training studies, judged by AUROC on the
cohort that judges the claims. States: mean patch and cls token of the frontal, mean token and [CLS] of the report,
before any projection head. A state that tells the findings needs only a head; one that does not must be changed by
adapters, or by training everything. Last line: JSON, mean over findings and seeds.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from benchmarks.claims import CACHE, CONFIG, UNSEEN, finished
from model.alta import ALTA
from model.checkpoint import Checkpoint, load_checkpoint
from model.evaluation.metrics import auroc
from model.evaluation.simulated import PROMPTS_OF
from model.training import read_config
from model.training.batches import BatchMaker
from model.training.simulated import render_cohort
from model.training.studies import TrainingStudies

FITTED = 4000  # studies of the training cohort
CHUNK = 100
RIDGE = 0.01  # of the mean variance of the features

States = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/claims"))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rows: dict[str, dict[str, list[float]]] = {}
    for seed in range(options.seeds):
        base = load_checkpoint(options.output / f"mrm_seed{seed}")
        torch.manual_seed(seed)
        untrained = ALTA(base.model.config).eval()
        matched = load_checkpoint(options.output / f"base_seed{seed}")
        known = {"untrained": untrained, "mrm": base.model, "mrm, sections matched": matched.model}
        for name in ("alta", "clip"):
            if folder := finished(options.output, name, seed):
                known[name] = load_checkpoint(folder).model
        for name, model in known.items():
            for state, area in probe(model, base).items():
                rows.setdefault(name, {}).setdefault(state, []).append(area)
    states = list(next(iter(rows.values())))
    print("| encoders | " + " | ".join(states) + " |\n" + "|---" * (len(states) + 1) + "|")
    for name, areas in rows.items():
        print(f"| {name} | " + " | ".join(_cell(areas[state]) for state in states) + " |")
    print(
        json.dumps({name: {s: round(float(np.mean(a)), 4) for s, a in areas.items()} for name, areas in rows.items()})
    )


def probe(model: ALTA, base: Checkpoint) -> dict[str, float]:
    """Mean AUROC over findings by state."""
    config = read_config(CONFIG)
    scale = config.model.image.target_scale
    cohort = render_cohort(CACHE, config.data.seed, config.data.studies, base.transform, scale, workers=2)
    fitted = cohort.take(range(FITTED))
    judged = render_cohort(CACHE, *UNSEEN, base.transform, scale, workers=2)
    left, right = states_of(model, base, fitted), states_of(model, base, judged)
    truth, held_out = findings_of(fitted), findings_of(judged)
    areas = {}
    for state, features in left.items():
        scores = _ridge(features, truth, right[state])
        areas[state] = float(np.mean([auroc(scores[:, n], held_out[:, n]) for n in range(truth.shape[1])]))
    return areas


@torch.inference_mode()
def states_of(model: ALTA, base: Checkpoint, studies: TrainingStudies) -> States:
    """Each (N, width)."""
    model.eval()
    maker = BatchMaker(studies, base.tokenizer, model.config, base.transform, one_section=0.0)
    parts: dict[str, list[torch.Tensor]] = {}
    for rows in np.split(np.arange(len(studies)), range(CHUNK, len(studies), CHUNK)):
        batch = maker(rows, seed=0, augmentation=None)
        image = model.image_encoder(batch.images(model)[:, :1], batch.present[:, :1])
        text = model.text_encoder(batch.input_ids, batch.attention_mask)
        filled = batch.attention_mask.sum(1, keepdim=True)
        for state, values in {
            "image, mean patch": image.pooled_patches(),
            "image, cls": image.cls[:, 0],
            "report, mean token": text.hidden.sum(1) / filled,  # padding is zero
            "report, [CLS]": text.hidden[:, 0],
        }.items():
            parts.setdefault(state, []).append(values)
    return {state: torch.cat(values).double().numpy() for state, values in parts.items()}


def findings_of(studies: TrainingStudies) -> np.ndarray:
    """bool (N, findings), no finding last."""
    names = [PROMPTS_OF[name] for name in PROMPTS_OF if name != "no finding"]
    known = [labels or frozenset() for labels in studies.labels]
    return np.array([[name in labels for name in names] + [not labels] for labels in known])


def _ridge(features: np.ndarray, truth: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Scores of ``others`` (N, findings)."""
    mean, spread = features.mean(0), features.std(0) + 1e-9
    x, y = (features - mean) / spread, truth - truth.mean(0)
    weights = np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ y)
    return ((others - mean) / spread) @ weights


def _cell(areas: list[float]) -> str:
    return f"{np.mean(areas):.3f} ({min(areas):.3f} to {max(areas):.3f})"


if __name__ == "__main__":
    main()
