"""The demo encoders adapted to real radiographs: before and after, cross-validated by patient.

    python -m benchmarks.real_adaptation --data DATA [--output runs/real_adaptation] [--table-only]

DATA holds cxr/manifest.csv and reports/*.jsonl. Each of five folds is judged on patients that neither taught nor
chose its checkpoint; ARMS says what is compared. Tables, training and embeddings are the product's own. What is done is
not done again. Prints a Markdown table; last line: JSON.
"""

import argparse
import csv
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console

from model.alta_encoder import load_encoder
from model.checkpoint import read_architecture
from model.evaluation.comparison import compare
from model.evaluation.embedding import embed_images, embed_texts
from model.evaluation.leaks import recorded_table, require_no_leak
from model.evaluation.lists import read_list
from model.evaluation.metrics import Interval, auroc, bootstrap_auroc
from model.evaluation.outcome import Measure, Outcome, mean
from model.evaluation.paired import measure_paired
from model.image import read_radiograph
from model.losses import LossWeights
from model.prompts import PROMPT_SETS
from model.training import TrainConfig, train
from model.training.config import BaseConfig, DataConfig, OptimConfig, ValidationConfig
from model.training.tables import (
    Folds,
    Skipped,
    StudyRow,
    prepare,
    read_csv_studies,
    read_manifest,
    read_open_i,
)
from service.settings import DEMO_ENCODERS

FOLDS = 5
TUNED_ON = 1  # the fold on whose validating patients steps, rates and arms were settled; they test in the next
BATCH, STEPS, READ_STEPS = 32, 40, 200
CONTRAST = LossWeights(local_contrastive=0, image_reconstruction=0, text_reconstruction=0)
ALL_FOUR = LossWeights(local_contrastive=0.05)  # as the demo encoders were trained
# Findings of the manifest that are a pneumonia, by its cause or without one. ARDS alone is not.
CAUSES = (
    "pneumonia", "COVID-19", "Pneumocystis", "Klebsiella", "Streptococcus", "Varicella", "E.Coli", "Legionella",
    "Bacterial", "Lipoid", "Influenza",
)  # fmt: skip
SENTENCE_OF = {"No Finding": "No acute cardiopulmonary abnormality.", "Pneumonia": "There is pneumonia."}

CHILDREN = "kermany"  # the only source with many of either class
BEFORE = "before"
DONE = "embeddings.npz"

console = Console(width=150)


@dataclass(frozen=True)
class Arm:
    """One way of adapting. ``after``: the arm that it starts from, else the demo encoders; ``kind``: of its table."""

    losses: LossWeights = CONTRAST
    trainable: Literal["objective", "all"] = "all"
    mask_ratio: float = 0.0
    rate: float = 1e-3
    kind: str = "pictured"
    after: str = ""
    batch: int = BATCH
    steps: int = STEPS
    new_tokens: int = 0


READING = LossWeights(contrastive=0, local_contrastive=0, image_reconstruction=0)
ARMS = {
    "adapters": Arm(ALL_FOUR, "objective", 0.5, rate=4e-3),
    "all weights": Arm(ALL_FOUR, "all", 0.5),
    "contrastive alone": Arm(),
    "reading": Arm(READING, kind="with_reports", batch=64, steps=READ_STEPS, new_tokens=1000),
    "reading, then contrastive alone": Arm(after="reading"),
    "contrastive alone, labels as sentences": Arm(kind="with_sentences"),
}
SHOWN = tuple(name for name in ARMS if name != "reading")  # a step of another arm


@dataclass(frozen=True)
class Place:
    """Where everything lies."""

    data: Path
    output: Path

    def table(self, fold: int, kind: str) -> Path:
        return self.output / f"fold{fold}" / kind / "studies.csv"

    def run(self, fold: int, name: str) -> Path:
        return self.output / f"fold{fold}" / name.replace(", ", "_").replace(" ", "_")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/real_adaptation"))
    parser.add_argument("--table-only", action="store_true", help="Of the runs that are done.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    place = Place(options.data, options.output)
    if not options.table_only:
        write_tables(place)
        for fold in range(1, FOLDS + 1):
            embed(place, fold, DEMO_ENCODERS, place.run(fold, BEFORE))
            for name in ARMS:
                adapt(place, fold, name)
    print(json.dumps(figures(place)))


def write_tables(place: Place) -> None:
    """Of every fold: the pictured studies; these with the reports; these with sentences for labels."""
    groups = patient_groups(place.data / "cxr" / "manifest.csv")
    known = partial(pictured, place.data / "cxr" / "manifest.csv", groups)
    source = next((place.data / "reports").glob("*.jsonl"))
    reports = place.output / "reports"
    # Report 7 of the collection belongs to the one study of it whose pictures are in the manifest.
    prepare(read_open_i(source), reports, exclude={"7"})
    for fold in range(1, FOLDS + 1):
        folds = Folds(FOLDS, fold)
        pictures = place.table(fold, "pictured")
        made = prepare(known(), pictures.parent, folds=folds, keep_unreported=True)
        console.print(f"Fold {fold}: studies {made.studies}, patients {made.patients_of}, {made.labels}")
        both = chain(read_csv_studies(pictures), read_csv_studies(reports / "studies.csv"))
        prepare(both, place.table(fold, "with_reports").parent, keep_unreported=True)
        prepare(map(_speak, known()), place.table(fold, "with_sentences").parent, folds=folds, keep_unreported=True)


def patient_groups(manifest: Path) -> dict[str, str]:
    """One name for patients who may be one, or whose pictures or words may be the same: other identifiers of a patient,
    copies of a picture, one published case, one text."""
    leader: dict[tuple[str, str], tuple[str, str]] = {}

    def find(key: tuple[str, str]) -> tuple[str, str]:
        while leader.setdefault(key, key) != key:
            key = leader[key]
        return key

    with manifest.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        collection = row["patient_id"].split("_")[0]
        keys = [("picture", row["image_path"]), ("picture", row["near_dup_of"])]
        keys += [("patient", f"{collection}_{other}") for other in row["other_patient_ids"].split(";") if other]
        if collection == "cov":  # elsewhere the address is that of the whole collection
            keys.append(("case", row["source_url"]))
        keys.append(("text", " ".join(row["text"].lower().split())))
        for key in keys:
            if key[1]:
                leader[find(key)] = find(("patient", row["patient_id"]))
    return {row["patient_id"]: find(("patient", row["patient_id"]))[1] for row in rows}


def pictured(manifest: Path, groups: dict[str, str]) -> Iterator[StudyRow | Skipped]:
    """Studies of the manifest under the names of their groups, so that folds keep these whole; priors stay those of
    the patient. Their label is Pneumonia, No Finding or unknown."""
    for entry in read_manifest(manifest):
        if isinstance(entry, StudyRow):
            entry = replace(entry, patient_id=groups[entry.patient_id], labels=_label(entry.labels))
        yield entry


def _label(given: str) -> str:
    if given == "No Finding":
        return given
    return "Pneumonia" if any(cause.lower() in given.lower() for cause in CAUSES) else ""


def _speak(entry: StudyRow | Skipped) -> StudyRow | Skipped:
    if isinstance(entry, Skipped) or entry.findings or entry.impression or entry.text or not entry.labels:
        return entry
    return replace(entry, text=SENTENCE_OF[entry.labels])


def adapt(place: Place, fold: int, name: str) -> None:
    """Train one arm and embed the fold's test patients, unless that is done."""
    folder, arm, started = place.run(fold, name), ARMS[name], time.process_time()
    if (folder / DONE).exists():
        return
    base = place.run(fold, arm.after) if arm.after else DEMO_ENCODERS
    architecture, transform = read_architecture(base)
    config = TrainConfig(
        name=f"{name}, fold {fold}",
        precision="bfloat16",
        base=BaseConfig(checkpoint=str(base)),
        data=DataConfig(
            table=str(place.table(fold, arm.kind)),
            one_section=0.0,
            same_report="identical_or_normal",
            new_tokens=arm.new_tokens,
        ),
        optim=OptimConfig(
            batch=arm.batch,
            steps=arm.steps,
            warmup_steps=arm.steps // 5,
            base_learning_rate=arm.rate,
            local_group=4,
            trainable=arm.trainable,
        ),
        losses=arm.losses,
        # Of the reading the last step is taken: no pictured patient chooses among reports.
        validation=ValidationConfig(arm.steps if name == "reading" else arm.steps // 4, "loss"),
        model=replace(architecture, image=replace(architecture.image, mask_ratio=arm.mask_ratio)),
        transform=transform,
    )
    state = train(config, folder, place.output / "pictures", workers=1, resume=True, device="cpu")
    tables = [seen for path in (folder, base) if path != DEMO_ENCODERS and (seen := recorded_table(path))]
    require_no_leak(set(read_list(place.table(fold, "pictured")).patients.tolist()), tables)
    embed(place, fold, folder, folder)
    seconds = time.process_time() - started
    console.print(f"Fold {fold}, {name}: {seconds:.0f} s, best at step {state.best_step}: {state.best}")


def embed(place: Place, fold: int, encoders: Path, folder: Path) -> None:
    """Embeddings of the fold's test studies, whole and of the frontal alone, of reports, and the prompts' direction."""
    if (folder / DONE).exists():
        return
    encoder = load_encoder(encoders, "cpu")
    rows = read_list(place.table(fold, "pictured"))
    pneumonia = PROMPT_SETS["Pneumonia"]
    partial_file = folder / "partial.npz"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        partial_file,
        studies=embed_images(encoder, rows, "study"),
        frontals=embed_images(encoder, rows),
        texts=embed_texts(encoder, [row.body for row in rows.rows])[0],
        direction=encoder.encode_prompts(pneumonia.positive) - encoder.encode_prompts(pneumonia.negative),
    )
    partial_file.replace(folder / DONE)


def judge(place: Place, name: str, folds: Sequence[int]) -> Outcome:
    """Figures of one arm over the test patients of ``folds``. A report is sought among those of its fold; an AUROC
    compares only studies of one fold, that is, scores of the same encoders."""
    ranks: dict[str, list[float]] = {"image to text": [], "text to image": []}
    chances: dict[str, list[float]] = {}
    owners: list[str] = []
    scored: dict[str, list[Any]] = {"patient": [], "fold": [], "source": [], "label": [], "score": []}
    for fold in folds:
        rows = read_list(place.table(fold, "pictured"))
        found = np.load(place.run(fold, name) / DONE)
        told = [number for number, row in enumerate(rows.rows) if row.body]
        bodies, patients = [rows.rows[number].body for number in told], rows.patients[told]
        measures = measure_paired(found["studies"][told], found["texts"][told], bodies, patients)
        owners += patients.tolist()
        for way, values in ranks.items():
            own = measures[f"{way.replace(' ', '_')}_mean_rank"]
            values += [own.compute(np.array([number])) for number in range(len(told))]
        for key, measure in measures.items():
            chances.setdefault(key, []).extend([measure.chance or 0.0] * len(told))
        scored["patient"] += rows.patients.tolist()
        scored["fold"] += [fold] * len(rows.rows)
        scored["source"] += [row.images["current_frontal"].parent.name for row in rows.rows]
        scored["label"] += [row.values["labels"] for row in rows.rows]
        scored["score"] += (found["frontals"] @ found["direction"]).tolist()
    result: dict[str, Measure] = {}
    for way, values in ranks.items():
        key, rank, patients = way.replace(" ", "_"), np.array(values), np.array(owners)
        for k in (1, 5, 10):
            result[f"{way} R@{k}"] = mean(patients, rank <= k, float(np.mean(chances[f"{key}_r{k}"])))
        median = float(np.mean(chances[f"{key}_median_rank"]))
        result[f"{way} median rank"] = Measure(patients, partial(_median, rank), median, len(rank))
    return Outcome(result | _zero_shot({key: np.array(values) for key, values in scored.items()}))


def _median(values: np.ndarray, rows: np.ndarray) -> float:
    return float(np.median(values[rows]))


def _zero_shot(given: dict[str, np.ndarray]) -> dict[str, Measure]:
    sick, well, children = given["label"] == "Pneumonia", given["label"] == "No Finding", given["source"] == CHILDREN
    cases = {
        "pneumonia against no finding, all sources": (sick | well, sick),
        "pneumonia against no finding, children's hospital": ((sick | well) & children, sick),
        "pneumonia elsewhere against pneumonia there": (sick, ~children),
    }
    result = {}
    for name, (chosen, positive) in cases.items():
        patients, fold, scores = (given[key][chosen] for key in ("patient", "fold", "score"))
        result[f"{name}, AUROC"] = _within_folds(patients, fold, scores, positive[chosen])
    return result


def _within_folds(patients: np.ndarray, fold: np.ndarray, scores: np.ndarray, positive: np.ndarray) -> Measure:
    """Share of the pairs within a fold that are in the right order."""

    def figure(rows: np.ndarray) -> float:
        right = pairs = 0.0
        for part in (rows[fold[rows] == number] for number in np.unique(fold)):
            count = float(positive[part].sum()) * float((~positive[part]).sum())
            if count:
                right, pairs = right + count * auroc(scores[part], positive[part]), pairs + count
        return right / pairs if pairs else float("nan")

    return Measure(patients, figure, 0.5, len(scores))


def figures(place: Place) -> dict[str, Any]:
    """Print the comparison and return its figures, also without the fold whose patients settled the recipe."""
    every = range(1, FOLDS + 1)
    if missing := [name for name in SHOWN for fold in every if not (place.run(fold, name) / DONE).exists()]:
        raise SystemExit(f"Not all runs are done: {', '.join(sorted(set(missing)))}.")
    untouched = [fold for fold in every if fold != TUNED_ON % FOLDS + 1]
    results = {}
    for name, folds in (("all", list(every)), ("without_the_fold_of_the_recipe", untouched)):
        results[name] = compare({arm: judge(place, arm, folds) for arm in (BEFORE, *SHOWN)})
    whole = results["all"]
    print("| figure | chance | " + " | ".join(whole.columns) + " |")
    print("|---" * (len(whole.columns) + 2) + "|")
    for row in whole.rows:
        cells = [str(row.intervals[BEFORE])]
        cells += [f"{row.intervals[arm].value:.3f}<br>{_difference(row.differences[arm])}" for arm in SHOWN]
        print(f"| {row.name} ({row.over}) | {row.chance:.3f} | " + " | ".join(cells) + " |")
    shape = shape_alone(place)
    console.print(f"Pneumonia by the picture's width over its height, no encoder, children's hospital: AUROC {shape}")
    return {**{name: comparison.as_json() for name, comparison in results.items()}, "shape_alone": shape.as_list()}


def shape_alone(place: Place) -> Interval:
    """What a look at the shape of a picture knows about the children's hospital's labels."""
    rows = read_list(place.table(1, "pictured"), split="all")
    chosen = rows.select(lambda row: row.images["current_frontal"].parent.name == CHILDREN)
    sides = [read_radiograph(row.images["current_frontal"]).pixels.shape for row in chosen.rows]
    sick = np.array([row.values["labels"] == "Pneumonia" for row in chosen.rows])
    return bootstrap_auroc(chosen.patients, np.array([width / height for height, width in sides]), sick)


def _difference(interval: Interval) -> str:
    """In bold where its interval leaves zero out."""
    text = f"{interval.value:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
    return f"**{text}**" if interval.low > 0 or interval.high < 0 else text


if __name__ == "__main__":
    main()
