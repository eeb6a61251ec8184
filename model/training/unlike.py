"""Trains the classifier that `model.unlike` ships: simulated chest radiographs, upright, inverted and turned, against
drawn pictures of other things.

    python -m model.training.unlike --output model/unlike.safetensors

Takes ten minutes of one core. Thresholds are chosen afterwards, on patients and sources of their own:
`benchmarks.unlike --choose`.
"""

import argparse
import json
import logging
import multiprocessing
import os
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from ..simulation import render, simulate_patient
from ..simulation.study import SimulatedStudy
from ..thumbnails import SIDE, Array, thumbnail
from ..unlike import CLASSES
from .other_pictures import other_picture
from .thumbnail_network import fit
from .view_pictures import RENDERED, varied

__all__ = ["likeness_pictures", "main", "thumbnails_of"]

logger = logging.getLogger(__name__)

SEED, PATIENTS = 7101, 1500
WIDTHS, EPOCHS = (16, 32, 48), 14
CHUNK = 10  # patients
COUNTS = {"chest": 4, "inverted": 2, "turned": 2, "other": 8}  # of each study


def likeness_pictures(
    study: SimulatedStudy, rng: np.random.Generator, harshness: float = 1.0
) -> list[tuple[str, NDArray[np.float32]]]:
    """Varied pictures of one study with their class, by CLASSES."""
    films: dict[str, NDArray[np.float32]] = {view: render(study, view, RENDERED) for view in study.views}
    found = []
    for name, count in COUNTS.items():
        for _ in range(count):
            if name == "other":
                found.append((name, other_picture(films, rng, harshness)))
                continue
            film = films["lateral"] if "lateral" in films and rng.random() < 0.4 else films["frontal"]
            picture = varied(film, rng, harshness, turned=False)
            if name == "inverted":
                picture = 1 - picture
            if name == "turned":
                picture = np.rot90(picture, int(rng.integers(1, 4)))
            found.append((name, np.ascontiguousarray(picture)))
    return found


def thumbnails_of(seed: int, patients: int, workers: int, harshness: float = 1.0) -> tuple[Array, NDArray[np.int64]]:
    """(N, SIDE, SIDE) and classes (N,), of the first ``patients`` of a cohort, the same whatever the workers."""
    work = partial(_chunk, seed=seed, patients=patients, harshness=harshness)
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        parts = pool.map(work, range(0, patients, CHUNK), chunksize=1)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _chunk(start: int, seed: int, patients: int, harshness: float) -> tuple[Array, NDArray[np.int64]]:
    looks: list[Array] = []
    classes: list[int] = []
    for number in range(start, min(start + CHUNK, patients)):
        rng = np.random.default_rng([seed, number])
        for study in simulate_patient(seed, number).studies:
            for name, picture in likeness_pictures(study, rng, harshness):
                looks.append(thumbnail(picture))
                classes.append(CLASSES.index(name))
    return np.stack(looks) if looks else np.zeros((0, SIDE, SIDE), np.float32), np.array(classes, np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="The file to write.")
    parser.add_argument("--patients", type=int, default=PATIENTS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    looks, classes = thumbnails_of(SEED, options.patients, os.cpu_count() or 1)
    logger.info("%d training pictures", len(looks))
    weights = fit(looks, classes, WIDTHS, len(CLASSES), EPOCHS, SEED)
    facts = {"seed": SEED, "patients": options.patients}
    partial_file = options.output.with_name(options.output.name + ".partial")
    partial_file.write_bytes(save(weights, metadata={"unlike": json.dumps(facts)}))
    os.replace(partial_file, options.output)
    logger.info("wrote %s", options.output)


if __name__ == "__main__":
    main()
