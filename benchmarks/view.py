"""How often the view classifier answers, and how often wrongly: simulated patients it has not met, and real films.

    python -m benchmarks.view [--data DATA] [--patients 200] [--model model/view.safetensors] [--list]

DATA holds cxr/manifest.csv (which names the views) and dicom/. Simulated films are shown as taken, and varied as far as
in training and further. Nothing is fitted here: real films are the check. ``--list`` names the films answered wrongly.
Last line: JSON, with an exact 95 % limit of the share of wrong answers on real films, and milliseconds for a film of
2000 x 2500 px.
"""

import argparse
import csv
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from model.errors import ImageError
from model.image import read_radiograph
from model.simulation import render, simulate_patient
from model.training.view import HARSHNESS
from model.training.view_pictures import pictures_of
from model.view import WEIGHTS, ViewClassifier, load_view_classifier

SEED = 7003  # patients of neither training (7001) nor the choice of the threshold (7002)
SIZE = 512  # px, of simulated films as taken

console = Console(width=120)


@dataclass
class Row:
    """What became of the films of one kind; ``truth`` None where no answer is right."""

    source: str
    films: str
    truth: str | None
    count: int = 0
    answered: int = 0
    wrong: int = 0

    def add(self, answer: str | None) -> None:
        self.count += 1
        self.answered += answer is not None
        self.wrong += answer not in (None, self.truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder of real films; without it only simulated ones are shown.")
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    classifier = load_view_classifier(options.model)
    rows = [*as_taken(classifier, options.patients)]
    for harshness in (1.0, HARSHNESS):
        rows += varied(classifier, options.patients, harshness)
    real: list[Row] = []
    if options.data:
        real = real_films(classifier, options.data / "cxr", options.list)
        rows += [*real, *other_parts(classifier, options.data / "dicom")]
    show(rows)
    answered, wrong = sum(row.answered for row in real), sum(row.wrong for row in real)
    result = {"threshold": classifier.threshold, "milliseconds": round(milliseconds(classifier), 1)}
    if real:
        result |= {
            "real_answered": answered,
            "real_wrong": wrong,
            "real_wrong_at_most": round(limit(wrong, answered), 4),
        }
    print(json.dumps(result | {"rows": [asdict(row) for row in rows]}))


def as_taken(classifier: ViewClassifier, patients: int) -> Iterator[Row]:
    rows = {view: Row("simulated", f"{view}, as taken", view) for view in ("frontal", "lateral")}
    for number in range(patients):
        for study in simulate_patient(SEED, number).studies:
            for view in study.views:
                rows[view].add(classifier.decide(render(study, view, SIZE)))
    yield from rows.values()


def varied(classifier: ViewClassifier, patients: int, harshness: float) -> list[Row]:
    words = "varied as in training" if harshness == 1 else f"varied {harshness} times as far"
    rows = {name: Row("simulated", f"{name}, {words}", name) for name in ("frontal", "lateral", "neither")}
    rows["neither"].truth = None
    for number in range(patients):
        rng = np.random.default_rng([SEED, number, 2])
        for study in simulate_patient(SEED, number).studies:
            for name, picture in pictures_of(study, rng, harshness):
                rows[name].add(classifier.decide(picture))
    return list(rows.values())


def real_films(classifier: ViewClassifier, folder: Path, listed: bool) -> list[Row]:
    rows: dict[str, Row] = {}
    with (folder / "manifest.csv").open(newline="") as file:
        for film in csv.DictReader(file):
            truth = "lateral" if film["view"] == "L" else "frontal"
            name = f"{film['view']}, {film['source_repo'].split('@')[0].split(' ')[0]}"
            answer = classifier.decide(read_radiograph(folder / film["image_path"]).pixels)
            rows.setdefault(name, Row("real", name, truth)).add(answer)
            if listed and answer not in (None, truth):
                console.print(f"wrong: {film['image_path']} is {truth}, answered {answer}")
    return sorted(rows.values(), key=lambda row: (row.truth or "", row.films))


def other_parts(classifier: ViewClassifier, folder: Path) -> Iterator[Row]:
    for path in sorted(folder.glob("*.dcm")):
        try:
            pixels = read_radiograph(path).pixels
        except ImageError:
            continue
        row = Row("real", path.name, "frontal" if path.name.startswith("chest_CR") else None)
        row.add(classifier.decide(pixels))
        yield row


def limit(wrong: int, answered: int) -> float:
    """Upper end of the one-sided exact (Clopper-Pearson) 95 % interval of ``wrong`` in ``answered``, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        odds = [1.0] * (wrong + 1)  # terms of the binomial distribution up to ``wrong``, relative to the first
        for k in range(1, wrong + 1):
            odds[k] = odds[k - 1] * (answered - k + 1) / k * middle / (1 - middle)
        low, high = (middle, high) if (1 - middle) ** answered * sum(odds) > 0.05 else (low, middle)
    return high


def milliseconds(classifier: ViewClassifier) -> float:
    pixels = np.random.default_rng(0).random((2500, 2000), dtype=np.float32)
    times = []
    for _ in range(7):
        start = time.perf_counter()
        classifier.decide(pixels)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def show(rows: list[Row]) -> None:
    table = Table("", "films", "count", "answered", "share", "wrong")
    for row in rows:
        share = f"{row.answered / row.count:.1%}" if row.count else ""
        table.add_row(row.source, row.films, str(row.count), str(row.answered), share, str(row.wrong))
    for truth in ("frontal", "lateral"):
        real = [row for row in rows if row.source == "real" and row.truth == truth and not row.films.endswith(".dcm")]
        if real:
            count, answered, wrong = (
                sum(getattr(row, name) for row in real) for name in ("count", "answered", "wrong")
            )
            table.add_row("real", f"all {truth}", str(count), str(answered), f"{answered / count:.1%}", str(wrong))
    console.print(table)


if __name__ == "__main__":
    main()
