"""The paper's claims on simulated studies: masked record modelling, then ALTA beside its rivals and its ablations.

    python -m benchmarks.claims --output runs/claims [--seeds 3] [--processes 2] [--table-only]

Each seed trains its own base, in two stages as the paper's two are: masked record modelling for both towers, then
section matching for the text tower. Every adaptation of a seed starts from it and takes the same number of steps on the
same studies. Runs that are done are not done again. The table compares means over seeds on patients no run has seen;
its intervals resample patients, for differences in pairs. Last line: the figures as JSON.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.section_matching import match_sections
from model.alta import ALTAConfig
from model.checkpoint import load_checkpoint
from model.evaluation.metrics import Interval, auroc, bootstrap, bootstrap_mean, hit_ranks, precision_at_k
from model.evaluation.simulated import PROMPTS_OF
from model.losses import LossWeights
from model.prompts import PROMPT_SETS
from model.simulation import simulate_studies
from model.training import TrainConfig, read_config, train
from model.training.batches import BatchMaker
from model.training.config import BaseConfig
from model.training.flops import training_flops
from model.training.objectives import OBJECTIVES, ObjectiveName
from model.training.simulated import render_cohort
from model.training.studies import TrainingStudies
from model.training.workload import workload_of

CONFIG = Path("configs/claims.toml")
CACHE = Path("runs/cache")
STEPS = 300  # of every adaptation
MATCHING_STEPS = 800  # of the text tower's second stage
LOCAL_WEIGHT = 0.05  # from so small a base the local loss's gradient still drowns the others
UNSEEN = (3000, 1000)  # seed and studies of the cohort that judges
LEARNING_RATES = (4e-3, 1.2e-2)  # tried for each objective on the first seed's validation patients
ALTA_LOSSES = LossWeights(local_contrastive=LOCAL_WEIGHT)

console = Console(width=150)


def adaptation(base: TrainConfig, objective: ObjectiveName, **changes: Any) -> TrainConfig:
    """``base`` turned into an adaptation; ``changes`` by part of the configuration."""
    rule = OBJECTIVES[objective]
    image = base.model.image
    if rule.mask_ratio is not None:
        image = replace(image, mask_ratio=rule.mask_ratio)
    model = ALTAConfig(image=image, text=base.model.text, adapters=rule.adapters, **changes.get("model", {}))
    losses = replace(rule.losses, local_contrastive=rule.losses.local_contrastive * LOCAL_WEIGHT)
    return replace(
        base,
        objective=objective,
        losses=replace(losses, **changes.get("losses", {})),
        model=model,
        data=replace(base.data, **changes.get("data", {})),
        optim=replace(base.optim, steps=STEPS, warmup_steps=STEPS // 10),
        validation=replace(base.validation, every=STEPS),
    )


# Each is ALTA as published but for what its name says.
VARIANTS: dict[str, tuple[ObjectiveName, dict[str, Any]]] = {
    "alta": ("alta", {}),
    "clip": ("clip", {}),
    "lora": ("lora", {}),
    "frozen": ("frozen", {}),
    "alta, no prior": ("alta", {"model": {"temporal": False}}),
    "alta, no lateral": ("alta", {"model": {"multiview": False}}),
    "alta, no local loss": ("alta", {"losses": {"local_contrastive": 0.0}}),
    "alta, no reconstruction": ("alta", {"losses": {"image_reconstruction": 0.0, "text_reconstruction": 0.0}}),
    "alta, absent slots ignored": ("alta", {"model": {"absent_slots": "ignored"}}),
    "alta, duplicate-aware": ("alta", {"data": {"same_report": "identical_or_normal"}}),
    "alta, sections sampled": ("alta", {"data": {"one_section": 0.5}}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/claims"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2, help="Runs at once, one thread each.")
    parser.add_argument("--table-only", action="store_true", help="Of the runs that are done.")
    options = parser.parse_args()
    seeds = list(range(options.seeds))
    if not options.table_only:
        base = read_config(CONFIG)
        for seed, count in (
            (base.data.seed, base.data.studies),
            (base.data.validation_seed, base.data.validation_studies),
            UNSEEN,
        ):
            render_cohort(CACHE, seed, count, base.transform, base.model.image.target_scale, options.processes)
        _run([("mrm", seed, None) for seed in seeds], options)
        _run([("base", seed, None) for seed in seeds], options)
        _run([(name, 0, rate) for name in ("alta", "clip", "lora", "frozen") for rate in LEARNING_RATES], options)
        rates = {name: best_rate(options.output, name) for name in ("alta", "clip", "lora", "frozen")}
        console.print(f"Learning rates chosen on validation patients: {rates}")
        _run([(name, seed, rates[VARIANTS[name][0]]) for seed in seeds for name in VARIANTS], options)
    print(json.dumps(table(options.output, seeds)))


Job = tuple[str, int, float | None]  # variant, seed, learning rate


def folder_of(output: Path, job: Job) -> Path:
    name, seed, rate = job
    return output / f"{name.replace(', ', '_').replace(' ', '_')}_seed{seed}{'' if rate is None else f'_rate{rate:g}'}"


def best_rate(output: Path, name: str) -> float:
    def recall(rate: float) -> float:
        record = json.loads((folder_of(output, (name, 0, rate)) / "training.json").read_text())
        return float(record["validation"]["recall_at_10"])

    return max(LEARNING_RATES, key=recall)


def _run(jobs: list[Job], options: argparse.Namespace) -> None:
    jobs = [job for job in jobs if not (folder_of(options.output, job) / "embeddings.npz").exists()]
    with multiprocessing.get_context("spawn").Pool(options.processes, maxtasksperchild=1) as pool:
        for line in pool.imap_unordered(_job, [(job, options.output) for job in jobs], chunksize=1):
            console.print(line)


def _job(task: tuple[Job, Path]) -> str:
    torch.set_num_threads(1)
    job, output = task
    name, seed, _ = job
    folder, started = folder_of(output, job), time.monotonic()
    config = replace(read_config(CONFIG), seed=seed, precision="bfloat16")
    if name == "base":
        told = _match_sections(config, folder_of(output, ("mrm", seed, None)), folder)
    else:
        if name != "mrm":
            config = _adaptation_of(config, job, output)
        state = train(config, folder, CACHE, workers=1, resume=True, device="cpu")
        told = f"{state.seconds / state.done:.3f} s a step, {state.best}"
    _embed(folder)
    minutes = (time.monotonic() - started) / 60
    return f"{folder.name}: {minutes:.1f} min, {told}"


def _adaptation_of(config: TrainConfig, job: Job, output: Path) -> TrainConfig:
    name, seed, rate = job
    assert rate is not None
    objective, changes = VARIANTS[name]
    base = BaseConfig(checkpoint=str(folder_of(output, ("base", seed, None))))
    # Replaced at once: an adaptation without a base is refused.
    config = adaptation(replace(config, base=base), objective, **changes)
    return replace(config, optim=replace(config.optim, base_learning_rate=rate))


def _match_sections(config: TrainConfig, base: Path, folder: Path) -> str:
    data, scale = config.data, config.model.image.target_scale
    studies = render_cohort(CACHE, data.seed, data.studies, config.transform, scale, workers=1)
    optim = replace(config.optim, steps=MATCHING_STEPS, warmup_steps=MATCHING_STEPS // 16)
    return str(match_sections(base, folder, studies, config.seed, optim))


@torch.inference_mode()
def _embed(folder: Path) -> None:
    """Study and report embeddings of the judging cohort, and the prompts' directions."""
    checkpoint = load_checkpoint(folder)
    model, config = checkpoint.model, checkpoint.model.config
    studies = judges(config, checkpoint.transform)
    maker = BatchMaker(studies, checkpoint.tokenizer, config, checkpoint.transform, one_section=0.0)
    images, texts = [], []
    for rows in np.array_split(np.arange(len(studies)), len(studies) // 50):
        batch = maker(rows, seed=0, augmentation=None)
        images.append(model.image_encoder.embed_study(model.image_encoder(batch.images(model), batch.present)).numpy())
        texts.append(model.text_encoder.embed_text(model.text_encoder(batch.input_ids, batch.attention_mask)).numpy())
    directions = {}
    for finding, key in PROMPTS_OF.items():
        sides = []
        for prompts in (PROMPT_SETS[key].positive, PROMPT_SETS[key].negative):
            tokens = checkpoint.tokenizer(prompts)
            ids, mask = torch.from_numpy(tokens.input_ids), torch.from_numpy(tokens.attention_mask)
            mean = model.text_encoder.project(model.text_encoder(ids, mask)).mean(0)
            sides.append(torch.nn.functional.normalize(mean, dim=0).numpy())
        directions[f"prompt {finding}"] = sides[0] - sides[1]
    partial = folder / "embeddings.partial.npz"
    np.savez(partial, images=np.concatenate(images), texts=np.concatenate(texts), **directions)
    partial.replace(folder / "embeddings.npz")


def judges(config: ALTAConfig, transform: Any) -> TrainingStudies:
    return render_cohort(CACHE, *UNSEEN, transform, config.image.target_scale, workers=1)


class Judged:
    """Figures of one variant: per query and seed, so that variants are compared in pairs."""

    def __init__(self, runs: list[dict[str, np.ndarray]]) -> None:
        cohort = [study for study, _ in simulate_studies(*UNSEEN)]
        self.patients = np.array([study.patient_id for study in cohort])
        single = {name: [r for r, s in enumerate(cohort) if s.finding_classes == {name}] for name in PROMPTS_OF}
        fewest = min(len(rows) for name, rows in single.items() if name != "no finding")
        chosen = np.sort(np.concatenate([rows[:fewest] for name, rows in single.items() if name != "no finding"]))
        classes = np.array([next(iter(cohort[row].finding_classes)) for row in chosen])
        alike = classes[:, None] == classes
        changed = np.array([any(f.change in ("increased", "decreased") for f in s.findings) for s in cohort])
        hidden = np.array([any(f.lateral_only for f in s.findings) for s in cohort])
        own = np.eye(len(cohort), dtype=bool)
        self.values: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # rows, value of each, mean over seeds
        for name, left, right in (("text to image", "texts", "images"), ("image to text", "images", "texts")):
            precise = [precision_at_k(r[left][chosen] @ r[right][chosen].T, alike, 5) for r in runs]
            self.values[f"{name} P@5"] = chosen, np.mean(precise, 0)
            ranks = np.mean([hit_ranks(r[left] @ r[right].T, own) <= 10 for r in runs], 0)
            self.values[f"{name} R@10"] = np.arange(len(cohort)), ranks
        self.values["R@10 of changed findings"] = np.flatnonzero(changed), ranks[changed]
        self.values["R@10 of lateral-only findings"] = np.flatnonzero(hidden), ranks[hidden]
        self.scores = [{name: r["images"] @ r[f"prompt {name}"] for name in PROMPTS_OF} for r in runs]
        self.truth = {name: np.array([name in s.finding_classes for s in cohort]) for name in PROMPTS_OF}
        self.truth["no finding"] = np.array([not s.finding_classes for s in cohort])

    def zero_shot(self, rows: np.ndarray) -> float:
        each = [auroc(s[name][rows], self.truth[name][rows]) for s in self.scores for name in PROMPTS_OF]
        return float(np.mean(each))

    def figures(self, other: "Judged | None" = None) -> Iterator[tuple[str, Interval]]:
        """Figures, or their differences to ``other``'s."""
        for name, (rows, values) in self.values.items():
            minus = other.values[name][1] if other else 0.0
            yield name, bootstrap_mean(self.patients[rows], values - minus)
        figure: Callable[[np.ndarray], float] = self.zero_shot
        if other is not None:
            figure = lambda rows: self.zero_shot(rows) - other.zero_shot(rows)  # noqa: E731
        yield "zero-shot AUROC", bootstrap(self.patients, figure, rounds=200)


def table(output: Path, seeds: list[int]) -> dict[str, Any]:
    """Print the comparison and return its figures."""
    judged, facts = {}, {}
    for name in VARIANTS:
        folders = [finished(output, name, seed) for seed in seeds]
        if all(folders):
            judged[name] = Judged([dict(np.load(folder / "embeddings.npz")) for folder in folders if folder])
            facts[name] = [json.loads((folder / "training.json").read_text()) for folder in folders if folder]
    results: dict[str, Any] = {}
    if "alta" not in judged:
        raise SystemExit("No complete runs of ALTA yet.")
    names = [name for name, _ in judged["alta"].figures()]
    print("| variant | " + " | ".join(names) + " | trainable | MFLOP a study |")
    print("|---" * (len(names) + 3) + "|")
    for name, one in judged.items():
        figures = dict(one.figures())
        against = dict(one.figures(judged["alta"])) if name != "alta" else {}
        share = facts[name][0]["trainable"] / facts[name][0]["parameters"]
        cells = [f"{i.value:.3f}" + _difference(against.get(n)) for n, i in figures.items()]
        operations = _operations(facts[name][0], output, name)
        print(f"| {name} | " + " | ".join(cells) + f" | {100 * share:.1f} % | {operations / 1e6:.0f} |")
        results[name] = {
            "figures": {n: i.as_list() for n, i in figures.items()},
            "minus_alta": {n: i.as_list() for n, i in against.items()},
            "trainable_share": round(share, 4),
            "flops_a_study": round(operations),
        }
    return results


def _operations(record: dict[str, Any], output: Path, name: str) -> float:
    """Floating point operations of a training step on one study of the judging cohort."""
    checkpoint = load_checkpoint(folder_of(output, ("base", 0, None)))
    base = replace(read_config(CONFIG), base=BaseConfig(checkpoint=str(folder_of(output, ("base", 0, None)))))
    config = adaptation(base, VARIANTS[name][0], **VARIANTS[name][1])
    text = replace(config.model.text, vocabulary=record["config"]["model"]["text"]["vocabulary"])
    config = replace(config, model=replace(config.model, text=text))
    studies = judges(config.model, checkpoint.transform)
    maker = BatchMaker(studies, checkpoint.tokenizer, config.model, checkpoint.transform, config.data.one_section)
    batch = maker(np.arange(200), seed=0, augmentation=None)
    return training_flops(config, workload_of(batch, config.model)).whole.total


def finished(output: Path, name: str, seed: int) -> Path | None:
    found = sorted(output.glob(folder_of(output, (name, seed, None)).name + "_rate*/embeddings.npz"))
    if len(found) > 1:  # both learning rates of the first seed
        rate = best_rate(output, VARIANTS[name][0])
        found = [path for path in found if path.parent == folder_of(output, (name, seed, rate))]
    return found[0].parent if found else None


def _difference(interval: Interval | None) -> str:
    """In bold where its interval leaves zero out."""
    if interval is None:
        return ""
    text = f"{interval.value:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
    return f"<br>**{text}**" if interval.low > 0 or interval.high < 0 else f"<br>{text}"


if __name__ == "__main__":
    main()
