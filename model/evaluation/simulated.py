"""The simulated protocol: retrieval, zero-shot, change and lateral-only findings, on patients no training has seen.

Two levels stand side by side: "single image" embeds the current frontal alone, "study" all images there are, the
lateral and the patient's prior study included.

Axes: Q studies (each is once query and once gallery item), D embedding.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from ..encoder import StudyEncoder
from ..prompts import PROMPT_SETS
from ..simulation import FINDINGS, SimulatedStudy, simulate_studies
from ..text import report_body
from .cohort import Cohort, Views, prepare_views, study_images
from .embedding import LEVELS, Progress, in_batches, silent
from .fused import measure_fused
from .metrics import auroc
from .outcome import Measure, Outcome, PrecisionCurve, ScoredLabels, area, measure_pairs, measure_precision
from .zero_shot import score_findings

__all__ = ["LEVELS", "PROMPTS_OF", "evaluate_simulated"]

# The prompt set that asks for each simulated finding.
PROMPTS_OF = {
    "cardiomegaly": "Cardiomegaly",
    "pleural effusion": "Pleural Effusion",
    "pneumothorax": "Pneumothorax",
    "consolidation": "Consolidation",
    "edema": "Edema",
    "atelectasis": "Atelectasis",
    "nodule": "Lung Lesion",
    "support devices": "Support Devices",
    "no finding": "No Finding",
}
WORSE = ("The {} has increased.", "Worsening {}.", "Interval increase in the {}.")
BETTER = ("The {} has decreased.", "Improving {}.", "Interval decrease in the {}.")


def evaluate_simulated(
    encoders: Sequence[StudyEncoder], seed: int, studies: int, workers: int = 1, progress: Progress = silent
) -> list[dict[str, Outcome]]:
    """By encoder, the outcome at each of ``LEVELS``, on ``studies`` studies of cohort ``seed``, rendered once."""
    cohort: Cohort = list(simulate_studies(seed, studies))
    transforms = [encoder.transform for encoder in encoders]
    views = prepare_views(cohort, transforms, workers, partial(progress, "rendering"))
    return [_evaluate(encoder, cohort, views[encoder.transform], progress) for encoder in encoders]


def _evaluate(encoder: StudyEncoder, cohort: Cohort, views: Views, progress: Progress) -> dict[str, Outcome]:
    texts = in_batches(encoder.encode_texts, [_body(study) for study, _ in cohort], "reports", progress)
    outcomes = {}
    for level in LEVELS:
        slots = [study_images(study, prior, views, level) for study, prior in cohort]
        embedded = in_batches(encoder.encode_studies, slots, level.replace("_", " "), progress)
        outcomes[level] = _outcome(encoder, cohort, embedded, texts)
    return outcomes


def _outcome(encoder: StudyEncoder, cohort: Cohort, images: np.ndarray, texts: np.ndarray) -> Outcome:
    patients = np.array([study.patient_id for study, _ in cohort])
    scores = score_findings(encoder, images, {name: PROMPT_SETS[key] for name, key in PROMPTS_OF.items()})
    scored = {name: ScoredLabels(patients, score, _has(cohort, name)) for name, score in scores.items()}
    precision, curves, note = _precision(cohort, patients, images, texts)
    measures = precision | _paired(cohort, patients, images, texts)
    measures["zero_shot_auroc_mean"] = _mean_area(patients, scored)
    measures["change_auroc"] = _change(encoder, cohort, patients, images)
    measures["lateral_only_auroc"] = _lateral_only(cohort, patients, scores)
    measures |= {f"zero_shot_auroc: {name}": area(labels) for name, labels in scored.items()}
    return Outcome(measures, (note,), curves, scored)


def _precision(
    cohort: Cohort, patients: np.ndarray, images: np.ndarray, texts: np.ndarray
) -> tuple[dict[str, Measure], dict[str, PrecisionCurve], str]:
    """P@k by class, as 5x200: studies with exactly one finding class, as many of each. Across kinds the own pair
    counts; among studies (``fused``) the own patient is left out."""
    single: dict[str, list[int]] = {name: [] for name in FINDINGS}
    for row, (study, _) in enumerate(cohort):
        if len(study.finding_classes) == 1:
            single[next(iter(study.finding_classes))].append(row)
    each = min(len(rows) for rows in single.values())
    if not each:
        return {}, {}, "Precision: the cohort is too small, a finding class has no study of its own."
    chosen = np.sort(np.concatenate([np.array(rows[:each], int) for rows in single.values()]))
    classes = np.array([next(iter(cohort[row][0].finding_classes)) for row in chosen])
    relevant = classes[:, None] == classes[None, :]
    measures: dict[str, Measure] = {}
    curves = {}
    for name, queries, gallery in (("image_to_text", images, texts), ("text_to_image", texts, images)):
        similarity = queries[chosen] @ gallery[chosen].T
        found, curves[name.replace("_", " ")] = measure_precision(patients[chosen], similarity, relevant, (5, 10))
        measures |= {f"{name}_{depth}": measure for depth, measure in found.items()}
    measures |= measure_fused(images[chosen], texts[chosen], patients[chosen], relevant)
    note = (
        f"Precision: {len(chosen)} studies with exactly one finding class, {each} of each of {len(FINDINGS)} classes."
        " image_to_text and text_to_image: the own pair is in the gallery. image_to_image and fused_W (W: weight of"
        " the candidate's image, the rest is its report's): the query's patient is not."
    )
    return measures, curves, note


def _paired(cohort: Cohort, patients: np.ndarray, images: np.ndarray, texts: np.ndarray) -> dict[str, Measure]:
    """R@k and ranks of the own report, both ways; identical reports count as the own one."""
    bodies = np.array([_body(study) for study, _ in cohort])
    relevant = bodies[:, None] == bodies[None, :]
    changed = np.array([any(f.change in ("increased", "decreased") for f in study.findings) for study, _ in cohort])
    hidden = np.array([any(f.lateral_only for f in study.findings) for study, _ in cohort])
    to_text = images @ texts.T
    measures = {}
    for direction, similarity in (("image_to_text", to_text), ("text_to_image", to_text.T)):
        for name, measure in measure_pairs(patients, similarity, relevant).items():
            measures[f"{direction}_{name}"] = measure
    for name, group in (("changed", changed), ("lateral_only", hidden)):
        if not group.any():
            continue
        found = measure_pairs(patients[group], to_text[group], relevant[group])
        measures[f"{name}_r10"] = found["r10"]
    return measures


def _mean_area(patients: np.ndarray, scored: dict[str, ScoredLabels]) -> Measure:
    def average(rows: np.ndarray) -> float:
        return float(np.mean([auroc(labels.scores[rows], labels.positive[rows]) for labels in scored.values()]))

    return Measure(patients, average, 0.5, len(patients))


def _change(encoder: StudyEncoder, cohort: Cohort, patients: np.ndarray, images: np.ndarray) -> Measure:
    """AUROC of increased against decreased findings, asked with prompts that name the finding."""
    directions = {
        name: encoder.encode_prompts([p.format(name) for p in WORSE])
        - encoder.encode_prompts([p.format(name) for p in BETTER])
        for name in FINDINGS
    }
    cases = [
        (row, finding.change == "increased", float(images[row] @ directions[finding.name]))
        for row, (study, _) in enumerate(cohort)
        for finding in {f.name: f for f in study.findings}.values()
        if finding.change in ("increased", "decreased")
    ]
    rows, worse, scores = (np.array(column) for column in zip(*cases, strict=True))
    return area(ScoredLabels(patients[rows], scores, worse))


def _lateral_only(cohort: Cohort, patients: np.ndarray, scores: dict[str, np.ndarray]) -> Measure:
    """AUROC of findings that only the lateral shows, against studies with a lateral and without the finding.

    The mean over findings, each weighted by its cases.
    """
    with_lateral = np.array([study.has_lateral for study, _ in cohort])
    groups: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for name in FINDINGS:
        hidden = np.array([_hidden(study, name) for study, _ in cohort])
        considered = with_lateral & (hidden | ~_has(cohort, name))
        if hidden.any():
            groups.append((scores[name], hidden, considered))

    def figure(rows: np.ndarray) -> float:
        values, weights = [], []
        for score, hidden, considered in groups:
            chosen = rows[considered[rows]]
            if hidden[chosen].any():
                values.append(auroc(score[chosen], hidden[chosen]))
                weights.append(int(hidden[chosen].sum()))
        return float(np.average(values, weights=weights)) if values else float("nan")

    return Measure(patients, figure, 0.5, sum(int(hidden.sum()) for _, hidden, _ in groups))


def _hidden(study: SimulatedStudy, name: str) -> bool:
    found = [finding for finding in study.findings if finding.name == name]
    return bool(found) and all(finding.lateral_only for finding in found)


def _has(cohort: Cohort, name: str) -> np.ndarray:
    if name == "no finding":
        return np.array([not study.finding_classes for study, _ in cohort])
    return np.array([name in study.finding_classes for study, _ in cohort])


def _body(study: SimulatedStudy) -> str:
    return report_body(study.report.findings, study.report.impression)
