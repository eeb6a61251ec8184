"""The simulated protocol: retrieval, zero-shot, change and lateral-only findings, on patients no training has seen.

Two levels stand side by side: "single image" embeds the current frontal alone, "study" all images there are, the
lateral and the patient's prior study included.

Axes: Q studies (each is once query and once gallery item), D embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..encoder import StudyEncoder
from ..prompts import PROMPT_SETS
from ..simulation import FINDINGS, SimulatedStudy, simulate_studies
from ..text import report_body
from .cohort import Cohort, prepare_views, study_images
from .metrics import Interval, auroc, bootstrap, bootstrap_auroc, bootstrap_mean, hit_ranks, precision_at_k

__all__ = ["LEVELS", "SimulatedFigures", "evaluate_simulated"]

LEVELS = ("single_image", "study")
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


@dataclass(frozen=True)
class SimulatedFigures:
    """Figures of one level by name; ``counts`` says over how many studies each subgroup speaks."""

    figures: dict[str, Interval]
    zero_shot: dict[str, Interval]
    counts: dict[str, int]


def evaluate_simulated(
    encoder: StudyEncoder,
    seed: int,
    studies: int,
    workers: int = 1,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> dict[str, SimulatedFigures]:
    """Figures of both levels on ``studies`` studies of cohort ``seed``."""
    cohort: Cohort = list(simulate_studies(seed, studies))
    views = prepare_views(cohort, encoder.transform, workers, partial(progress, "rendering"))
    texts = _batched(encoder.encode_texts, [_body(study) for study, _ in cohort], partial(progress, "reports"))
    results = {}
    for level in LEVELS:
        images = [study_images(study, prior, views, level) for study, prior in cohort]
        embedded = _batched(encoder.encode_studies, images, partial(progress, level.replace("_", " ")))
        results[level] = _figures(encoder, cohort, embedded, texts)
    return results


def _figures(encoder: StudyEncoder, cohort: Cohort, images: np.ndarray, texts: np.ndarray) -> SimulatedFigures:
    patients = np.array([study.patient_id for study, _ in cohort])
    figures, counts = _precision(cohort, patients, images, texts)
    paired, paired_counts = _paired(cohort, patients, images, texts)
    zero_shot = _zero_shot(encoder, cohort, patients, images)
    change, changed = _change(encoder, cohort, patients, images)
    hidden, seen_on_lateral = _lateral_only(encoder, cohort, patients, images)
    mean = _mean_auroc(encoder, cohort, patients, images)
    figures |= paired | {"zero_shot_auroc_mean": mean, "change_auroc": change, "lateral_only_auroc": hidden}
    counts |= paired_counts | {"change_auroc": changed, "lateral_only_auroc": seen_on_lateral}
    return SimulatedFigures(figures, zero_shot, counts)


def _precision(
    cohort: Cohort, patients: np.ndarray, images: np.ndarray, texts: np.ndarray
) -> tuple[dict[str, Interval], dict[str, int]]:
    """P@k by class, as 5x200: studies with exactly one finding class, as many of each; the own pair counts."""
    single: dict[str, list[int]] = {name: [] for name in FINDINGS}
    for row, (study, _) in enumerate(cohort):
        if len(study.finding_classes) == 1:
            single[next(iter(study.finding_classes))].append(row)
    each = min(len(rows) for rows in single.values())
    chosen = np.sort(np.concatenate([np.array(rows[:each], int) for rows in single.values()]))
    classes = np.array([next(iter(cohort[row][0].finding_classes)) for row in chosen])
    relevant = classes[:, None] == classes[None, :]
    figures = {}
    for name, queries, gallery in (("image_to_text", images, texts), ("text_to_image", texts, images)):
        similarity = queries[chosen] @ gallery[chosen].T
        for k in (5, 10):
            values = precision_at_k(similarity, relevant, k)
            figures[f"{name}_p{k}"] = bootstrap_mean(patients[chosen], values)
    return figures, {"queries_precision": len(chosen), "studies_of_each_class": each}


def _paired(
    cohort: Cohort, patients: np.ndarray, images: np.ndarray, texts: np.ndarray
) -> tuple[dict[str, Interval], dict[str, int]]:
    """R@k of the own report, both ways; identical reports count as the own one."""
    bodies = np.array([_body(study) for study, _ in cohort])
    relevant = bodies[:, None] == bodies[None, :]
    changed = np.array([any(f.change in ("increased", "decreased") for f in study.findings) for study, _ in cohort])
    hidden = np.array([any(f.lateral_only for f in study.findings) for study, _ in cohort])
    image_ranks = hit_ranks(images @ texts.T, relevant)
    text_ranks = hit_ranks(texts @ images.T, relevant)
    figures = {}
    for name, ranks in (("image_to_text", image_ranks), ("text_to_image", text_ranks)):
        for k in (1, 5, 10):
            figures[f"{name}_r{k}"] = bootstrap_mean(patients, ranks <= k)
    for name, group in (("changed", changed), ("lateral_only", hidden)):
        figures[f"{name}_r10"] = bootstrap_mean(patients[group], image_ranks[group] <= 10)
    return figures, {"changed_r10": int(changed.sum()), "lateral_only_r10": int(hidden.sum())}


def _zero_shot(encoder: StudyEncoder, cohort: Cohort, patients: np.ndarray, images: np.ndarray) -> dict[str, Interval]:
    scores = _prompt_scores(encoder, images)
    return {name: bootstrap_auroc(patients, score, _has(cohort, name)) for name, score in scores.items()}


def _mean_auroc(encoder: StudyEncoder, cohort: Cohort, patients: np.ndarray, images: np.ndarray) -> Interval:
    scores = _prompt_scores(encoder, images)
    truth = {name: _has(cohort, name) for name in scores}
    return bootstrap(patients, lambda rows: float(np.mean([auroc(scores[n][rows], truth[n][rows]) for n in scores])))


def _change(encoder: StudyEncoder, cohort: Cohort, patients: np.ndarray, images: np.ndarray) -> tuple[Interval, int]:
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
    return bootstrap_auroc(patients[rows], scores, worse), len(cases)


def _lateral_only(
    encoder: StudyEncoder, cohort: Cohort, patients: np.ndarray, images: np.ndarray
) -> tuple[Interval, int]:
    """AUROC of findings that only the lateral shows, against studies with a lateral and without the finding.

    The mean over findings, each weighted by its cases.
    """
    scores = _prompt_scores(encoder, images)
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

    return bootstrap(patients, figure), sum(int(hidden.sum()) for _, hidden, _ in groups)


def _hidden(study: SimulatedStudy, name: str) -> bool:
    found = [finding for finding in study.findings if finding.name == name]
    return bool(found) and all(finding.lateral_only for finding in found)


def _has(cohort: Cohort, name: str) -> np.ndarray:
    if name == "no finding":
        return np.array([not study.finding_classes for study, _ in cohort])
    return np.array([name in study.finding_classes for study, _ in cohort])


def _prompt_scores(encoder: StudyEncoder, images: np.ndarray) -> dict[str, np.ndarray]:
    """Cosine to the asserting prompts minus cosine to the denying ones; orders studies as their softmax does."""
    return {
        name: images
        @ (encoder.encode_prompts(PROMPT_SETS[key].positive) - encoder.encode_prompts(PROMPT_SETS[key].negative))
        for name, key in PROMPTS_OF.items()
    }


def _body(study: SimulatedStudy) -> str:
    return report_body(study.report.findings, study.report.impression)


def _batched(
    encode: Callable[[Sequence[Any]], np.ndarray],
    items: list[Any],
    progress: Callable[[int, int], None],
    size: int = 32,
) -> np.ndarray:
    parts = []
    for start in range(0, len(items), size):
        parts.append(encode(items[start : start + size]))
        progress(min(start + size, len(items)), len(items))
    return np.concatenate(parts)
