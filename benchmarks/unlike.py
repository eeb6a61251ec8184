"""How often what is asked with is refused or warned of: chest radiographs, inverted and turned ones, other pictures.

    python -m benchmarks.unlike --data DATA [--pictures FOLDER] [--choose]

DATA holds cxr/manifest.csv and dicom/. FOLDER: any pictures that show no chest radiograph, in any depth of folders.
``--choose`` shows what the thresholds of ``model.unlike`` were chosen by: films of one real source (TUNED) and drawn
pictures (cohort 7102). Everything else judges and chose nothing: the other real sources, simulated patients (7103),
drawn pictures of these, pages of simulated reports, FOLDER, and DATA/dicom. Intervals resample patients. Last line:
JSON.
"""

import argparse
import csv
import json
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from model.errors import ImageError
from model.evaluation.metrics import bootstrap_mean
from model.image import read_radiograph
from model.simulation import SimulatedStudy, render, simulate_patient
from model.thumbnails import inner
from model.training.other_pictures import other_picture
from model.training.view_pictures import RENDERED
from model.unlike import CLASSES, WEIGHTS, judge_picture, likeness, load_weights

TUNED = "ml-workgroup/covid-19-image-repository"
CHOICE_SEED, SEED = 7102, 7103  # patients that neither trained (7101)
SIZE = 512  # px, of simulated films

console = Console(width=140)

Shown = tuple[str, str, np.ndarray, float]  # kind, patient, pixels, colour


@dataclass
class Row:
    """What became of the pictures of one kind."""

    patients: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def share(self, *appearances: str) -> str:
        return str(bootstrap_mean(np.array(self.patients), np.isin(self.found, appearances).astype(float)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--patients", type=int, default=200, help="Simulated ones.")
    parser.add_argument("--choose", action="store_true")
    options = parser.parse_args()
    if options.choose:
        choose(options.data / "cxr", options.patients)
        return
    rows: dict[str, Row] = {}
    for kind, patient, pixels, colour in everything(options):
        row = rows.setdefault(kind, Row())
        row.patients.append(patient)
        row.found.append(judge_picture(pixels, colour))
    table = Table("pictures", "count", "refused", "warned of", "inverted", "turned", "possibly none")
    result = {}
    for kind, row in rows.items():
        found = Counter(row.found)
        refused, warned = row.share("unlike", "blank"), row.share("doubtful", "inverted", "turned")
        each = [str(found[name]) for name in ("inverted", "turned", "doubtful")]
        table.add_row(kind, str(len(row.found)), refused, warned, *each)
        result[kind] = dict(found)
    console.print(table)
    for kind in ("picture, not of a chest", "DICOM"):
        for patient, found_as in zip(
            *(getattr(rows.get(kind, Row()), part) for part in ("patients", "found")), strict=True
        ):
            console.print(f"{patient}: {found_as}")
    print(json.dumps(result))


def everything(options: argparse.Namespace) -> Iterator[Shown]:
    yield from simulated(options.patients)
    yield from real(options.data / "cxr", tuned=False)
    if options.pictures:
        yield from pictures(options.pictures, "picture, not of a chest")
    yield from pictures(options.data / "dicom", "DICOM")


def turns(kind: str, patient: str, pixels: np.ndarray) -> Iterator[Shown]:
    yield kind, patient, pixels, 0.0
    yield f"{kind}, inverted", patient, 1 - pixels, 0.0
    for quarters, word in ((1, "left"), (2, "upside down"), (3, "right")):
        yield f"{kind}, turned {word}", patient, np.ascontiguousarray(np.rot90(pixels, quarters)), 0.0


def simulated(patients: int) -> Iterator[Shown]:
    for number in range(patients):
        rng = np.random.default_rng([SEED, number])
        patient = simulate_patient(SEED, number)
        for study in patient.studies:
            for view in study.views:
                film = render(study, view, SIZE)
                yield from turns(f"simulated {view}", patient.patient_id, film)
                flat = 0.5 + (film - 0.5) * np.float32(0.015)
                yield "simulated, without contrast", patient.patient_id, flat, 0.0
            yield "drawn, not a chest", patient.patient_id, drawn(study, rng), 0.0
            yield "page of a report", patient.patient_id, page(study, rng), 0.0


def drawn(study: SimulatedStudy, rng: np.random.Generator) -> np.ndarray:
    films: dict[str, np.ndarray] = {view: render(study, view, RENDERED) for view in study.views}
    return other_picture(films, rng, 1.6)


def page(study: SimulatedStudy, rng: np.random.Generator) -> np.ndarray:
    """The report as a fax would show it."""
    image = Image.new("L", (850, 1100), 255)
    size = int(rng.integers(14, 30))
    lines = [line for part in study.report.text.split("\n") for line in textwrap.wrap(part, 1500 // size) or [""]]
    ImageDraw.Draw(image).multiline_text((60, 60), "\n".join(lines), fill=0, font_size=size)
    return np.asarray(image, dtype=np.float32) / 255


def real(folder: Path, tuned: bool) -> Iterator[Shown]:
    with (folder / "manifest.csv").open(newline="") as file:
        for film in csv.DictReader(file):
            source = film["source_repo"].split("@")[0].split(" ")[0]
            if (source == TUNED) == tuned:
                view = "lateral" if film["view"] == "L" else "frontal"
                pixels = read_radiograph(folder / film["image_path"]).pixels
                yield from turns(f"real {view}, {source.split('/')[0]}", film["patient_id"], pixels)


def pictures(folder: Path, kind: str) -> Iterator[Shown]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            film = read_radiograph(path)
        except ImageError:
            continue
        yield kind, path.name, film.pixels, film.colour


def choose(folder: Path, patients: int) -> None:
    """Quantiles of the scores that the thresholds are about."""
    weights = load_weights(WEIGHTS)
    scores: dict[str, list[np.ndarray]] = {}
    for kind, _, pixels, _ in real(folder, tuned=True):
        scores.setdefault(kind, []).append(likeness(weights, pixels, inner(pixels)))
    for number in range(patients):
        rng = np.random.default_rng([CHOICE_SEED, number])
        for study in simulate_patient(CHOICE_SEED, number).studies:
            picture = drawn(study, rng)
            scores.setdefault("drawn, not a chest", []).append(likeness(weights, picture, inner(picture)))
    table = Table(
        "pictures", "count", *(f"other, {q} %" for q in (2, 50, 98, 100)), "inverted, 2/98 %", "turned, 2/98 %"
    )
    for kind, values in scores.items():
        each = np.stack(values)
        other = np.percentile(each[:, CLASSES.index("other")], (2, 50, 98, 100))
        rest = each[:, :3] / each[:, :3].sum(1, keepdims=True)
        spread = [np.percentile(rest[:, column], (2, 98)) for column in (1, 2)]
        table.add_row(
            kind,
            str(len(each)),
            *(f"{value:.2f}" for value in other),
            *(f"{low:.2f} / {high:.2f}" for low, high in spread),
        )
    console.print(table)


if __name__ == "__main__":
    main()
