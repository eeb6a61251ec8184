"""Trains the view classifier that `model.view` ships, on simulated radiographs alone.

    python -m model.training.view --output model/view.safetensors

Training, the choice of the threshold and the test (`benchmarks.view`) take patients of three cohorts. The threshold is
the least probability at which at most MOST_WRONG of the answers are wrong on pictures varied HARSHNESS times as far as
in training: real films differ from simulated ones in ways nobody listed, so it is not chosen on the training's own
terms.
Takes ten minutes of one core, about half of them in making pictures, which all cores share.
"""

import argparse
import json
import logging
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from ..simulation import simulate_patient
from ..view import CLASSES, ViewClassifier
from .thumbnail_network import fit
from .view_pictures import pictures_of, thumbnails

__all__ = ["Outcome", "choose_threshold", "judge", "main", "train_view_classifier", "varied_scores"]

logger = logging.getLogger(__name__)

TRAINING_SEED, THRESHOLD_SEED = 7001, 7002
PATIENTS, THRESHOLD_PATIENTS = 2000, 400
WIDTHS = (12, 24, 32)  # channels: 11,000 weights in all; a wider one answered fewer real films
EPOCHS = 16
MOST_WRONG = 0.0005
HARSHNESS = 1.6

Scores = NDArray[np.float32]
Classes = NDArray[np.int64]


class Outcome:
    """What became of pictures of one class: how many there were, were answered, were answered wrongly."""

    def __init__(self, scores: Scores, classes: Classes, threshold: float, name: str) -> None:
        of_class = scores[classes == CLASSES.index(name)]
        best = of_class.argmax(axis=1)
        answered = (best != CLASSES.index("neither")) & (of_class.max(axis=1, initial=0) >= threshold)
        self.count = len(of_class)
        self.answered = int(answered.sum())
        self.wrong = int((answered & (best != CLASSES.index(name))).sum())


def judge(scores: Scores, classes: Classes, threshold: float) -> dict[str, Outcome]:
    """Scores (N, 3) as ``ViewClassifier.scores`` and classes (N,) to the outcome by class."""
    return {name: Outcome(scores, classes, threshold, name) for name in CLASSES}


def train_view_classifier(
    patients: int = PATIENTS, threshold_patients: int = THRESHOLD_PATIENTS, workers: int = 2
) -> ViewClassifier:
    """Fit the network and choose the threshold. The same arguments give the same classifier on the same machine."""
    looks, classes = thumbnails(TRAINING_SEED, patients, workers)
    logger.info("%d training pictures", len(looks))
    classifier = ViewClassifier(fit(looks, classes, WIDTHS, len(CLASSES), EPOCHS, TRAINING_SEED), 1.0)
    scores, truth = varied_scores(classifier, THRESHOLD_SEED, threshold_patients, HARSHNESS)
    return ViewClassifier(classifier.weights, choose_threshold(scores, truth))


def varied_scores(classifier: ViewClassifier, seed: int, patients: int, harshness: float) -> tuple[Scores, Classes]:
    """``ViewClassifier.scores`` (N, 3) and classes (N,) of the varied pictures of a cohort."""
    scores, classes = [], []
    for number in range(patients):
        rng = np.random.default_rng([seed, number, 2])
        for study in simulate_patient(seed, number).studies:
            for name, picture in pictures_of(study, rng, harshness):
                scores.append(classifier.scores(picture))
                classes.append(CLASSES.index(name))
    return np.stack(scores), np.array(classes, np.int64)


def choose_threshold(scores: Scores, classes: Classes) -> float:
    """The least of a grid at which few enough answers are wrong; the highest where none does."""
    grid = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98)
    for threshold in grid:
        outcomes = judge(scores, classes, threshold).values()
        if sum(each.wrong for each in outcomes) <= MOST_WRONG * sum(each.answered for each in outcomes):
            return threshold
    return grid[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="The file to write.")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    classifier = train_view_classifier(workers=os.cpu_count() or 1)
    facts = {
        "threshold": classifier.threshold,
        "seeds": {"training": TRAINING_SEED, "threshold": THRESHOLD_SEED},
        "patients": {"training": PATIENTS, "threshold": THRESHOLD_PATIENTS},
    }
    content = save(classifier.weights, metadata={"view": json.dumps(facts)})
    partial = options.output.with_name(options.output.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, options.output)
    logger.info("wrote %s, %d bytes, threshold %.2f", options.output, len(content), classifier.threshold)


if __name__ == "__main__":
    main()
