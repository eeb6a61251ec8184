"""Zero-shot classification: 5x200 by arg-max, RSNA pneumonia by two prompts, any labelled list by prompt pairs."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..encoder import StudyEncoder
from ..prompts import PROMPT_SETS, PromptPair
from .embedding import Progress, embed_images, silent
from .labels import read_labels
from .lists import FRONTAL, EvaluationList
from .metrics import auroc
from .outcome import Measure, Outcome, ScoredLabels, area, mean
from .prompt_files import PromptFileError
from .retrieval import CLASSES_5
from .thresholds import FOLDS, cross_validated

__all__ = ["classify_5x200", "classify_labelled", "classify_rsna", "score_findings"]

PUBLISHED_PROMPTS = dict(zip(CLASSES_5, (210, 15, 192, 18, 54), strict=True))
RSNA = PromptPair(("There is pneumonia",), ("There is no pneumonia",))
RSNA_STUDIES = 3000
SICK, WELL = "Pneumonia", "No Pneumonia"
RSNA_NAMES = {"1": SICK, "0": WELL, "normal": WELL, "no finding": WELL}


def classify_5x200(
    encoder: StudyEncoder,
    rows: EvaluationList,
    prompts: Mapping[str, Sequence[str]] | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Accuracy of the class whose prompts are nearest; of equally near ones the first. Chance 0.2."""
    rows.require(FRONTAL, "patient_id", "class")
    rows.require_patients()
    rows.require_images()
    truth = np.array([CLASSES_5.index(name) for name in rows.classes(CLASSES_5)])
    given = prompts or {name: PROMPT_SETS[name].positive for name in CLASSES_5}
    if missing := [name for name in CLASSES_5 if name not in given]:
        raise PromptFileError(f"--prompts: none for {', '.join(missing)}; expected all of {', '.join(CLASSES_5)}.")
    directions = np.stack([encoder.encode_prompts(given[name]) for name in CLASSES_5])
    patients, cosines = rows.patients, embed_images(encoder, rows, progress=progress) @ directions.T
    right = cosines.argmax(axis=1) == truth
    measures = {"accuracy": mean(patients, right, 1 / len(CLASSES_5))}
    scored = {}
    for number, name in enumerate(CLASSES_5):
        own = truth == number
        measures[f"accuracy: {name}"] = mean(patients[own], right[own])
        scored[name] = ScoredLabels(patients, cosines[:, number], own)
    counts = {name: len(given[name]) for name in CLASSES_5}
    notes = ["Of equally near classes the first is taken."]
    if counts != PUBLISHED_PROMPTS:
        spoken = "/".join(map(str, counts.values()))
        notes.append(f"Prompts a class: {spoken}; the published figures use 210/15/192/18/54 (--prompts).")
    if len(truth) != 1000:
        notes.append(f"{len(truth)} images; the published list has 1000: figures differ.")
    return Outcome(measures, tuple(notes), scored=scored)


def classify_rsna(
    encoder: StudyEncoder, rows: EvaluationList, prompts: PromptPair | None = None, progress: Progress = silent
) -> Outcome:
    """Softmax of the two cosines: AUROC; accuracy and F1 by ten folds (``cross_validated``)."""
    rows.require(FRONTAL, "patient_id", "class")
    rows.require_patients()
    rows.require_images()
    positive = np.array(rows.classes((SICK, WELL), RSNA_NAMES)) == SICK
    if positive.all() or not positive.any():
        raise rows.error(rows.rows[0], f"every class is {SICK if positive.all() else WELL}; expected both.")
    images = embed_images(encoder, rows, progress=progress)
    difference = score_findings(encoder, images, {SICK: prompts or RSNA})[SICK]
    scored = ScoredLabels(rows.patients, 1 / (1 + np.exp(-difference)), positive)  # the softmax over two
    measures = {"auroc": area(scored), **cross_validated(scored.patients, scored.scores, positive)}
    always = max(positive.mean(), 1 - positive.mean())
    notes = [
        f"{int(positive.sum())} of {len(positive)} are positive; always saying the more frequent class has an accuracy"
        f" of {always:.3f}."
    ]
    if (fewest := min(int(positive.sum()), int((~positive).sum()))) < FOLDS:
        notes.append(f"Only {fewest} of one kind for {FOLDS} folds: in some there is none, which counts as an F1 of 0.")
    if len(positive) != RSNA_STUDIES:
        notes.append(f"{len(positive)} images; the published test has {RSNA_STUDIES}: figures differ.")
    return Outcome(measures, tuple(notes), scored={SICK: scored})


def classify_labelled(
    encoder: StudyEncoder,
    rows: EvaluationList,
    prompts: Mapping[str, PromptPair] = PROMPT_SETS,
    findings: Sequence[str] = (),
    level: str = "single_image",
    progress: Progress = silent,
) -> Outcome:
    """AUROC of every finding that the list has labels and ``prompts`` have phrasings for, and their mean."""
    labels = read_labels(rows, prompts, findings)
    scores = score_findings(encoder, embed_images(encoder, rows, level, progress), {n: prompts[n] for n in labels.has})
    patients, notes = rows.patients, []
    scored, cases = {}, {}
    for name, has in labels.has.items():
        known = labels.known[name]
        count, total = int(has[known].sum()), int(known.sum())
        if count in (0, total):
            notes.append(f"{name}: no AUROC, {count} of {total} known cases are positive.")
            continue
        scored[name] = ScoredLabels(patients[known], scores[name][known], has[known])
        cases[name] = f"{name} {count} of {total}"
    if not scored:
        raise rows.error(rows.rows[0], "no finding has both positive and negative cases. " + " ".join(notes))

    def average(drawn: np.ndarray) -> float:
        areas = []
        for name in scored:
            part = drawn[labels.known[name][drawn]]
            areas.append(auroc(scores[name][part], labels.has[name][part]))
        defined = [value for value in areas if not np.isnan(value)]  # of a rare finding a draw may miss every case
        return float(np.mean(defined)) if defined else float("nan")

    measures = {"auroc: mean": Measure(patients, average, 0.5, len(patients))}
    measures |= {f"auroc: {name}": area(cases_of) for name, cases_of in scored.items()}
    return Outcome(measures, (f"Positive: {', '.join(cases.values())}.", *notes), scored=scored)


def score_findings(
    encoder: StudyEncoder, images: np.ndarray, prompts: Mapping[str, PromptPair]
) -> dict[str, np.ndarray]:
    """Cosine to the asserting prompts minus cosine to the denying ones, (R,) by finding."""
    return {
        name: images @ (encoder.encode_prompts(pair.positive) - encoder.encode_prompts(pair.negative))
        for name, pair in prompts.items()
    }
